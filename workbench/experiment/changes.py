"""What a variant's runs changed, counted over its repeats: what all of them did, and what the control did too.

A run's clone as it ended is compared with the moment, which it was as it began. Refuses to take one run's word for the
variant's: every row says in how many of how many runs it was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from workbench.errors import UsageError, WorkbenchError
from workbench.experiment.document import Document, Run

__all__ = ["asked", "counted", "files_of", "kernel_lines_of", "pages_of", "processes_of"]

Ask = Callable[[Run], pd.DataFrame]


def counted(document: Document, variant: str, ask: Ask, columns: Sequence[str]) -> pd.DataFrame:
    """Return what was seen in a variant's runs, and in how many.

    Parameters
    ----------
    ask : callable
        Gives a run's rows.
    columns : sequence of str
        What makes two rows of two runs the same.

    Returns
    -------
    DataFrame
        `columns` (str), runs (int64: in how many it was seen), of (int64: how many could be asked), always (bool),
        control (int64: in how many runs of the control it was seen; 0 in the control's own answer). What all runs have
        first. `attrs["failed"]`: why runs could not be asked, by their number.

    Raises
    ------
    UsageError
        If no run of it was captured, or there is no such variant.
    WorkbenchError
        If none could be asked.
    """
    own, failed = asked(document, variant, ask)
    other: dict[int, pd.DataFrame] = {}
    if variant != document.control and any(each.after for each in document.runs_of(document.control)):
        other, more = asked(document, document.control, ask)
        failed |= {f"control {number}": words for number, words in more.items()}
    seen, control = _count(own.values(), columns, "runs"), _count(other.values(), columns, "control")
    frame = seen.merge(control, on=list(columns), how="left")
    frame["control"] = frame["control"].fillna(0).astype("int64")
    frame.insert(len(columns) + 1, "of", len(own))
    frame.insert(len(columns) + 2, "always", frame["runs"] == len(own))
    frame = frame.sort_values(["runs", *columns], ascending=[False, *[True] * len(columns)], ignore_index=True)
    frame.attrs["failed"] = failed
    return frame


def files_of(diff: Any) -> pd.DataFrame:
    """Return the changed files of one run: path, change."""
    return pd.DataFrame(diff.files()[["path", "change"]])


def processes_of(diff: Any) -> pd.DataFrame:
    """Return the processes of one run that came, went or changed: name, change, changed."""
    return pd.DataFrame(diff.processes()[["name", "change", "changed"]])


def kernel_lines_of(diff: Any) -> pd.DataFrame:
    """Return the lines of one run that came into the kernel's log: level, line."""
    found = diff.vol("linux.kmsg.Kmsg")
    return pd.DataFrame(found.loc[found["change"] == "came", ["level", "line"]])


def pages_of(diff: Any) -> pd.DataFrame:
    """Return how many pages of one run changed, by owner: owner, pages."""
    found: pd.DataFrame = diff.pages().groupby("owner").size().rename("pages").reset_index()
    return found


def asked(document: Document, variant: str, ask: Ask) -> tuple[dict[int, pd.DataFrame], dict[str, str]]:
    """Return what each captured run of a variant answers, by its repeat, and why others do not.

    Raises
    ------
    UsageError
        If no run of it was captured, or there is no such variant.
    WorkbenchError
        If none could be asked.
    """
    runs = [run for run in document.runs_of(variant) if run.after]
    if not runs:
        cure = "Ask for keep='captures'; failed runs may have none."
        raise UsageError(f"no run of {variant!r} was captured", cure=cure)
    answers: dict[int, pd.DataFrame] = {}
    failed: dict[str, str] = {}
    last: WorkbenchError | None = None
    for run in runs:
        try:
            answers[run.repeat] = ask(run)
        except WorkbenchError as error:
            failed[str(run.repeat)], last = str(error), error
    if last is not None and not answers:
        raise last
    return answers, failed


def _count(answers: Iterable[pd.DataFrame], columns: Sequence[str], name: str) -> pd.DataFrame:
    """Return in how many answers each row is; twice in one answer is once."""
    none = pd.DataFrame(columns=list(columns), dtype=str)
    rows = [each[list(columns)].astype(str).drop_duplicates() for each in answers] or [none]
    found: pd.DataFrame = pd.concat(rows).groupby(list(columns), dropna=False).size().rename(name).reset_index()
    return found
