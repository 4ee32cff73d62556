"""Thresholds: a measurement that is too high for long enough is an event, once.

The mean over a window is compared, not a single sample; after an event the level must fall below a lower one before
there can be another (hysteresis). Refuses to say anything before its window is covered by samples.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from workbench.capture.triggers.event import Event
from workbench.errors import UsageError

__all__ = ["MEASURES", "Threshold", "Watched"]

MEASURES = {
    "cpu": "share of all virtual processors, 0 to 1",
    "dirty": "pages written per second",
    "disk_write": "bytes written to disks per second",
    "disk_latency": "seconds per write",
    "network": "bytes sent and received per second",
}
"""What can be watched, and its unit."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """When a measurement is an event.

    Attributes
    ----------
    measure : str
        One of `MEASURES`.
    above : float
        The level, in the measure's unit.
    over_s : float
        The window whose mean is compared, in seconds.
    rearm_below : float
        The level below which the mean must fall before the next event; at most `above`.
    """

    measure: str
    above: float
    over_s: float = 10.0
    rearm_below: float = math.nan

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise UsageError(f"nothing called {self.measure!r} is measured", known=", ".join(MEASURES))
        if not (math.isfinite(self.above) and self.above > 0):
            raise UsageError("a threshold must be a number above 0", measure=self.measure, found=self.above)
        if not 1 <= self.over_s <= 3_600:
            raise UsageError("a window must lie between 1 s and an hour", measure=self.measure, found=self.over_s)
        if math.isnan(self.rearm_below):
            object.__setattr__(self, "rearm_below", 0.8 * self.above)
        if not 0 <= self.rearm_below <= self.above:
            raise UsageError("`rearm_below` must not be above the threshold", found=self.rearm_below, above=self.above)


class Watched:
    """One threshold over the samples of one guest."""

    def __init__(self, threshold: Threshold) -> None:
        self.threshold = threshold
        self.armed = True
        self._samples: deque[tuple[int, float]] = deque()

    def take(self, time_ns: int, value: float) -> Event | None:
        """Take a sample; returns the event when the mean has risen above the threshold.

        Parameters
        ----------
        time_ns : int
            Of a clock that never goes back (ns). A gap longer than the window starts it anew.
        value : float
            In the measure's unit; what is no finite number is left out.
        """
        if not math.isfinite(value):
            return None
        window = int(self.threshold.over_s * 1e9)
        if self._samples and time_ns - self._samples[-1][0] > window:
            self._samples.clear()
        self._samples.append((time_ns, value))
        while len(self._samples) > 1 and self._samples[1][0] <= time_ns - window:
            self._samples.popleft()
        if time_ns - self._samples[0][0] < window:
            return None
        return self._compare(sum(each for _, each in self._samples) / len(self._samples), time_ns)

    def _compare(self, mean: float, time_ns: int) -> Event | None:
        rule = self.threshold
        if not self.armed:
            self.armed = mean < rule.rearm_below
            return None
        if mean <= rule.above:
            return None
        self.armed = False
        words = f"{rule.measure} at {mean:.4g} over {rule.over_s:g} s, above {rule.above:g} ({MEASURES[rule.measure]})"
        return Event("threshold", f"{rule.measure}-high", words, time_ns, {"mean": mean, "above": rule.above})
