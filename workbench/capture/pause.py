"""The pause: the only place that stops a guest for a capture, and the clock of its parts.

Preconditions: a live guard. On success the guest runs if it ran before. On failure inside the pause the guest is
resumed before the error leaves here; if even that fails the guard stays armed and resumes it at the limit. A guest that
was paused by somebody else stays paused, and one that was migrated away meanwhile is not let run here as well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from workbench.capture.guard import Guard
from workbench.errors import CaptureError
from workbench.guest.connection import Guest

__all__ = ["Laps", "paused"]


class Laps:
    """Where the time of a pause went, in ns since the `stop` was sent."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic_ns()
        self.parts: dict[str, int] = {}

    def mark(self, part: str) -> None:
        """Account the time since the last mark to `part`."""
        now = time.monotonic_ns()
        self.parts[part] = self.parts.get(part, 0) + now - self._last
        self._last = now

    @property
    def total(self) -> int:
        """Nanoseconds from the start to the last mark."""
        return self._last - self._start


@contextlib.contextmanager
def paused(guest: Guest, guard: Guard, *, limit: float = 30.0, recovery: Sequence[str] | None = None) -> Iterator[Laps]:
    """Hold the guest still for the body.

    Parameters
    ----------
    limit : float
        Seconds after which the guard acts even if we live.
    recovery : sequence of str, optional
        Command that the guard runs instead of a plain resume.

    Raises
    ------
    CaptureError
        If the guard is gone (before the pause), or had to act.
    GuestGoneError
        If the guest was migrated away meanwhile.
    GuestError
        If QEMU does not stop or go on.
    """
    if not guest.is_running():
        yield Laps()
        return
    if guard.armed:  # the guest runs, so the pause before this is over, though its end could not be told
        with contextlib.suppress(CaptureError):
            guard.disarm()
    guard.arm(limit, recovery)
    laps = Laps()
    try:
        guest.monitor.execute("stop")
        laps.mark("stop")
        yield laps
    finally:
        guest.let_run()
        laps.mark("cont")
        guard.disarm()
