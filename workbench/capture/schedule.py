"""Continuous capture: one every interval, and whatever is asked for in between.

The loop runs in the caller's thread; `request`, `call` and `set_interval` may be called from any other. An interval
that cannot be held is said, in the record's facts and to the listener; ticks that were missed are skipped, never
queued. A capture that fails is told and the loop goes on, unless the guest or the case is gone. Refuses to choose an
interval for the user.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workbench.capture.quiesce import Quiesce
from workbench.capture.session import CaptureSession
from workbench.errors import GuestGoneError, HypervisorLostError, UsageError, WorkbenchError
from workbench.model import CaptureMode, CaptureRecord, Mark

__all__ = ["CaptureLoop", "Tick"]

_MOST_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Tick:
    """One turn of the loop.

    Attributes
    ----------
    record : CaptureRecord or None
        The capture, where it succeeded.
    error : WorkbenchError or None
        Why it did not.
    late_s : float
        How much later than its tick the capture began; 0 for requested ones.
    skipped : int
        Ticks that were skipped because the one before took too long.
    """

    record: CaptureRecord | None
    error: WorkbenchError | None
    late_s: float = 0.0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Request:
    mode: CaptureMode
    reason: str
    mark: str | None
    told: Callable[[Tick], None] | None = None
    quiesce: Quiesce | None = None


class CaptureLoop:
    """Take captures of a session's guest every `interval` seconds.

    Parameters
    ----------
    session : CaptureSession
    interval : float
        Seconds, at least 0.2.

    Raises
    ------
    UsageError
        If the interval is too short to be meant.
    """

    def __init__(self, session: CaptureSession, interval: float) -> None:
        self.session = session
        self.interval = _meant(interval)
        self._requests: deque[_Request | Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._due = 0.0
        self._phase: float | None = None
        self._stop = False

    def request(
        self,
        mode: CaptureMode,
        reason: str,
        mark: str | None = None,
        told: Callable[[Tick], None] | None = None,
        *,
        quiesce: Quiesce | None = None,
    ) -> None:
        """Ask for a capture now.

        Parameters
        ----------
        mark : str, optional
            Names it in the timeline.
        told : callable, optional
            Hears in the loop's thread what came of it.
        quiesce : Quiesce, optional
            As `CaptureSession.capture`.
        """
        with self._wake:
            self._requests.append(_Request(mode, reason, mark, told, quiesce))
            self._wake.notify()

    def call(self, deed: Callable[[], None]) -> None:
        """Ask for `deed` to be done in the loop's thread, between captures: it may use the session."""
        with self._wake:
            self._requests.append(deed)
            self._wake.notify()

    def set_interval(self, interval: float, phase: float | None = None) -> None:
        """Capture every `interval` seconds from now on.

        Parameters
        ----------
        phase : float, optional
            Have ticks fall due where the clock (CLOCK_MONOTONIC, which all processes share) is a multiple of the
            interval and this, s: so that several loops do not work at the same time. No tick comes later for it.

        Raises
        ------
        UsageError
            If it is too short or too long to be meant; the one before holds.
        """
        with self._wake:
            self.interval, self._phase = _meant(interval), phase
            self._due = min(self._due, self._following(time.monotonic()))
            self._wake.notify()

    def stop(self) -> None:
        """End the loop after the capture under way."""
        with self._wake:
            self._stop = True
            self._wake.notify()

    def run(self, listener: Callable[[Tick], None]) -> None:
        """Capture until `stop`, telling `listener` of every turn.

        Raises
        ------
        GuestGoneError
            If the guest ended; everything committed is whole.
        HypervisorLostError
            If libvirt was lost: this session's connection does not come back.
        WorkbenchError
            If ten captures in a row failed: the last error.
        """
        failures = 0
        for tick in self.ticks():
            listener(tick)
            failures = failures + 1 if tick.error else 0
            if isinstance(tick.error, (GuestGoneError, HypervisorLostError)):
                raise tick.error
            if tick.error and failures >= _MOST_FAILURES:
                raise tick.error

    def ticks(self) -> Iterator[Tick]:
        """Yield every turn until `stop`."""
        self._due = time.monotonic()
        while True:
            request = self._next_request()
            if self._stop:
                return
            if isinstance(request, _Request):
                yield self._turn(request, 0.0, 0)
            elif request is not None:
                request()
            else:
                yield self._scheduled()

    def _scheduled(self) -> Tick:
        with self._wake:
            late = max(0.0, time.monotonic() - self._due)
            skipped = int(late // self.interval)
            self._due = self._following(self._due + skipped * self.interval)
            late -= skipped * self.interval
        return self._turn(_Request(CaptureMode.CONTINUOUS, "", None), late, skipped)

    def _following(self, since: float) -> float:
        """Return when the first tick after an instant falls due: within an interval."""
        if self._phase is None:
            return since + self.interval
        left = self.interval - (since - self._phase) % self.interval
        return since + (left if left > 1e-6 else self.interval)  # a tick's own instant, less an error of rounding

    def _next_request(self) -> _Request | Callable[[], None] | None:
        """Wait for what is asked for or due; None says that a tick is."""
        with self._wake:
            while not self._stop and not self._requests:
                left = self._due - time.monotonic()
                if left <= 0:
                    return None
                self._wake.wait(left)
            return self._requests.popleft() if self._requests and not self._stop else None

    def _turn(self, request: _Request, late: float, skipped: int) -> Tick:
        tick = self._capture(request, late, skipped)
        if request.told is not None:
            request.told(tick)
        return tick

    def _capture(self, request: _Request, late: float, skipped: int) -> Tick:
        facts = {"interval_asked_s": self.interval, "skipped_ticks": skipped}
        try:
            record = self.session.capture(request.mode, request.reason, extra_facts=facts, quiesce=request.quiesce)
        except WorkbenchError as error:
            return Tick(None, error, late, skipped)
        if request.mark is not None:
            self.mark(request.mark, record, request.reason)
        return Tick(record, None, late, skipped)

    def mark(self, name: str, record: CaptureRecord, note: str = "") -> None:
        """Name a capture in the timeline."""
        kind = "event" if record.mode is CaptureMode.EVENT else "note"
        self.session.store.add_mark(Mark(name, record.guest, record.time_ns, record.id, kind, note))


def _meant(interval: float) -> float:
    if not 0.2 <= interval <= 86_400:
        raise UsageError("the interval must lie between 0.2 s and a day", found=interval)
    return interval
