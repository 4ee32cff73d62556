"""How each guest is: what was asked, what is achieved, and one word for it with its reason.

Kept in memory from the turns that were told, so that asking costs nothing of a capture. Refuses to call well what it
has not heard of for too long.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Literal

from workbench.errors import WorkbenchError
from workbench.service.configuration import GuestConfiguration
from workbench.service.increments import IncrementState
from workbench.service.pace import Pace

__all__ = ["GuestStatus", "Tally"]

_KEPT = 1_000
"""Turns over which pauses and intervals are told."""
_RECENT = 20
"""Turns over which it is told what captures take."""
_AHEAD_S = 1.0
"""From how many seconds on a clock that was set back is told in words."""
Health = Literal["well", "behind", "degraded", "trouble", "waiting", "off"]


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """One guest as `GET /capture-status` tells it.

    Attributes
    ----------
    guest, uuid : str
    state : str
        "recording", "attaching", "silent" (its recorder says nothing), "waiting", "trouble", "off".
    health, why : str
        One word and its reason.
    modes : tuple of str
    interval_asked_s, interval_held_s : float
        The second is longer where the interval is stretched.
    rpo_achieved_s : float or None
        The longest time between two neighbouring captures of the last 1000, in seconds.
    last_capture, last_capture_ns, age_s
        The newest capture, when (UTC, ns), and how long ago in seconds.
    pause_p50_ms, pause_p95_ms : float or None
    captures, failures, missed_ticks, bytes_stored : int
        Since the service began.
    lag_s : float
        How much later than its tick the last capture began.
    tracker : str
    consistency, consistency_why : str
        Of the last capture: "application" or "crash", and why not the first where it was asked for.
    consistent_captures : int
        How many were "application" since the service began.
    frozen_ms : float or None
        For how long the file systems were frozen for the last capture.
    cpu_cores, write_bytes_s : float or None
        What captures took of late: processor time of the recorder and bytes stored, per second.
    last_error, last_error_ns
        In words, and when.
    free_bytes : int
        Of the case's volume.
    clock_ahead_s : float
        How far the times of captures are ahead of the host's clock, which was set back.
    held_back : dict of str to int
        Events of triggers that were held back, by reason.
    holds : dict of str to str
        What the guest is held for until it was captured ("panic", "watchdog"), and what comes after; "" where not.
    holds_why : str
        Why it cannot be held, where that was asked for.
    increments : IncrementState
        How looking at increments goes.
    """

    guest: str
    uuid: str
    state: str
    health: Health
    why: str
    modes: tuple[str, ...]
    interval_asked_s: float
    interval_held_s: float
    rpo_achieved_s: float | None
    last_capture: str
    last_capture_ns: int | None
    age_s: float | None
    pause_p50_ms: float | None
    pause_p95_ms: float | None
    captures: int
    failures: int
    missed_ticks: int
    bytes_stored: int
    lag_s: float
    tracker: str
    consistency: str
    consistency_why: str
    consistent_captures: int
    frozen_ms: float | None
    last_error: str
    last_error_ns: int | None
    free_bytes: int
    cpu_cores: float | None = None
    write_bytes_s: float | None = None
    clock_ahead_s: float = 0.0
    held_back: dict[str, int] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)
    holds_why: str = ""
    increments: IncrementState = field(default_factory=IncrementState)


class Tally:
    """What was heard of one guest's turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses: deque[float] = deque(maxlen=_KEPT)
        self._times: deque[int] = deque(maxlen=_KEPT)
        self._uses: deque[tuple[int, float, int]] = deque(maxlen=_RECENT)
        self._last: dict[str, Any] = {}
        self._error: tuple[str, int, int] = ("", 0, 0)  # when: UTC, and by the monotonic clock, which nobody sets
        self._gates: dict[str, int] = {}
        self._holds: tuple[dict[str, str], str] = ({}, "")
        self.captures = self.consistent = self.failures = self.missed = self.stored = 0

    def take(self, tick: dict[str, Any]) -> None:
        """Take one turn."""
        with self._lock:
            self.missed += int(tick["skipped"])
            self._uses.append((int(tick["at_ns"]), float(tick.get("cpu_s") or 0), int(tick.get("stored_bytes") or 0)))
            if tick.get("error"):
                self.failures += 1
                self._error = (str(tick["error"]["message"]), time.time_ns(), int(tick["at_ns"]))
            if tick.get("capture"):
                self.captures += 1
                self.consistent += tick.get("consistency") == "application"
                self.stored += int(tick.get("stored_bytes") or 0)
                self._pauses.append(int(tick["pause_ns"]) / 1e6)
                self._times.append(int(tick["instant_ns"]))
                self._last = tick

    def failed(self, error: WorkbenchError) -> None:
        """Take note of what ended a recorder."""
        with self._lock:
            self.failures += 1
            self._error = (error.message, time.time_ns(), time.monotonic_ns())

    def gates(self, held_back: dict[str, int]) -> None:
        """Take note of what gates held back."""
        with self._lock:
            self._gates = dict(held_back)

    def holding(self, holds: dict[str, str], why: str) -> None:
        """Take note of what a recorder holds the guest for."""
        with self._lock:
            self._holds = (dict(holds), why)

    def status(
        self,
        configuration: GuestConfiguration,
        state: str,
        why: str,
        pace: Pace,
        identity: tuple[str, str] | None,
        *,
        free: int,
    ) -> GuestStatus:
        """Return how the guest is."""
        with self._lock:
            age = None if not self._times else max(0.0, (time.monotonic_ns() - self._times[-1]) / 1e9)
            ahead = int(self._last.get("ahead_ns", 0)) / 1e9
            due = age if "continuous" in configuration.modes else None
            health, reason = _health(state, why, pace, age=due, failing=self._failing(), ahead=ahead)
            low, high = _middle_and_high(self._pauses)
            cores, written = _rates(self._uses)
            return GuestStatus(
                guest=identity[1] if identity else configuration.guest,
                uuid=identity[0] if identity else "",
                state=state,
                health=health,
                why=reason,
                modes=configuration.modes,
                interval_asked_s=configuration.interval_s,
                interval_held_s=pace.seconds,
                rpo_achieved_s=_longest_gap(self._times),
                last_capture=str(self._last.get("capture", "")),
                last_capture_ns=int(self._last["time_ns"]) if self._last else None,
                age_s=age,
                pause_p50_ms=low,
                pause_p95_ms=high,
                captures=self.captures,
                failures=self.failures,
                missed_ticks=self.missed,
                bytes_stored=self.stored,
                lag_s=float(self._last.get("late_s", 0.0)),
                tracker=str(self._last.get("tracker", "")),
                consistency=str(self._last.get("consistency") or ""),
                consistency_why=str(self._last.get("consistency_why") or ""),
                consistent_captures=self.consistent,
                frozen_ms=None if not self._last.get("frozen_ns") else int(self._last["frozen_ns"]) / 1e6,
                last_error=self._error[0],
                last_error_ns=self._error[1] or None,
                free_bytes=free,
                cpu_cores=cores,
                write_bytes_s=written,
                clock_ahead_s=ahead,
                held_back=dict(self._gates),
                holds=self._holds[0],
                holds_why=self._holds[1],
            )

    def _failing(self) -> str:
        """Return the last failure, if it was the last thing heard."""
        message, _, at = self._error
        return message if at and (not self._times or at > self._times[-1]) else ""


def _health(state: str, why: str, pace: Pace, *, age: float | None, failing: str, ahead: float) -> tuple[Health, str]:
    if state in ("off", "waiting", "trouble"):
        return state, why  # type: ignore[return-value]
    if state == "silent":
        return "behind", why
    if failing:
        return "trouble", f"the last capture failed: {failing}"
    if pace.factor > 1:
        return "degraded", f"every {pace.seconds:g} s instead of {pace.asked:g}: {pace.why}"
    if age is not None and age > 2 * pace.seconds + 1:
        return "behind", f"the last capture is {age:.0f} s old"
    if ahead >= _AHEAD_S:
        return "degraded", f"the host's clock was set back: captures are filed {ahead:.0f} s ahead of it, less and less"
    return "well", why if state == "attaching" else "captures are taken as asked"


def _longest_gap(times: deque[int]) -> float | None:
    if len(times) < 2:
        return None
    ordered = list(times)
    return max(later - earlier for earlier, later in itertools.pairwise(ordered)) / 1e9


def _rates(uses: deque[tuple[int, float, int]]) -> tuple[float | None, float | None]:
    """Return processor time and bytes per second between the first and the last of some turns."""
    seconds = (uses[-1][0] - uses[0][0]) / 1e9 if uses else 0.0
    if seconds <= 0:
        return None, None
    taken = list(uses)[1:]
    return sum(cpu for _, cpu, _ in taken) / seconds, sum(stored for _, _, stored in taken) / seconds


def _middle_and_high(values: deque[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    if len(values) == 1:
        return values[0], values[0]
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94]
