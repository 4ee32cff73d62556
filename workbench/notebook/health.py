"""How a recording stands, in a word and a sentence: from its turns, never from a guess.

Refuses to call an interval held that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.case import Tick
from workbench.notebook.text import inert

__all__ = ["RECENT", "Health", "health"]

RECENT = 20
"""Turns that are looked at."""


@dataclass(frozen=True, slots=True)
class Health:
    """A word, and why.

    Attributes
    ----------
    word : {"idle", "starting", "recording", "degraded", "failing", "ended"}
    why : str
        Inert.
    """

    word: str
    why: str


def health(ticks: Sequence[Tick], interval: float, *, running: bool, failure: BaseException | None = None) -> Health:
    """Tell how a recording stands.

    Parameters
    ----------
    ticks : sequence of Tick
        Its last turns, oldest first.
    interval : float
        Seconds asked for.
    running : bool
    failure : BaseException, optional
        What ended it.
    """
    if failure is not None:
        return Health("ended", inert(failure, 400))
    if not running:
        return Health("idle", "nothing is being recorded")
    if not ticks:
        return Health("starting", "the first capture is under way")
    recent = ticks[-RECENT:]
    error = recent[-1].error
    if error is not None:
        failed = sum(each.error is not None for each in recent)
        return Health("failing", f"{failed} of the last {len(recent)} captures failed: {inert(error, 400)}")
    # The first capture of a session compares everything: the interval is not held then, and is afterwards.
    later = recent if len(ticks) > RECENT else recent[2:]
    skipped = sum(each.skipped for each in later)
    if skipped:
        return Health("degraded", f"{skipped} captures of the last {len(later) + skipped} were skipped: too slow")
    return Health("recording", f"every {interval:g} s, held")
