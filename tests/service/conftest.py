"""What the tests of the service share: a case directory that QEMU reaches, and waiting for what other threads do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(check: Callable[[], T], patience: float = 30.0) -> T:
    """Wait until `check` gives something true."""
    end = time.monotonic() + patience
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {patience} s"
        time.sleep(0.05)
