"""A clone of a moment that is run on and captured; its captures are a branch of the timeline.

On success and on failure the clone is gone at the end, its captures stay. Refuses to touch the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from workbench.progress import Progress, silent
from workbench.timeline.forks import fork_mark

__all__ = ["recorded_clone"]

_SHORT = 12


@contextmanager
def recorded_clone(moment: Any, progress: Progress = silent) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    """Yield a clone that stands at a moment, and a function that captures it with some words as the reason.

    Raises
    ------
    UnsupportedError, GuestError, CaptureError, StoreError
        No clone is left.
    """
    case = moment.case
    with (
        moment.clone(run=False, progress=progress) as clone,
        case.record(clone.record.uuid, progress=progress) as recording,
    ):

        def take(words: str) -> Any:
            taken = recording.capture(f"clone of {moment.id[:_SHORT]}: {words}")
            case.store.add_mark(fork_mark(moment.record, taken.guest.id, clone.name))
            return taken

        yield clone, take
