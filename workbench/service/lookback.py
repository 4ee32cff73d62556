"""Look-back: marks on the captures just before an event, which also keep them from being pruned."""

from __future__ import annotations

import bisect

from workbench.capture.triggers.event import Event
from workbench.model import CaptureId, GuestId, Mark
from workbench.store import CaseStore

__all__ = ["mark_before", "mark_name"]

_LOOK_BACK = "look-back"
_MOST = 200


def mark_name(event: Event) -> str:
    """Return what the mark of an event is called: its name, and when (ms since the epoch)."""
    return f"{event.name}-{event.time_ns // 10**6}"


def mark_before(store: CaseStore, guest: GuestId, event: Event, taken: CaptureId, seconds: float) -> None:
    """Mark the captures of the last `seconds` before an event, the newest with 1; at most 200.

    Raises
    ------
    StoreFullError, StoreError
    """
    refs = store.captures(guest)
    first = bisect.bisect_left(refs, event.time_ns - int(seconds * 1e9), key=lambda ref: ref.time_ns)
    end = bisect.bisect_right(refs, event.time_ns, key=lambda ref: ref.time_ns)
    before = [each for each in refs[max(first, end - _MOST) : end] if each.id != taken]
    for number, ref in enumerate(reversed(before), 1):
        name = f"{mark_name(event)}-before-{number}"
        store.add_mark(Mark(name, guest, ref.time_ns, ref.id, _LOOK_BACK, event.reason))
