"""What an experiment measured: each run a dot, a row per variant, medians and quartiles, and the test in words.

Numbers and tests are the experiment's own tables (`Experiment.runs`, `summary`). Refuses to leave out a run that gave
no number: it is a cross beside the scale, and is counted in words.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import anywidget
import pandas as pd
import traitlets

from workbench.notebook.front import module, style
from workbench.notebook.still import Still
from workbench.notebook.text import inert, markup, table, value_words

if TYPE_CHECKING:
    from workbench.case import Experiment

__all__ = ["MOST_MEASURES", "Measures", "measures_of", "test_words"]

MOST_MEASURES = 12
_MOST_RUNS = 400
"""Runs of a variant that are drawn."""
_NAME, _WHY = 60, 160


def test_words(row: pd.Series, control: str) -> str:
    """Return what a row of the summary says of its variant against the control, as a sentence.

    Parameters
    ----------
    row : Series
        A row of `Experiment.summary`.
    control : str
    """
    if not row["test"]:
        return "This is the control." if row["variant"] == control else "Too few values to be compared."
    difference = float(row["difference"])
    way = (
        f"{value_words(abs(difference))} {'lower' if difference < 0 else 'higher'}"
        if difference
        else "no higher or lower"
    )
    shift, delta, p, p_holm, least = (
        value_words(float(row[each])) for each in ("shift", "cliffs_delta", "p", "p_holm", "smallest_p")
    )
    told = f"The median is {way} than that of {control}; shift {shift}, Cliff's delta {delta}. "
    told += f"p = {p} ({row['test']}), {p_holm} corrected for all tests"
    return f"{told}; so few values can give none below {least}."


def measures_of(experiment: Experiment) -> list[dict[str, Any]]:
    """Return the panels of an experiment, every text inert.

    Returns
    -------
    list of dict
        name, least, most (of all values), rows: per variant, the control first, name, control (bool), counts, spread,
        words (str), median, q1, q3 (float, None where there is no value), runs: position, repeat (int), value (float or
        None), words (str).
    """
    return _panels(experiment.summary(), experiment.runs, experiment.document.control)


def _panels(summary: pd.DataFrame, runs: pd.DataFrame, control: str) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(summary["measure"]))[:MOST_MEASURES]
    return [_panel(summary[summary["measure"] == name], runs, name, control) for name in names]


def _panel(summary: pd.DataFrame, runs: pd.DataFrame, name: str, control: str) -> dict[str, Any]:
    rows = [_row(each, runs[runs["variant"] == each["variant"]], name, control) for _, each in summary.iterrows()]
    values = [run["value"] for row in rows for run in row["runs"] if run["value"] is not None]
    return {"name": inert(name, _NAME), "least": min(values), "most": max(values), "rows": rows}


def _row(told: pd.Series, runs: pd.DataFrame, name: str, control: str) -> dict[str, Any]:
    counts = f"{told['n']} value{'' if told['n'] == 1 else 's'}" + "".join(
        f", {told[each]} {each}" for each in ("failed", "hung") if told[each]
    )
    spread = f"median {value_words(told['median'])}, quartiles {value_words(told['q1'])} to {value_words(told['q3'])}"
    spread += f", all {value_words(told['least'])} to {value_words(told['most'])}"
    return {
        "name": inert(told["variant"], _NAME),
        "control": bool(told["variant"] == control),
        "counts": counts,
        "spread": spread if told["n"] else "no value",
        "words": inert(test_words(told, control), 600),
        **{each: _finite(told[each]) for each in ("median", "q1", "q3")},
        "runs": [_run(run, name) for _, run in runs.head(_MOST_RUNS).iterrows()],
    }


def _run(run: pd.Series, name: str) -> dict[str, Any]:
    value = _finite(run.get(name))
    said = f"run {run['repeat']} of {run['variant']}: {'no value' if value is None else value_words(value)}"
    if run["outcome"] != "ok":
        said += f", {run['outcome']}"
    if run["error"] or run["step"]:
        said += f": {run['error'] or run['step']}"
    words = inert(said, _WHY)
    return {"position": int(run["position"]), "repeat": int(run["repeat"]), "value": value, "words": words}


def _finite(value: Any) -> float | None:
    """Return a number, None for anything else: a measure may give texts in some runs."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


class Measures(Still, anywidget.AnyWidget):
    """The panels, in a page.

    Parameters
    ----------
    experiment : Experiment

    Attributes
    ----------
    selected : int
        The chosen run, by its position in the order of all runs (from 1); 0 for none.
    """

    _esm = module("base", "measures")
    _css = style("base", "measures")

    panels = traitlets.List(traitlets.Dict()).tag(sync=True)
    untold = traitlets.Unicode("").tag(sync=True)
    selected = traitlets.Int(0).tag(sync=True)

    def __init__(self, experiment: Experiment) -> None:
        summary, runs = experiment.summary(), experiment.runs
        self._positions = {0, *runs["position"].tolist()}
        count = summary["measure"].nunique()
        untold = f"{count - MOST_MEASURES} further measures: experiment.summary()" if count > MOST_MEASURES else ""
        panels = _panels(summary, runs, experiment.document.control)
        super().__init__(panels=panels, untold=untold if count else "No run gave a number.")

    def __repr__(self) -> str:
        return f"<Measures: {', '.join(each['name'] for each in self.panels) or 'none'}>"

    def still(self) -> str:
        """Return the panels as tables of words."""
        head = ("variant", "values", "spread", "test")
        parts = [
            f"<p><strong><bdi>{markup(each['name'])}</bdi></strong></p>{_words(each, head)}" for each in self.panels
        ]
        return "".join(parts) + (f"<p>{markup(self.untold)}</p>" if self.untold else "")

    @traitlets.validate("selected")
    def _a_run(self, proposal: Any) -> int:
        return proposal["value"] if proposal["value"] in self._positions else 0


def _words(panel: dict[str, Any], head: tuple[str, ...]) -> str:
    rows: list[tuple[object, ...]] = [
        (row["name"], row["counts"], row["spread"], row["words"]) for row in panel["rows"]
    ]
    return table(rows, head)
