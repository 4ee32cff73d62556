"""Drive a moment again: a clone of it runs as long as the original did, and what came of it is compared.

Recorded inputs are played at their times. Nothing else of the outside world is: no network, no clock of the original,
and chance falls anew; so a difference is a question, not a finding. The times of a replay are those of a busy host: an
input comes at or after its instant, never before.

Preconditions: the moment can be cloned here. On success and on failure no clone is left; on success its last capture is
in the case. Refuses a span of more than an hour, and to touch the guest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbench.errors import GuestError, GuestGoneError, UsageError
from workbench.progress import Progress, ProgressEvent, silent
from workbench.replay.differences import differences
from workbench.replay.future import recorded_clone
from workbench.replay.inputs import Input, put_in

__all__ = ["Played", "Replay", "drive"]

_LONGEST_S = 3600.0
_NS = 1e9
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Played:
    """An input that was played.

    Attributes
    ----------
    due_s, after_s : float
        Seconds after the beginning at which it came in the original, and in the clone's run.
    why : str
        Why it could not be played; empty where it was.
    """

    given: Input
    due_s: float
    after_s: float
    why: str


@dataclass
class Replay:
    """What came of driving a moment again.

    Attributes
    ----------
    begin, original : Moment
        Where it began, and what really came of it.
    moment : Moment
        What came of the clone: its capture at the end.
    seconds : float
        That the clone ran.
    """

    begin: Any
    original: Any
    moment: Any
    seconds: float
    played: list[Played] = field(repr=False)

    @property
    def inputs(self) -> pd.DataFrame:
        """What was played.

        Returns
        -------
        DataFrame
            way, text (str), due_s, after_s (float64, seconds after the beginning: in the original, in the clone's
            run), why (str, why it could not be played; empty where it was).
        """
        rows = [(each.given.way, each.given.text, each.due_s, each.after_s, each.why) for each in self.played]
        return pd.DataFrame(rows, columns=["way", "text", "due_s", "after_s", "why"])

    def compare(self, other: Any = None) -> pd.DataFrame:
        """Return which processes, sockets and files differ from a moment of the original, by default the one driven to.

        Columns as `workbench.replay.differences.differences`.

        Raises
        ------
        AnalysisError, StoreError
        """
        target = self.begin.case.moment(other, self.begin.guest.id) if isinstance(other, str) else other
        return differences(self.begin, target or self.original, self.moment)

    def __repr__(self) -> str:
        failed = sum(bool(each.why) for each in self.played)
        return (
            f"<Replay of {self.begin.id[:_SHORT]} for {self.seconds:.1f} s: {self.moment.id[:_SHORT]}, beside "
            f"{self.original.id[:_SHORT]}; {len(self.played)} inputs played, {failed} failed>"
        )


def drive(begin: Any, original: Any, inputs: Sequence[Input], progress: Progress = silent) -> Replay:
    """Run a clone of a moment for as long as the original ran to another, and capture it.

    Parameters
    ----------
    begin, original : Moment
    inputs : sequence of Input
        By time, of between the two.

    Raises
    ------
    UsageError
        If the span is too long.
    UnsupportedError, GuestError, CaptureError, StoreError
        No clone is left.
    """
    span = (original.record.time_ns - begin.record.time_ns) / _NS
    if not 0 < span <= _LONGEST_S:
        raise UsageError(
            "a span to drive again lies between 0 s and an hour", seconds=span, cure="Name closer moments."
        )
    played: list[Played] = []
    passed = 0.0
    with recorded_clone(begin, progress) as (clone, take):
        for given in inputs:
            due = (given.time_ns - begin.record.time_ns) / _NS
            passed += _run(clone, due - passed)
            began = time.monotonic()
            played.append(Played(given, due, passed, _play(clone, given)))
            passed += time.monotonic() - began
            progress(ProgressEvent("driving again", len(played), len(inputs), "inputs", played[-1].why))
        passed += _run(clone, span - passed)
        clone.pause()
        return Replay(begin, original, take(f"driven again to {original.id[:_SHORT]}"), passed, played)


def _run(clone: Any, seconds: float) -> float:
    if seconds <= 0:
        return 0.0
    clone.resume()  # also thaws what was captured frozen
    return float(clone.advance(seconds))


def _play(clone: Any, given: Input) -> str:
    """Put an input into a clone; return why it could not be.

    Raises
    ------
    GuestGoneError
        If the clone ended.
    """
    clone.resume()
    try:
        put_in(clone.guest, given)
    except GuestGoneError:
        raise
    except GuestError as error:
        return str(error)
    return ""
