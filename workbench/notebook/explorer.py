"""What a guest was doing at a moment: processes, sockets, modules, open files, the kernel's log, and any question.

Each tab is filled when it is opened; another moment refills the open one only. Questions run off the main thread.
Refuses to hold logic of its own: every table is an answer of `workbench.case`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd
import traitlets

from workbench.notebook.asking import Asking
from workbench.notebook.family import as_tree
from workbench.notebook.pane import Pane, Step
from workbench.notebook.still import STATIC, Still
from workbench.notebook.text import markup
from workbench.notebook.work import Work

if TYPE_CHECKING:
    from workbench.case import Case, Moment
    from workbench.notebook.table import Table
    from workbench.progress import Progress

__all__ = ["TABS", "Explorer"]

TABS: dict[str, Callable[[Moment, Progress], pd.DataFrame]] = {
    "Processes": lambda moment, progress: as_tree(moment.vol("workbench.processes", progress=progress)),
    "Sockets": lambda moment, progress: moment.vol("linux.sockstat.Sockstat", progress=progress),
    "Modules": lambda moment, progress: moment.vol("linux.lsmod.Lsmod", progress=progress),
    "Open files": lambda moment, progress: moment.vol("linux.lsof.Lsof", progress=progress),
    "Kernel log": lambda moment, progress: moment.vol("linux.kmsg.Kmsg", progress=progress),
}
"""What each tab asks, but for the last, which asks anything."""
_ASK = "Ask"
_PATIENCE = 120.0
"""Seconds that a static report waits for an answer."""


class Explorer(Still, ipywidgets.VBox):  # type: ignore[misc]
    """A moment's memory in tabs.

    Parameters
    ----------
    moment : Moment

    Attributes
    ----------
    moment : Moment
        What is looked at; another one may be set.
    tabs : ipywidgets.Tab
    work : Work
        Where the questions run.
    """

    moment = traitlets.Any()

    def __init__(self, moment: Moment) -> None:
        self.work = Work(cancel=self._end)
        self._listing = Work(cancel=self._end)
        self._panes = {name: Pane(self.work, lambda: self.moment, Step(name, ask)) for name, ask in TABS.items()}
        self._answers = Pane(self.work, lambda: self.moment)
        self.asking = Asking(lambda name, arguments: self.ask(name, **arguments), self.work.tell)
        asked = ipywidgets.VBox([self._listing, self.asking, self._answers])
        self.tabs = ipywidgets.Tab([*self._panes.values(), asked], titles=(*self._panes, _ASK))
        super().__init__([self.work, self.tabs], moment=moment)
        self.tabs.observe(lambda _change: self._fill(), "selected_index")
        self._fill()

    def __repr__(self) -> str:
        return f"<Explorer of {self.moment!r}, {self.title}>"

    def still(self) -> str:
        """Return the open tab's table as HTML; a static report waits for its answer."""
        if os.environ.get(STATIC):
            self.work.wait(_PATIENCE)
        return f"<p>{markup(repr(self))} {markup(self.work.words, 600)}</p>{self.table.still()}"

    @property
    def title(self) -> str:
        """The name of the open tab."""
        return str(self.tabs.titles[self.tabs.selected_index or 0])

    @property
    def pane(self) -> Pane:
        """The open tab's table and the way to it."""
        return self._panes.get(self.title, self._answers)

    @property
    def table(self) -> Table:
        """The open tab's table."""
        return self.pane.table

    def show(self, title: str) -> None:
        """Open a tab by its name."""
        self.tabs.selected_index = self.tabs.titles.index(title)

    def process(self, pid: int, what: str = "Maps") -> None:
        """Show the "Maps", "Open files", "Environment" or "Memory strings" of a process."""
        self.show("Processes")
        pane = self.pane
        root = pane.way[0]
        pane.way = [root, Step(f"Process {pid}", root.ask, (pid, ""))]
        pane.table.selected = -1
        pane.lead(what)

    def ask(self, plugin: str, **arguments: Any) -> None:
        """Ask a plugin, or a question of ours, and show its answer in the last tab."""
        self.show(_ASK)
        told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        step = Step(
            f"{plugin} {told}".rstrip(), lambda moment, progress: moment.vol(plugin, progress=progress, **arguments)
        )
        self._answers.go(step)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the open tab is filled; tell whether that was in time (seconds)."""
        return self.work.wait(timeout) and self._listing.wait(timeout)

    @traitlets.observe("moment")
    def _moved(self, change: Any) -> None:
        if change["old"] not in (None, traitlets.Undefined):
            self._fill()

    def _fill(self) -> None:
        self.pane.fill()
        if self.title == _ASK and not self.asking.known:
            self._listing.run("What can be asked", lambda _progress: self._plugins(), self.asking.know)

    def _plugins(self) -> pd.DataFrame:
        case: Case = self.moment.case
        return pd.concat([case.plugins("workbench."), case.plugins()], ignore_index=True)

    def _end(self) -> None:
        """End the question that is being answered."""
        self.moment.case.analyst.close()
