"""Look between two captures: a clone of the earlier one is run on, captured densely, and its captures are bisected.

Each round records one future of a clone and bisects that; the next begins at the last capture that said no. The
captures stay in the case, as a branch of the timeline.

What it cannot tell: a clone's future is not the original's. It has no network, its inputs are not played, and what hung
on chance or on the time of day may come otherwise: later, earlier or never. So a span found here is the clone's, and
that it never holds is a result too.

Preconditions: the earlier capture can be cloned here. On success and on failure no clone is left. Refuses an interval
that would take longer than a quarter of an hour to run, and to touch the guest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbench.errors import UsageError
from workbench.progress import Progress, silent
from workbench.replay.bisect import Bisection, Evaluation, Judge, evaluations_frame
from workbench.replay.future import recorded_clone
from workbench.replay.search import search

__all__ = ["Refinement", "refine"]

_LONGEST_S = 900.0
_STEPS = 8
_FINEST_S = 0.1
_ROUNDS = 3


@dataclass
class Refinement:
    """What the futures of clones said.

    Attributes
    ----------
    interval : float
        Seconds between the two captures of the original.
    driven : float
        Seconds that clones ran, of all rounds.
    after : tuple of float, or None
        When it did not hold yet and when it held, in seconds that the clone had run for since `last_before` of the
        bisection; None if it never held.
    last_before, first : Moment or None
        The clones' captures of then; `last_before` may be the original's.
    """

    interval: float
    driven: float = 0.0
    after: tuple[float, float] | None = None
    last_before: Any = None
    first: Any = None
    asked: list[Evaluation] = field(default_factory=list, repr=False)

    @property
    def held(self) -> bool:
        """Whether the predicate held in a clone's future."""
        return self.after is not None

    @property
    def span(self) -> float:
        """The narrowest span found, in seconds: the whole interval if it never held."""
        return self.interval if self.after is None else self.after[1] - self.after[0]

    @property
    def evaluations(self) -> pd.DataFrame:
        """Every question asked: as of a bisection, and `after_s` (float64), the seconds that the clone had run for."""
        frame = evaluations_frame(self.asked)
        frame.insert(1, "after_s", pd.Series([each.after_s for each in self.asked], dtype="float64"))
        return frame

    def __str__(self) -> str:
        future = "a clone's future is not the original's"
        if self.after is None:
            return f"it did not come about in {self.driven:.1f} s of a clone's run: {future}"
        return f"it came about between {self.after[0]:.2f} s and {self.after[1]:.2f} s of a clone's run: {future}"


@dataclass(frozen=True)
class _Point:
    after_s: float
    moment: Any


def refine(found: Bisection, predicate: Callable[[Any], bool], progress: Progress = silent) -> Refinement:
    """Look between the two captures that a bisection found.

    Raises
    ------
    UsageError
        If the interval is too long to be run again.
    UnsupportedError, GuestError, CaptureError, StoreError
        If the moment cannot be cloned here, or its clone not be recorded; no clone is left.
    """
    if found.span > _LONGEST_S:
        cure = "Bisect between captures that lie closer."
        raise UsageError("the interval is too long to be run again", seconds=found.span, most=_LONGEST_S, cure=cure)
    judge = Judge(predicate, progress)
    result = Refinement(found.span, asked=judge.evaluations)
    begin, seconds = _Point(0.0, found.last_before), found.span
    for _ in range(_ROUNDS):
        future = [begin, *_future(begin, seconds, progress)]
        result.driven += future[-1].after_s - begin.after_s
        ends = _turn(future, judge)
        if ends is None:
            break
        begin, end = ends
        result.after, result.last_before, result.first = (begin.after_s, end.after_s), begin.moment, end.moment
        seconds = end.after_s - begin.after_s
        if seconds <= _FINEST_S:
            break
    return result


def _future(begin: _Point, seconds: float, progress: Progress) -> list[_Point]:
    """Run a clone on for some seconds and return captures of it, evenly spread; the clone is gone then.

    It runs only between captures, so that taking them costs it no time.
    """
    points = []
    with recorded_clone(begin.moment, progress) as (clone, take):
        clone.resume()  # also thaws what was captured frozen
        after = begin.after_s
        for _ in range(_STEPS):
            after += clone.advance(seconds / _STEPS)
            points.append(_Point(after, take(f"bisecting, {after:.2f} s on")))
    return points


def _turn(future: list[_Point], judge: Judge) -> tuple[_Point, _Point] | None:
    """Return where the answer turns in a future whose first point says no; None if it says yes at no end of it."""
    for last in range(len(future) - 1, 0, -1):
        answer = judge.ask(future[last].moment, future[last].after_s)
        if answer is not None:
            break
    if not answer:
        return None
    turn = search(last + 1, lambda at: judge.ask(future[at].moment, future[at].after_s))
    return future[turn.before], future[turn.after]
