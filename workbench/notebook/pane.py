"""One tab of the explorer: a table, the way that led to it, and where the chosen row leads on.

A way is a list of steps; each step is a question to a moment. Refuses to know how a question is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd

from workbench.notebook.still import replace_children
from workbench.notebook.table import Table
from workbench.notebook.text import inert, when
from workbench.notebook.work import Work

if TYPE_CHECKING:
    from workbench.case import Moment
    from workbench.progress import Progress

__all__ = ["LEADS", "Pane", "Step", "process_of"]

_PIDS = ("pid", "PID", "Pid")
_NAMES = ("name", "COMM", "Process Name", "Process", "process")
_STRINGS = 200_000


@dataclass(frozen=True, slots=True)
class Step:
    """A question that a table answers.

    Attributes
    ----------
    words : str
        What it is called on the page; may hold a guest's text.
    ask : callable
        Asks a moment; gets a `Progress`.
    process : tuple of (int, str), optional
        The process that it is about.
    """

    words: str
    ask: Callable[[Moment, Progress], pd.DataFrame]
    process: tuple[int, str] | None = None


LEADS: dict[str, Callable[[Moment, int, Progress], pd.DataFrame]] = {
    "Maps": lambda moment, pid, _: moment.memory.process(pid).maps(),
    "Open files": lambda moment, pid, progress: moment.vol("linux.lsof.Lsof", pid=[pid], progress=progress),
    "Environment": lambda moment, pid, _: moment.environment(pid),
    "Memory strings": lambda moment, pid, _: moment.memory.process(pid).strings(most=_STRINGS),
}
"""Where a process leads, by the words of the button."""


def process_of(row: pd.Series | None) -> tuple[int, str] | None:
    """Return the process that a row is about, as its number and name, or None."""
    if row is None:
        return None
    number = next((row[each] for each in _PIDS if each in row.index), None)
    if number is None or pd.isna(number):
        return None
    name = next((row[each] for each in _NAMES if each in row.index and not pd.isna(row[each])), "")
    return int(number), str(name)


class Pane(ipywidgets.VBox):  # type: ignore[misc]
    """A table with a way to it.

    Parameters
    ----------
    work : Work
        Where its questions run.
    moment : callable
        Gives the moment that is looked at.
    steps : sequence of Step
        The way that it begins with; may be empty.
    """

    def __init__(self, work: Work, moment: Callable[[], Moment], *steps: Step) -> None:
        self._work, self._moment = work, moment
        self.way: list[Step] = list(steps)
        self._shown: tuple[Any, ...] = ()
        self._told: list[Step] = []
        self.table = Table(tree="depth")
        self.table.observe(lambda _change: self._offer(), "selected")
        self.table.on_open(self._opened)
        self._crumbs = ipywidgets.HBox(layout={"flex_flow": "row wrap"})
        self._leads = [self._lead(words) for words in LEADS]
        leads = ipywidgets.HBox(self._leads, layout={"flex_flow": "row wrap"})
        super().__init__([self._crumbs, self.table, leads])
        self._offer()

    @property
    def process(self) -> tuple[int, str] | None:
        """The process that the buttons lead on from: the chosen row's, or the one that the table is about."""
        return process_of(self.table.row) or (self.way[-1].process if self.way else None)

    def fill(self) -> None:
        """Ask the last step at the present moment, unless its answer is shown already."""
        if not self.way:
            return
        step, moment = self.way[-1], self._moment()
        asked = (moment.id, *map(id, self.way))
        if asked == self._shown:
            return

        def done(frame: pd.DataFrame) -> None:
            self.table.label = inert(f"{step.words} at {when(moment.record.time_ns)}", 200)
            self.table.frame = frame
            self._shown = asked
            self._offer()

        def failed() -> None:
            done(pd.DataFrame())
            self._shown = ()

        self._walked()
        self._work.run(step.words, lambda progress: step.ask(moment, progress), done, failed)

    def go(self, *steps: Step) -> None:
        """Show another way."""
        self.way = list(steps)
        self.fill()

    def lead(self, words: str) -> None:
        """Lead on from the process that is chosen."""
        process = self.process
        if process is None:
            return
        pid, name = process
        step = Step(
            f"{words} of {pid} {name}".rstrip(), lambda moment, progress: LEADS[words](moment, pid, progress), process
        )
        last = self.way[-1].process if self.way else None
        self.go(*(self.way[:-1] if last == process else self.way), step)

    def _opened(self, row: pd.Series) -> None:
        if process_of(row) is not None and (not self.way or self.way[-1].process is None):
            self.lead("Maps")

    def _lead(self, words: str) -> ipywidgets.Button:
        button = ipywidgets.Button(description=words, tooltip=f"{words} of the chosen process", disabled=True)
        button.on_click(lambda _button: self.lead(words))
        return button

    def _offer(self) -> None:
        for button in self._leads:
            button.disabled = self.process is None

    def _walked(self) -> None:
        """Write the way as buttons, the last of them where one is."""
        if self.way == self._told:
            return
        self._told, crumbs = list(self.way), []
        for at, step in enumerate(self.way):
            crumb = ipywidgets.Button(
                description=inert(step.words, 60), tooltip="Back to here", layout={"width": "auto"}
            )
            crumb.disabled = at == len(self.way) - 1
            crumb.on_click(lambda _button, at=at: self.go(*self.way[: at + 1]))
            crumbs.append(crumb)
        replace_children(self._crumbs, crumbs if len(crumbs) > 1 else [])
