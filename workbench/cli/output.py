"""Where results, progress and errors go: results to standard output, everything else to standard error.

Refuses to print what a guest made before it was made inert, and to draw anything where there is no terminal.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from workbench.cli.table import Column, plain_lines, rich_table
from workbench.cli.text import inert
from workbench.errors import WorkbenchError
from workbench.progress import Progress, ProgressEvent

__all__ = ["Output"]

_NARROW = 110
_MANY = 500
"""Rows from which on a table is not worth its layout."""


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


class _Console(Console):
    """A console that leaves it to `main` what becomes of a command whose output nobody reads."""

    def on_broken_pipe(self) -> None:
        """Let BrokenPipeError go on, where rich would end the process."""
        raise  # noqa: PLE0704  (rich calls this while it handles that error)


class Output:
    """The two streams of a command.

    Parameters
    ----------
    as_json : bool
        Results as one JSON document (or one a line while something runs), errors as JSON too.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = _Console(highlight=False)
        self._err = _Console(stderr=True, highlight=False)

    @property
    def narrow(self) -> bool:
        """Whether a table has to do with the columns that matter most."""
        return self._out.is_terminal and self._out.width < _NARROW

    def document(self, value: object) -> None:
        """Print a JSON document on one line."""
        print(json.dumps(_plain(value), sort_keys=True), flush=True)

    def say(self, text: str) -> None:
        """Print lines of our own making; parts that a guest made must have been through `inert`."""
        self._out.print(Text(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line to standard error; nothing where that is read by a program."""
        if not self.as_json:
            self._err.print(Text(text), soft_wrap=True)

    def ask(self, question: str) -> str | None:
        """Return what a person types, or None where there is none or nothing is said."""
        if self.as_json or not sys.stdin.isatty():
            return None
        self._err.print(Text(question), end="")
        line = sys.stdin.readline()
        return line.strip() or None

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]], *, longest: int = 200) -> None:
        """Print a table; every cell is made inert and cut at `longest`."""
        cells = [[inert(cell, longest) for cell in row] for row in rows]
        if self._out.is_terminal and len(rows) < _MANY:
            self._out.print(rich_table(columns, cells))
            return
        for line in plain_lines(columns, cells):
            print(line)
        sys.stdout.flush()

    def error(self, error: WorkbenchError) -> None:
        """Print an error: what happened, then the cure."""
        if self.as_json:
            told = {"error": type(error).__name__, "message": error.message, "cure": error.cure, "facts": error.facts}
            print(json.dumps(_plain(told), sort_keys=True), file=sys.stderr, flush=True)
            return
        facts = ", ".join(f"{inert(name)} {inert(value, 300)}" for name, value in error.facts.items())
        self.note(f"workbench: {inert(error.message, 1000)}" + (f" ({facts})" if facts else ""))
        if error.cure:
            self.note(f"  {inert(error.cure, 1000)}")

    def fault(self, error: BaseException) -> None:
        """Print a fault of ours, with what to do about it."""
        import traceback

        lines = "".join(traceback.format_exception(error))
        cure = "This is a fault in the workbench. Please report it with these lines and what `workbench doctor` says."
        if self.as_json:
            told = {"error": "fault", "message": repr(error), "cure": cure, "facts": {"traceback": lines}}
            print(json.dumps(told, sort_keys=True), file=sys.stderr, flush=True)
            return
        for line in [*lines.splitlines(), cure]:
            self.note(inert(line, 1000))

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show progress on standard error where that is a terminal; notes are always shown."""
        if self.as_json or not self._err.is_terminal:
            yield self._notes
            return
        from workbench.cli.bars import bars

        with bars(self._err) as advance:

            def show(event: ProgressEvent) -> None:
                self._notes(event)
                advance(event)

            yield show

    def _notes(self, event: ProgressEvent) -> None:
        if event.note:
            self.note(f"{inert(event.task)}: {inert(event.note, 1000)}")
