"""Take the running guest itself back to a moment, without restarting QEMU.

Preconditions: an open session; the target has the guest's shape. The order is what makes it safe:

1. an ordinary capture while the guest runs, and the target's differing blocks read from the store;
2. pause, guarded: until the safety capture is committed, the guard's cure is a plain resume;
3. the safety capture, committed inside the pause; from here the guard's cure is to take the guest back to it;
4. disks, memory, devices of the target; memory is compared afterwards;
5. the rewind is noted in the case, the guest goes on, and I/O is seen to move.

On success the guest runs as asked and the safety capture undoes it. On failure before 4 nothing happened; in 4, the
safety capture is applied and the guest runs as before; if that fails too, the guest is restarted from it. A killed
process is handled by the guard in the same way.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from workbench.capture.pause import Laps
from workbench.capture.session import DEVICES, CaptureSession
from workbench.errors import GuestError, RewindError, UnsupportedError, WorkbenchError
from workbench.guest.health import check_io_moves
from workbench.guest.leftovers import drop_descriptors
from workbench.model import CaptureId, CaptureMode, CaptureRecord, GuestId, Mark, RegionKind
from workbench.progress import ProgressEvent
from workbench.rewind.apply import apply
from workbench.rewind.content import Content, difference, same_shape
from workbench.store import CaseStore
from workbench.timeline.current import REWIND

__all__ = ["Rewound", "note_rewind", "recovery_command", "rewind_in_place"]

_LIMIT = 120.0
"""Seconds after which the guard takes an unfinished rewind for hung."""


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
        Blocks written.
    parts_ns : dict
        Where the downtime went.
    """

    target: CaptureRecord
    safety: CaptureRecord
    how: str
    downtime_ns: int
    pages: int
    clusters: int
    parts_ns: dict[str, int]


def rewind_in_place(session: CaptureSession, target: CaptureId) -> Rewound:
    """Rewind the guest of `session` to `target`.

    Raises
    ------
    UnsupportedError
        Before anything happened: the guest's shape differs from the target's.
    RewindError
        `guest_is` says what holds.
    """
    before = session.capture(CaptureMode.SAFETY, "before a rewind, running")
    record = session.store.record(target)
    differing = same_shape(before, record)
    if differing:
        raise UnsupportedError(
            f"the guest has another shape than then: {'; '.join(differing)}", cure="Rewind by restarting it"
        )
    content = Content(session.store.view(target))
    for kind in (RegionKind.MEMORY, RegionKind.DISK):
        content.cover(difference(session.store, before.id, target, kind), kind)
    session.progress(ProgressEvent(f"rewinding {session.guest.name}", 1, 3, "steps"))
    with session.prepare() as prepared, session.pause(limit=_LIMIT) as laps:
        taken = session.take(prepared, laps)
        safety = session.keep(prepared, taken, CaptureMode.SAFETY, f"before the rewind to {target[:12]}")
        laps.mark("safety")
        try:
            _go(session, content, safety, laps)
        except BaseException as error:
            _back(session, safety, content, error)
            raise
    session.progress(ProgressEvent(f"rewinding {session.guest.name}", 2, 3, "steps"))
    return _finish(session, record, safety, content, laps)


def _go(session: CaptureSession, content: Content, safety: CaptureRecord, laps: Laps) -> None:
    target = content.view.record.id
    if session.guarded:
        session.guard.arm(_LIMIT, recovery_command(session, safety.id))
    for kind in (RegionKind.MEMORY, RegionKind.DISK):
        wanted = difference(session.store, safety.id, target, kind)
        content.cover(wanted, kind)
        content.keep_only(wanted, kind)
    laps.mark("read")
    apply(session, content, session.store.view(safety.id).region(DEVICES).open().read(), laps)
    note_rewind(session.store, session.guest.id, target, safety.id)
    laps.mark("note")


def recovery_command(session: CaptureSession, safety: CaptureId) -> list[str]:
    """Return the command that takes the guest back to `safety` from another process."""
    where = [session.guest.uri, session.guest.id, str(session.store.path), safety]
    return [sys.executable, "-m", "workbench.rewind.recover", *where]


def note_rewind(store: CaseStore, guest: GuestId, target: CaptureId, safety: CaptureId | None) -> None:
    """Write into the case that the guest continues from `target`; before it runs on, so that history never lies."""
    now = time.time_ns()
    store.add_mark(Mark(f"rewind-{now}", guest, now, target, REWIND, f"safety={safety}" if safety else ""))


def _back(session: CaptureSession, safety: CaptureRecord, written: Content, cause: BaseException) -> None:
    """Bring the guest back to the safety capture after a failure half way.

    Raises
    ------
    RewindError
        Always: it says what holds.
    """
    content = Content(session.store.view(safety.id))
    for kind in (RegionKind.MEMORY, RegionKind.DISK):
        content.cover({name: blocks.indices for name, blocks in written.regions.items()}, kind)
    try:
        apply(session, content, content.view.region(DEVICES).open().read(), Laps())
        note_rewind(session.store, session.guest.id, safety.id, None)
    except WorkbenchError as error:
        raise RewindError(
            f"the rewind failed ({cause}), and so did going back in place ({error})",
            guest_is="unknown",
            cure=f"Restart it from the safety capture: workbench rewind --restart {session.guest.name} {safety.id[:12]}",
        ) from cause
    session.writer.move_to(safety.id)
    if isinstance(cause, Exception):
        raise RewindError(
            f"the rewind failed half way: {cause}", guest_is="as before", cure="Nothing was lost"
        ) from cause


def _finish(
    session: CaptureSession, target: CaptureRecord, safety: CaptureRecord, content: Content, laps: Laps
) -> Rewound:
    drop_descriptors(session.guest.monitor)
    session.writer.move_to(target.id)
    try:
        check_io_moves(session.guest, session.disks)
    except GuestError as error:
        raise RewindError(
            f"the guest was rewound, but its I/O does not move: {error.message}",
            guest_is="as asked",
            cure=f"Look at it, or undo: workbench undo {session.guest.name}",
        ) from error
    session.progress(ProgressEvent(f"rewinding {session.guest.name}", 3, 3, "steps"))
    sizes = {name: len(blocks.indices) for name, blocks in content.regions.items()}
    clusters = sum(count for name, count in sizes.items() if name.startswith("disk:"))
    return Rewound(target, safety, "in place", laps.total, sum(sizes.values()) - clusters, clusters, laps.parts)
