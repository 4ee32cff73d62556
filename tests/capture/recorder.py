"""Processes that record: one without a break; one that hangs, `recorder.py CASE URI GUEST SECONDS RECOVERY...`."""

from __future__ import annotations

import contextlib
import sys
import time
from multiprocessing.connection import Connection

from workbench.case import Case
from workbench.errors import CaptureError, GuestBusyError, StoreBusyError


def record(path: str, uri: str, guest: str, told: Connection) -> None:
    """Record until killed; say so after each capture."""
    with Case(path, uri=uri) as case:
        while True:
            # The process killed before may not be quite gone yet.
            with contextlib.suppress(GuestBusyError, StoreBusyError), case.record(guest) as recording:
                while True:
                    recording.capture("to be killed")
                    told.send("captured")
            time.sleep(0.01)


def hang(path: str, uri: str, guest: str, seconds: float, recovery: list[str]) -> None:
    """Stand still in the middle of a pause; tell what came of it."""
    with Case(path, uri=uri) as case, case.record(guest) as recording:
        recording.capture("first")
        try:
            with recording.session.pause(limit=3.0, recovery=recovery or None):
                sys.stdout.write("paused\n")
                sys.stdout.flush()
                time.sleep(seconds)
        except CaptureError as error:
            sys.stdout.write(f"dropped: {error}\n")


if __name__ == "__main__":
    hang(*sys.argv[1:4], float(sys.argv[4]), sys.argv[5:])
