"""Progress bars on a terminal, from progress events. They vanish when the work is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from workbench.cli.text import inert
from workbench.progress import Progress as Listener
from workbench.progress import ProgressEvent

__all__ = ["bars"]

_TITLE = 40


class _Amount(ProgressColumn):
    """Done and to do, in the unit that the work counts in."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = DownloadColumn(binary_units=True)

    def render(self, task: Task) -> Text:
        if task.fields["unit"] == "bytes":
            return self._bytes.render(task)
        total = "" if task.total is None else f"/{task.total:.0f}"
        return Text(f"{task.completed:.0f}{total} {inert(task.fields['unit'], _TITLE)}")


@contextlib.contextmanager
def bars(console: Console) -> Iterator[Listener]:
    """Yield a listener that draws a bar for each task."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), _Amount())
    with Progress(*columns, console=console, transient=True) as drawn:
        tasks: dict[str, TaskID] = {}

        def advance(event: ProgressEvent) -> None:
            if not event.total and not event.done:  # a note alone
                return
            if event.task not in tasks:
                tasks[event.task] = drawn.add_task(inert(event.task, _TITLE), unit=event.unit)
            drawn.update(tasks[event.task], completed=event.done, total=event.total or None)

        yield advance
