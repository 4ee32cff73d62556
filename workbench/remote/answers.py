"""What a service tells, as our own records.

Refuses what makes no sense, as an error of the service: nothing is guessed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.errors import StoreError
from workbench.model import CaptureId, GuestId, Mark
from workbench.rewind.clone_record import CloneRecord, told_options

__all__ = ["clone_of", "making_sense", "mark_of"]


@contextlib.contextmanager
def making_sense(what: str) -> Iterator[None]:
    """Turn what comes of looking into an answer that is not as agreed into an error that says so.

    Raises
    ------
    StoreError
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise StoreError(f"what the service tells of {what} makes no sense", cure="Ask who runs it.") from error


def clone_of(told: Mapping[str, Any], address: str) -> CloneRecord:
    """Return a clone: where its files are is its host's own affair.

    Raises
    ------
    StoreError
        If it makes no sense.
    """
    with making_sense("a clone"):
        capture = CaptureId(str(told["capture"]))
        times = int(told["started_ns"]), float(told["seconds"])
        return CloneRecord(str(told["name"]), str(told["uuid"]), address, capture, "", "", *times, **told_options(told))


def mark_of(guest: object, row: Mapping[str, Any]) -> Mark:
    """Return a mark.

    Raises
    ------
    StoreError
        If it makes no sense.
    """
    with making_sense("a mark"):
        capture = None if row["capture"] is None else CaptureId(str(row["capture"]))
        told = str(row["kind"]), str(row["note"])
        return Mark(str(row["name"]), GuestId(str(guest)), int(row["time_ns"]), capture, *told)
