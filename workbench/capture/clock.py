"""The clock of a series of captures: the host's wall clock, but never back.

The order of captures is told by their times, so a wall clock that was set back must not put the newest one among the
old. The series then goes on from its newest capture at half the speed of time, by the monotonic clock, until the wall
clock has caught up; how far it is ahead is told. Refuses to hold a series back: a clock that was set forward is
followed at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["SeriesClock"]

_SLOWER = 2


class SeriesClock:
    """Gives the times of one guest's captures.

    Parameters
    ----------
    newest_ns : int
        The newest time of the series so far (UTC, ns since the epoch); every time given is later.
    wall, monotonic : callable
        The host's clocks, ns.

    Attributes
    ----------
    ahead_ns : int
        How far the last time given was ahead of the wall clock; 0 where that was not set back.
    """

    def __init__(
        self,
        newest_ns: int = -1,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.ahead_ns = 0
        self._wall, self._monotonic = wall, monotonic
        self._newest, self._at = newest_ns, monotonic()

    def now(self) -> int:
        """Return the time of an instant that is now (UTC, ns since the epoch)."""
        wall, at = self._wall(), self._monotonic()
        slowly = self._newest + max(1, (at - self._at) // _SLOWER)
        given = wall if wall > self._newest else slowly
        self._newest, self._at, self.ahead_ns = given, at, given - wall
        return given
