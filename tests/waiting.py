"""Waiting for what other threads, processes and guests do.

The patience is that of a machine with better things to do, and measures nothing: how long things take is the bench's to
say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(check: Callable[[], T], what: str = "", patience: float = 120.0) -> T:
    """Wait until `check` gives something true, and give that; `what` says what that means.

    Raises
    ------
    AssertionError
        It has not within `patience` seconds.
    """
    end = time.monotonic() + patience
    while not (found := check()):
        assert time.monotonic() < end, f"not within {patience:g} s: {what or 'what was waited for'}"
        time.sleep(0.05)
    return found
