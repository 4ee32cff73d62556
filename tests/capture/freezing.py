"""A process that freezes a guest and waits for a line, to be killed: `freezing.py CASE URI GUEST LIMIT`."""

from __future__ import annotations

import sys

from workbench.capture.quiesce import Quiesce
from workbench.case import Case


def freeze(path: str, uri: str, guest: str, limit: float) -> None:
    """Tell what came of it."""
    with Case(path, uri=uri) as case, case.record(guest) as recording:
        with recording.session._freezer.frozen(Quiesce(limit)) as frozen:
            sys.stdout.write("frozen\n" if frozen.count else f"not frozen: {frozen.why}\n")
            sys.stdout.flush()
            sys.stdin.readline()
            frozen.at_the_instant()
        sys.stdout.write(f"{frozen.facts()['consistency_why']}\n")


if __name__ == "__main__":
    freeze(*sys.argv[1:4], float(sys.argv[4]))
