"""What a rewind leaves behind: its result, its note in the case, and the command that repairs one whose process died.

Refuses to touch a guest.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from workbench.capture.session import CaptureSession
from workbench.model import CaptureId, CaptureRecord, GuestId, Mark
from workbench.store import CaseStore
from workbench.timeline.current import REWIND, current_capture, last_rewind

__all__ = ["Rewound", "is_noted", "note_return", "note_rewind", "recovery_command"]


@dataclass(frozen=True, slots=True)
class Rewound:
    """What a rewind did.

    Attributes
    ----------
    target, safety : CaptureRecord
        Where the guest is now, and the moment it was taken from.
    how : str
        "in place" or "restarted".
    downtime_ns : int
        How long the guest stood still.
    pages, clusters : int
        Blocks in which the two differ: what was written.
    parts_ns : dict
        Where the downtime went.
    thaw : str
        "thawed" where the target was captured with frozen file systems, "not yet: ..." where the guest stands still.
    """

    target: CaptureRecord
    safety: CaptureRecord
    how: str
    downtime_ns: int
    pages: int
    clusters: int
    parts_ns: dict[str, int]
    thaw: str = ""


def note_rewind(store: CaseStore, guest: GuestId, target: CaptureId, safety: CaptureId | None) -> None:
    """Write into the case that the guest continues from `target`; before it runs on, so that history never lies.

    Parameters
    ----------
    safety : CaptureId, optional
        What undoes it; without one it is itself a way back.

    Raises
    ------
    StoreError
        Nothing is noted.
    """
    captures = store.captures(guest)
    # Later than every capture, whatever the host's clock was set to meanwhile: the order of the two is what counts.
    now = max(time.time_ns(), captures[-1].time_ns + 1 if captures else 0)
    store.add_mark(Mark(f"rewind-{now}", guest, now, target, REWIND, f"safety={safety}" if safety else ""))


def note_return(store: CaseStore, guest: GuestId, safety: CaptureId) -> None:
    """Make sure that the case has the guest continue from `safety`; no note is needed where it says so already."""
    if current_capture(store, guest) != safety:
        note_rewind(store, guest, safety, None)


def is_noted(store: CaseStore, guest: GuestId, safety: CaptureId) -> bool:
    """Tell whether a rewind that had `safety` taken came so far that the guest was whole and could run on."""
    mark = last_rewind(store, guest)
    return mark is not None and mark.time_ns > store.record(safety).time_ns


def recovery_command(session: CaptureSession, safety: CaptureId, target: CaptureId, *, run: bool = True) -> list[str]:
    """Return the command that takes the guest back to `safety` from another process.

    Parameters
    ----------
    run : bool
        Whether the guest ran before the rewind; one that stood still is left standing.
    """
    where = [session.guest.uri, session.guest.id, str(session.store.path.resolve()), safety, target]
    return [sys.executable, "-m", "workbench.rewind.recover", *where, "run" if run else "stay"]
