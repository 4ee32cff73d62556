"""Variants of an experiment side by side: what was measured, and in tabs what changed in the clones of each.

Tabs are asked when they are opened, off the kernel's main thread. Everything shown is what the experiment answers.
Refuses to run anything again, and to ask for a tab that nobody looks at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd
import traitlets

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.measures import Measures
from workbench.notebook.repr_results import experiment_html
from workbench.notebook.still import STATIC, Still
from workbench.notebook.table import Table
from workbench.notebook.text import inert, markup
from workbench.notebook.work import Work
from workbench.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from workbench.case import Diff, Experiment

__all__ = ["TABS", "Variants"]

_UNSEEN = ("guest", "before", "after")
_LINES = 2000


def _console(experiment: Experiment, variant: str) -> pd.DataFrame:
    """Return what the consoles of a variant's runs showed: run (int64), line (str)."""
    runs = experiment.runs
    repeats = runs.loc[runs["variant"] == variant, "repeat"].tolist()
    rows = [(each, line) for each in repeats for line in experiment.console(variant, each).splitlines()[-_LINES:]]
    return pd.DataFrame(rows, columns=["run", "line"])


TABS: dict[str, Callable[[Experiment, str], pd.DataFrame]] = {
    "files": lambda experiment, variant: experiment.files(variant),
    "processes": lambda experiment, variant: experiment.processes(variant),
    "kernel log": lambda experiment, variant: experiment.kernel_log(variant),
    "console": _console,
}
"""What each tab asks an experiment of a variant; "runs" stands before them."""
_RUNS = "runs"


class _Side(ipywidgets.VBox):  # type: ignore[misc]
    """One tab: a table per variant, beside each other where the page is wide enough."""

    def __init__(self, name: str, variants: list[str]) -> None:
        self.filled = False
        self.tables = {each: Table(label=f"{each}: {name}") for each in variants}
        for shown in self.tables.values():
            shown.layout = ipywidgets.Layout(flex="1 1 26em", min_width="0")
        super().__init__([ipywidgets.HBox(list(self.tables.values()), layout={"flex_flow": "row wrap"})])

    def show(self, frames: dict[str, pd.DataFrame]) -> None:
        """Show what each variant's runs answered."""
        for name, frame in frames.items():
            self.tables[name].frame = frame
        self.filled = True

    def still(self) -> str:
        """Return the tables as HTML."""
        return "".join(each.still() for each in self.tables.values())


class Variants(Still, ipywidgets.VBox):  # type: ignore[misc]
    """An experiment's variants, compared.

    Parameters
    ----------
    experiment : Experiment
        As `case.experiment` gives it, or `case.open_experiment`.

    Attributes
    ----------
    selected : int
        The chosen run, by its position in the order of all runs (from 1); 0 for none. Signs and the runs' table choose.
    tabs : ipywidgets.Tab
        "runs", "files", "processes", "kernel log", "console".

    Examples
    --------
    >>> Variants(case.open_experiment("5a0e"))  # doctest: +SKIP
    """

    selected = traitlets.Int(0)

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._turns, self._asked = threading.Lock(), ""
        self.work = Work(cancel=experiment.case.analyst.close)
        self.measures = Measures(experiment)
        self.runs = Table(experiment.runs.drop(columns=list(_UNSEEN), errors="ignore"), label=_RUNS)
        self.sides = {name: _Side(name, self._ordered()) for name in TABS}
        self.tabs = ipywidgets.Tab([self.runs, *self.sides.values()], titles=[_RUNS, *TABS], selected_index=0)
        super().__init__([self.measures, self.work, self.tabs])
        traitlets.link((self, "selected"), (self.measures, "selected"))
        self.runs.observe(self._row_chosen, "selected")
        self.tabs.observe(lambda _change: self._fill(), "selected_index")

    def __repr__(self) -> str:
        return f"<Variants {inert(', '.join(self._ordered()), 200)}, {self.title}>"

    @property
    def title(self) -> str:
        """The name of the open tab."""
        return str(self.tabs.titles[self.tabs.selected_index or 0])

    @property
    def run(self) -> pd.Series | None:
        """The chosen run, a row of `Experiment.runs`; None without one."""
        found = self.experiment.runs
        chosen = found[found["position"] == self.selected]
        return chosen.iloc[0] if len(chosen) else None

    @property
    def diff(self) -> Diff:
        """What changed in the chosen run: `DiffView(variants.diff.a, variants.diff.b)` looks through it.

        Raises
        ------
        UsageError
            If no run is chosen, or it was not captured.
        """
        run = self.run
        if run is None:
            raise UsageError("no run is chosen", cure="Choose a dot, or a row of the runs.")
        found: Diff = self.experiment.diff(str(run["variant"]), int(run["repeat"]))
        return found

    def turn_to(self, name: str) -> None:
        """Open a tab: "runs", "files", "processes", "kernel log", "console"; asks again for what failed.

        Raises
        ------
        UsageError
            If there is no such tab.
        """
        names = [_RUNS, *TABS]
        if name not in names:
            raise UsageError(f"no tab {name!r}", tabs=names)
        self.tabs.selected_index = names.index(name)
        self._fill()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the open tab is filled; tell whether that was in time (seconds)."""
        return self.work.wait(timeout)

    def still(self) -> str:
        """Return the picture, what was measured in words, and the tabs that were asked for."""
        if os.environ.get(STATIC):
            self.wait()
        try:
            told = experiment_html(self.experiment)
        except WorkbenchError as error:
            told = f"<p>{markup(error, 600)}</p>"
        sides = "".join(each.still() for each in self.sides.values() if each.filled)
        return told + self.measures.still() + sides

    def _ordered(self) -> list[str]:
        """Return the variants, the control first."""
        control = self.experiment.document.control
        return [control, *(each for each in self.experiment.variants if each != control)]

    def _row_chosen(self, _change: Any) -> None:
        row = self.runs.row
        self.selected = 0 if row is None else int(row["position"])

    @traitlets.observe("selected")
    def _chosen(self, _change: Any) -> None:
        found = [at for at, each in enumerate(self.experiment.runs["position"]) if each == self.selected]
        self.runs.selected = found[0] if found else -1

    def _fill(self) -> None:
        name = self.title
        side = self.sides.get(name)
        if side is None or side.filled or (self._asked == name and self.work.running):
            return
        self._asked = name
        self.work.run(f"Asking for {name}", lambda progress: self._ask(name, progress), side.show)

    def _ask(self, name: str, progress: Progress) -> dict[str, pd.DataFrame]:
        """Ask for a tab, one at a time: what is no longer wanted leaves before its turn."""
        with self._turns:
            found = {}
            for at, variant in enumerate(self._ordered()):
                progress(ProgressEvent(variant, at, len(self.experiment.variants), "variants"))
                found[variant] = _answer(TABS[name], self.experiment, variant)
            return found


def _answer(ask: Callable[[Experiment, str], pd.DataFrame], experiment: Experiment, variant: str) -> pd.DataFrame:
    """Return what is known of a variant, with what could not be asked in `attrs["error"]`."""
    try:
        frame = ask(experiment, variant)
    except WorkbenchError as error:
        frame = pd.DataFrame()
        frame.attrs["error"] = str(error)
        return frame
    failed = frame.attrs.get("failed") or {}
    if failed:
        frame.attrs["error"] = "; ".join(f"run {number}: {why}" for number, why in failed.items())
    return frame
