"""The tables of an experiment: its runs, and what they say of each variant. Pure.

Refuses to leave out what failed: a run without a value has its outcome, and each row of the summary says how many
failed and hung beside how many were counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from workbench.errors import UsageError
from workbench.experiment.document import Document, Run
from workbench.experiment.statistics import compare, holm, spread

__all__ = ["FIRST", "LAST", "SECONDS", "chosen_measures", "numbers_of", "runs_frame", "summary_frame", "variants_of"]

SECONDS = "seconds"
"""The time of the work, which is compared where nothing else was measured."""
FIRST = ("position", "variant", "repeat", "outcome", "step", "error", SECONDS)
LAST = ("memory", "guest", "after")
_COLUMNS = ("measure", "variant", "n", "failed", "hung", "median", "q1", "q3", "iqr", "least", "most")
_COMPARED = ("difference", "shift", "cliffs_delta", "p", "p_holm", "smallest_p", "test")


def runs_frame(document: Document) -> pd.DataFrame:
    """Return one row per run, in the order in which they were begun.

    Returns
    -------
    DataFrame
        position, repeat (int64), variant, outcome, step, error (str), seconds (float64), and each measure: float64,
        or object where it gave texts; then memory, guest, after (str).
    """
    names = _measured(document)
    rows = [
        (
            *(run.position, run.variant, run.repeat, run.outcome, run.step, run.error),
            math.nan if run.seconds is None else run.seconds,
            *(run.values.get(name, math.nan) for name in names),
            *(run.memory, run.guest, run.after),
        )
        for run in document.runs
    ]
    return pd.DataFrame(rows, columns=[*FIRST, *names, *LAST])


def summary_frame(document: Document, measures: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row per measure and variant, the control first.

    Parameters
    ----------
    measures : sequence of str, optional
        By default all that gave numbers; the seconds of the work where nothing was measured.

    Returns
    -------
    DataFrame
        measure, variant (str), n, failed, hung (int64: values, failed runs, hung runs), median, q1, q3, iqr, least,
        most (float64); against the control, NaN in its own row: difference (of medians), shift (Hodges and Lehmann),
        cliffs_delta, p, p_holm (corrected for all tests of this table), smallest_p (that so many values can give),
        test (str). As `statistics.Comparison` says.

    Raises
    ------
    UsageError
        If no run gave numbers of this name.
    """
    chosen = chosen_measures(document, measures)
    rows = [_row(document, name, variant) for name in chosen for variant in variants_of(document)]
    frame = pd.DataFrame(rows, columns=[*_COLUMNS, *_COMPARED])
    frame["p_holm"] = holm([float(each) for each in frame["p"]])
    return frame


def chosen_measures(document: Document, measures: Sequence[str] | None = None) -> list[str]:
    """Return the measures of a summary.

    Parameters
    ----------
    measures : sequence of str, optional
        As for `summary_frame`.

    Raises
    ------
    UsageError
        If no run gave numbers of this name.
    """
    known = [name for name in [*_measured(document), SECONDS] if _numbers(document.runs, name)]
    chosen = [name for name in known if name != SECONDS] or known if measures is None else list(measures)
    if not set(chosen) <= set(known):
        raise UsageError("no run gave numbers of this name", asked=chosen, measured=known)
    return chosen


def variants_of(document: Document) -> list[str]:
    """Return the names of the variants, the control first."""
    return [document.control, *(name for name in document.variants if name != document.control)]


def numbers_of(document: Document, measure: str, variant: str) -> list[float]:
    """Return the numbers that the runs of a variant gave."""
    return _numbers(document.runs_of(variant), measure)


def _row(document: Document, measure: str, variant: str) -> dict[str, object]:
    values = numbers_of(document, measure, variant)
    ended = [run.outcome for run in document.runs_of(variant)]
    told = spread(values)
    row: dict[str, object] = {"measure": measure, "variant": variant, "n": told.n, "test": ""}
    row |= {"failed": ended.count("failed"), "hung": ended.count("hung"), "median": told.median, "iqr": told.iqr}
    row |= {"q1": told.q1, "q3": told.q3, "least": told.least, "most": told.most}
    if variant != document.control:
        found = compare(numbers_of(document, measure, document.control), values)
        row |= {"difference": found.difference, "shift": found.shift, "cliffs_delta": found.delta}
        row |= {"p": found.p, "smallest_p": found.smallest, "test": found.test}
    return {name: row.get(name, math.nan) for name in (*_COLUMNS, *_COMPARED)}


def _measured(document: Document) -> list[str]:
    """Return the names of everything that any run gave, in order of the first; those that never did too."""
    names = [name for run in document.runs for name in run.values]
    never = [name for name in document.measures if not any(each.split(".")[0] == name for each in names)]
    return list(dict.fromkeys([*names, *never]))


def _numbers(runs: Sequence[Run], measure: str) -> list[float]:
    told = [
        run.seconds if measure == SECONDS and measure not in run.values else run.values.get(measure) for run in runs
    ]
    return [float(each) for each in told if isinstance(each, int | float)]
