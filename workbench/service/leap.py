"""Whether the wall clock leapt forward: by it everything is suddenly old, and what is old may be pruned for good.

Judged against the clock since boot, which nobody sets and which counts a host's sleep. A leap is believed after a day,
so that a clock that was wrong before it holds up nothing for longer. Refuses to call a slow correction a leap.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Leap"]

_LEAP_NS = 600 * 10**9
_BELIEVED_NS = 86_400 * 10**9


def _since_boot() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Leap:
    """Watches the wall clock from now on.

    Parameters
    ----------
    wall, boot : callable
        The host's clocks, ns.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, boot: Callable[[], int] = _since_boot) -> None:
        self._wall, self._boot = wall, boot
        self._offset = wall() - boot()
        self._seen: int | None = None

    def seconds(self) -> float:
        """Return by how many seconds the clock leapt forward within the last day; 0 where it did not."""
        boot = self._boot()
        offset = self._wall() - boot
        leap = offset - self._offset
        if leap > _LEAP_NS:
            self._seen = boot if self._seen is None else self._seen
            if boot - self._seen < _BELIEVED_NS:
                return leap / 1e9
        self._seen = None
        self._offset = max(self._offset, offset)  # one that is set back may be set forward again
        return 0.0
