"""Find the capture at which something came about: bisection over the captures from A to B.

What is sure of the result: the predicate does not hold at `last_before`, it holds at `first`, and each capture between
them was asked and could not be told. If the answer turns only once between A and B that is the first capture for which
it holds; if it turns several times it is one of the turns, and nothing says which.
Refuses to start where the predicate holds at A or does not hold at B, and to take an error for an answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import UsageError, WorkbenchError
from workbench.progress import Progress, ProgressEvent, silent
from workbench.replay.search import search

if TYPE_CHECKING:
    from workbench.replay.refine import Refinement

__all__ = ["Bisection", "Evaluation", "Judge", "bisect_moments", "evaluations_frame"]

_SHORT = 12
_NS = 1e9


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One answer of a predicate.

    Attributes
    ----------
    answer : bool or None
        None where it could not be told.
    seconds : float
        What it took.
    why : str
        Why it could not be told.
    after_s : float
        For a capture of a clone, the seconds that it had run for; else 0.
    """

    capture: str
    time_ns: int
    answer: bool | None
    seconds: float
    why: str = ""
    after_s: float = 0.0


class Judge:
    """Asks a predicate, and keeps what it said.

    Attributes
    ----------
    evaluations : list of Evaluation
    """

    def __init__(self, predicate: Callable[[Any], bool], progress: Progress = silent, expected: int = 0) -> None:
        self._predicate = predicate
        self._progress = progress
        self._expected = expected
        self.words = str(getattr(predicate, "words", getattr(predicate, "__name__", "predicate")))
        self.evaluations: list[Evaluation] = []

    def ask(self, moment: Any, after_s: float = 0.0) -> bool | None:
        """Answer for a moment; None where the predicate raised an error, or returned neither True nor False."""
        began, why = time.perf_counter(), ""
        answer: bool | None = None
        try:
            said: object = self._predicate(moment)
            if isinstance(said, bool | np.bool_):
                answer = bool(said)
            else:
                why = f"the predicate returned a {type(said).__name__}, not True or False"
        except Exception as error:  # noqa: BLE001  (what a predicate raises is told, and goes round)
            why = f"{type(error).__name__}: {error}"
        took = time.perf_counter() - began
        self.evaluations.append(Evaluation(moment.id, moment.record.time_ns, answer, took, why, after_s))
        done = len(self.evaluations)
        self._progress(ProgressEvent("bisecting", done, max(done, self._expected), "captures", why))
        return answer

    def require(self, moment: Any, wanted: bool, where: str) -> None:
        """Make sure of the answer at an end of the path.

        Raises
        ------
        UsageError
            If it is another, or none.
        """
        answer = self.ask(moment)
        told = {"predicate": self.words, "capture": moment.id[:_SHORT]}
        if answer is None:
            why = self.evaluations[-1].why
            cure = "Mend the predicate, or name another capture."
            raise UsageError(f"whether it holds cannot be told at {where}", **told, why=why, cure=cure)
        if answer is not wanted:
            cure = "Begin earlier." if answer else "End later, or ask for the opposite."
            raise UsageError(f"it {'holds already' if answer else 'does not hold'} at {where}", **told, cure=cure)


def evaluations_frame(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Return evaluations as a table, in the order in which they were asked."""
    return pd.DataFrame(
        {
            "capture": pd.Series([each.capture for each in evaluations], dtype="object"),
            "time": pd.to_datetime([each.time_ns for each in evaluations], unit="ns", utc=True),
            "answer": pd.array([each.answer for each in evaluations], dtype="boolean"),
            "seconds": pd.Series([each.seconds for each in evaluations], dtype="float64"),
            "why": pd.Series([each.why for each in evaluations], dtype="object"),
        }
    )


@dataclass
class Bisection:
    """What a bisection found.

    Attributes
    ----------
    question : str
        The predicate in words.
    last_before, first : Moment
        The predicate does not hold at one and holds at the other; captures between them are in `unknown`.
    unknown : list of str
        Captures between them for which it could not be told.
    captures : int
        On the path, both ends included.
    refinement : Refinement or None
        What clones said that were run on from `last_before`; None where that was not asked for, or failed.
    refused : str
        Why it failed.
    """

    question: str
    last_before: Any
    first: Any
    unknown: list[str]
    captures: int
    asked: list[Evaluation] = field(repr=False)
    refinement: Refinement | None = None
    refused: str = ""

    def refine(self, predicate: Callable[[Any], bool], progress: Progress = silent) -> None:
        """Look between the two captures with clones; see `workbench.replay.refine`. An error becomes `refused`."""
        from workbench.replay.refine import refine

        try:
            self.refinement, self.refused = refine(self, predicate, progress), ""
        except WorkbenchError as error:
            self.refinement, self.refused = None, str(error)

    @property
    def evaluations(self) -> pd.DataFrame:
        """Every question asked, in order.

        Returns
        -------
        DataFrame
            capture (str), time (datetime64[ns, UTC]), answer (boolean, NA where it could not be told), seconds
            (float64), why (str, of those that could not be told).
        """
        return evaluations_frame(self.asked)

    @property
    def span(self) -> float:
        """Seconds between the two captures, by the clock of the host."""
        return float(self.first.record.time_ns - self.last_before.record.time_ns) / _NS

    def __repr__(self) -> str:
        return (
            f"<Bisection {self.question}: first at {self.first.id[:_SHORT]} ({self.first.time}), not at "
            f"{self.last_before.id[:_SHORT]}, {self.span:.3f} s before; {len(self.asked)} of {self.captures} asked>"
        )


def bisect_moments(
    path: Sequence[str], moment: Callable[[str], Any], predicate: Callable[[Any], bool], progress: Progress = silent
) -> Bisection:
    """Bisect a path of captures.

    Parameters
    ----------
    path : sequence of str
        Captures, at least two, ancestors first.
    moment : callable
        Returns the moment of a capture.
    predicate : callable
        Takes a moment and returns a bool; an error it raises makes that capture unknown.

    Raises
    ------
    UsageError
        If the predicate holds at the first, does not hold at the last, or cannot be told at either.
    """
    judge = Judge(predicate, progress, 2 + math.ceil(math.log2(max(1, len(path) - 1))))
    judge.require(moment(path[0]), wanted=False, where="the beginning")
    judge.require(moment(path[-1]), wanted=True, where="the end")
    turn = search(len(path), lambda at: judge.ask(moment(path[at])))
    unknown = [path[at] for at in turn.unknown]
    return Bisection(
        judge.words, moment(path[turn.before]), moment(path[turn.after]), unknown, len(path), judge.evaluations
    )
