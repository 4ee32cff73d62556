"""Where results, progress and errors go, and how text that a guest made is shown.

Everything that comes from a guest or a case is inert here: control characters, direction overrides and markup are shown
as escapes, long text is cut. Refuses to print anything else.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from workbench.errors import WorkbenchError
from workbench.progress import Progress, ProgressEvent

__all__ = ["Output", "inert"]

_LONGEST = 200
_DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def inert(value: object, longest: int = _LONGEST) -> str:
    """Return text that does nothing to a terminal: control and format characters escaped, cut at `longest`."""
    text = str(value)
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text)} characters)"
    return "".join(_escape(char) if unicodedata.category(char) in _DANGEROUS else char for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _plain(value: object) -> Any:
    """Return a JSON value: what JSON does not know becomes text, what is not there becomes null."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    text = str(value)
    return None if text in ("<NA>", "NaT") else text


class Output:
    """The two streams of a command.

    Parameters
    ----------
    as_json : bool
        Results as one JSON document (or one a line while something runs), errors as JSON too.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        width = None if sys.stdout.isatty() else 160
        self._out = Console(width=width, highlight=False, soft_wrap=not sys.stdout.isatty())
        self._err = Console(stderr=True, highlight=False)

    def document(self, value: object) -> None:
        """Print a JSON document on one line."""
        print(json.dumps(_plain(value), sort_keys=True), flush=True)

    def say(self, text: str) -> None:
        """Print lines of our own making; parts that a guest made must have been through `inert`."""
        self._out.print(Text(text))

    def note(self, text: str) -> None:
        """Print a line to standard error."""
        self._err.print(Text(text))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()) -> None:
        """Print a table; every cell is made inert. `numbers` names the columns that are set flush right."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(inert(cell)) for cell in row))
        self._out.print(table)

    def error(self, error: WorkbenchError) -> None:
        """Print an error: what happened, then the cure."""
        if self.as_json:
            told = {"error": type(error).__name__, "message": error.message, "cure": error.cure, "facts": error.facts}
            print(json.dumps(_plain(told), sort_keys=True), file=sys.stderr, flush=True)
            return
        facts = ", ".join(f"{inert(name)} {inert(value)}" for name, value in error.facts.items())
        self.note(f"workbench: {inert(error.message, 2000)}" + (f" ({facts})" if facts else ""))
        if error.cure:
            self.note(f"  {inert(error.cure, 2000)}")

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show progress on standard error where that is a terminal; notes are always shown."""
        if self.as_json or not sys.stderr.isatty():
            yield self._notes
            return
        with Bar(console=self._err, transient=True) as bar:
            tasks: dict[str, Any] = {}

            def show(event: ProgressEvent) -> None:
                self._notes(event)
                if event.task not in tasks:
                    tasks[event.task] = bar.add_task(inert(event.task))
                bar.update(tasks[event.task], completed=event.done, total=event.total or None)

            yield show

    def _notes(self, event: ProgressEvent) -> None:
        if event.note and not self.as_json:
            self.note(inert(f"{event.task}: {event.note}"))
