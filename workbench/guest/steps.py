"""Let a guest stand and go on: pause, resume, run for a while.

For clones, which nobody waits for. Refuses to guess whether a guest runs: QEMU says it.
"""

from __future__ import annotations

import threading
import time

from workbench.errors import UsageError
from workbench.guest.connection import Guest, translate
from workbench.guest.leftovers import drop_descriptors

__all__ = ["advance", "pause", "resume"]

_LONGEST = 86_400.0


def pause(guest: Guest) -> None:
    """Stop the guest's CPUs; harmless where they stand.

    Raises
    ------
    GuestError
    """
    if guest.is_running():
        with translate(f"pausing {guest.name}"):
            guest.domain.suspend()


def resume(guest: Guest) -> None:
    """Let the guest's CPUs run; harmless where they do.

    Raises
    ------
    GuestError
    """
    if not guest.is_running():
        with translate(f"resuming {guest.name}"):
            guest.domain.resume()
        drop_descriptors(guest.monitor)


def advance(guest: Guest, seconds: float, stop: threading.Event | None = None) -> float:
    """Let the guest run for a while, then pause it.

    Parameters
    ----------
    seconds : float
        More than 0, at most a day.
    stop : threading.Event, optional
        Set, it ends the while early.

    Returns
    -------
    float
        Seconds that it ran.

    Raises
    ------
    UsageError
        If the while cannot be meant.
    GuestError
        If it cannot be resumed or paused.
    """
    if not 0 < seconds <= _LONGEST:
        raise UsageError("a step lies between 0 s and a day", found=seconds)
    resume(guest)
    began = time.monotonic()
    try:
        (stop or threading.Event()).wait(seconds)
    finally:
        pause(guest)
    return time.monotonic() - began
