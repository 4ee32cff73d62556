"""A watchdog for one process: ends it when it has given no sign of life for too long.

A process that hangs, or was stopped, holds the guest's claim and perhaps the guest; ended, its guard lets both go.
Refuses to judge what the process does: only that it says something.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import Self

__all__ = ["Watchdog"]

_LOOK_S = 1.0
_LATE_S = 5.0
"""Seconds without a sign of life from which on it is told."""


class Watchdog:
    """Watch a process for the body.

    Parameters
    ----------
    process : Popen
    patience : float
        Seconds of silence after which the process is killed.
    silent : callable
        Hears for how many seconds nothing was heard, once that is long, and 0 when something is heard again.
    look : callable
        Called about once a second.

    Attributes
    ----------
    bit : bool
        Whether it killed the process.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        patience: float,
        silent: Callable[[float], None],
        look: Callable[[], None],
    ) -> None:
        self.bit = False
        self._process, self._patience, self._silent, self._look = process, patience, silent, look
        self._heard = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def heard(self) -> None:
        """Take note of a sign of life."""
        self._heard = time.monotonic()

    def _watch(self) -> None:
        told, looked = False, time.monotonic()
        while not self._over.wait(_LOOK_S):
            now = time.monotonic()
            if now - looked > _LATE_S:  # it was us who stood still, and what was said meanwhile is still to be read
                self._heard = now
            looked, silence = now, now - self._heard
            if silence >= self._patience:
                self.bit = True
                self._process.kill()
                return
            late = silence >= min(_LATE_S, self._patience / 2)
            if late or told:
                self._silent(silence if late else 0.0)
            told = late
            self._look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()
