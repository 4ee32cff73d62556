"""Which capture the live guest continues from: the newest one, or the target of a later rewind.

A rewind leaves a mark of kind "rewind" in the case before the guest runs on, so any later session knows where the next
capture belongs. Refuses to look at the guest.
"""

from __future__ import annotations

from workbench.model import REWIND, CaptureId, GuestId, Mark
from workbench.store import CaseStore

__all__ = ["REWIND", "current_capture", "last_rewind"]


def last_rewind(store: CaseStore, guest: GuestId) -> Mark | None:
    """Return the newest rewind mark of a guest, if there is one; a mark of a capture that is gone counts for none."""
    known = {each.id for each in store.captures(guest)}
    marks = [mark for mark in store.marks(guest) if mark.kind == REWIND and mark.capture in known]
    return max(marks, key=lambda mark: mark.time_ns, default=None)


def current_capture(store: CaseStore, guest: GuestId) -> CaptureId | None:
    """Return the capture that the guest's present continues, or None where there is none yet."""
    captures = store.captures(guest)
    if not captures:
        return None
    mark = last_rewind(store, guest)
    if mark is not None and mark.capture is not None and mark.time_ns > captures[-1].time_ns:
        return mark.capture
    return captures[-1].id
