"""A process that freezes a guest and waits for a line, to be killed: `freezing.py CASE URI GUEST LIMIT`."""

from __future__ import annotations

import sys
import time

from workbench.capture.quiesce import Quiesce
from workbench.case import Case, Recording
from workbench.errors import GuestBusyError


def attach(case: Case, guest: str) -> Recording:
    """Begin a recording as soon as the guard of a process that was killed before has let go."""
    while True:
        try:
            return case.record(guest)
        except GuestBusyError:
            time.sleep(0.05)


def freeze(path: str, uri: str, guest: str, limit: float) -> None:
    """Tell what came of it."""
    with Case(path, uri=uri) as case, attach(case, guest) as recording:
        with recording.session._freezer.frozen(Quiesce(limit)) as frozen:
            sys.stdout.write("frozen\n" if frozen.count else f"not frozen: {frozen.why}\n")
            sys.stdout.flush()
            sys.stdin.readline()
            frozen.at_the_instant()
        sys.stdout.write(f"{frozen.facts()['consistency_why']}\n")


if __name__ == "__main__":
    freeze(*sys.argv[1:4], float(sys.argv[4]))
