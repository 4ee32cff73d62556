"""Plan a rewind, show it, then do it.

`plan_rewind` reads only the case: what would change, what the present would lose, how long it should take. `execute`
does it: in test mode a clone, in production the guest itself. Refuses production without the mode said and the guest's
name confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from workbench.capture.session import CaptureSession
from workbench.errors import ConfirmationError, MonitorError, RewindError, UnsupportedError, UsageError
from workbench.guest.connection import Hypervisor
from workbench.model import CLUSTER, PAGE, CaptureId, CaptureRecord, GuestRecord, RegionKind
from workbench.progress import Progress, ProgressEvent, silent
from workbench.rewind.clone import CloneRecord, start_clone
from workbench.rewind.content import difference
from workbench.rewind.in_place import rewind_in_place
from workbench.rewind.outcome import Rewound
from workbench.rewind.restart import rewind_by_restart
from workbench.rewind.shape import same_shape
from workbench.store import CaseStore
from workbench.timeline.current import current_capture, last_rewind

__all__ = ["RewindPlan", "plan_rewind", "plan_undo", "undo_target"]

Mode = Literal["test", "production"]

# Measured on a 512 MiB guest under TCG (docs/figures.md): what an in-place rewind costs whatever changes, and per byte.
_FIXED_SECONDS = 0.1
_BYTES_PER_SECOND = 400e6


@dataclass(frozen=True, slots=True)
class RewindPlan:
    """What a rewind would do.

    Attributes
    ----------
    guest_name : str
    mode : {"test", "production"}
    target, present : CaptureRecord
        Where to, and the newest known state.
    pages, clusters : int
        Blocks in which the two differ.
    reshaped : tuple of str
        How the guest's shape differs; where not empty, production restarts QEMU.
    left_behind : int
        Captures of the current line after the target. They stay in the case; the guest leaves them.
    """

    guest_name: str
    mode: Mode
    target: CaptureRecord
    present: CaptureRecord
    pages: int
    clusters: int
    reshaped: tuple[str, ...]
    left_behind: int

    @property
    def seconds_expected(self) -> float:
        """How long the guest should stand still (production), in seconds; an estimate."""
        return _FIXED_SECONDS + (self.pages * PAGE + self.clusters * CLUSTER) / _BYTES_PER_SECOND

    def __str__(self) -> str:
        order = "later" if self.present.time_ns >= self.target.time_ns else "earlier"
        back = (self.present.time_ns - self.target.time_ns) / 1e9
        where = "a clone beside the guest" if self.mode == "test" else "the guest itself"
        lines = [
            f"Rewind of {self.guest_name} ({self.mode}: {where})",
            f"  to         {self.target.id[:12]}  {_words(self.target.time_ns)}",
            f"  from       {self.present.id[:12]}  {_words(self.present.time_ns)}, {abs(back):.1f} s {order}",
            f"  changes    {self.pages} pages, {self.clusters} disk clusters, and whatever is written until then",
        ]
        if self.mode == "production":
            how = "by restarting QEMU: " + "; ".join(self.reshaped) if self.reshaped else "in place"
            lines += [
                f"  how        {how}; about {self.seconds_expected:.1f} s standing still",
                f"  leaves     what the guest did since the target ({self.left_behind} captures, kept in the case)",
                "  safety     a capture of the present is taken first; `workbench undo` goes back to it",
            ]
        return "\n".join(lines)

    def execute(
        self,
        hypervisor: Hypervisor,
        store: CaseStore,
        *,
        confirm: str | None = None,
        network: bool = False,
        session: CaptureSession | None = None,
        progress: Progress = silent,
    ) -> Rewound | CloneRecord:
        """Do it.

        Parameters
        ----------
        confirm : str
            The guest's name, for production.
        session : CaptureSession, optional
            The open session of the guest, where this process has one.

        Raises
        ------
        ConfirmationError
            Production without the guest's name.
        RewindError
            `guest_is` says what holds.
        """
        if self.mode == "test":
            return start_clone(hypervisor, store, self.target.id, network=network, progress=progress)
        if confirm != self.guest_name:
            raise ConfirmationError(
                "a production rewind changes the guest itself",
                expected=self.guest_name,
                cure="Confirm it with the guest's name",
            )
        if session is not None:
            return _in_production(session, self.target.id)
        guest = hypervisor.guest(self.target.guest)
        parent = current_capture(store, self.target.guest)
        with CaptureSession(guest, store, parent=parent, progress=progress) as opened:
            return _in_production(opened, self.target.id)


def _in_production(session: CaptureSession, target: CaptureId) -> Rewound:
    try:
        return rewind_in_place(session, target)
    except UnsupportedError as error:
        why = error.message
    except RewindError as error:
        # A device that refuses its state may take it in a fresh QEMU; one that was restarted already may not.
        refused = isinstance(error.__cause__, MonitorError) and "restarted" not in error.facts
        if error.guest_is != "as before" or not refused:
            raise
        why = error.message
    session.progress(
        ProgressEvent(f"rewinding {session.guest.name}", note=f"not in place ({why}): restarting QEMU instead")
    )
    return rewind_by_restart(session, target)


def plan_rewind(store: CaseStore, target: CaptureId, mode: Mode) -> RewindPlan:
    """Plan a rewind to `target`; nothing is done.

    Raises
    ------
    UsageError
        If the mode is neither "test" nor "production".
    """
    if mode not in ("test", "production"):
        raise UsageError("a rewind is either 'test' (a clone) or 'production' (the guest itself)", found=mode)
    record = store.record(target)
    current = current_capture(store, record.guest)
    present = store.record(current) if current else record
    name = next(each.name for each in store.guests() if each.id == record.guest)
    counts = [
        sum(len(indices) for indices in difference(store, present.id, target, kind).values())
        for kind in (RegionKind.MEMORY, RegionKind.DISK)
    ]
    behind = _left_behind(store, present, record)
    reshaped = tuple(same_shape(store.view(present.id), store.view(target)))
    return RewindPlan(name, mode, record, present, counts[0], counts[1], reshaped, behind)


def _left_behind(store: CaseStore, present: CaptureRecord, target: CaptureRecord) -> int:
    """Count the captures of the present's line that are later than the target."""
    count, record = 0, present
    while record.time_ns > target.time_ns:
        count += 1
        above = store.parent(record)
        if above is None:
            break
        record = above
    return count


def plan_undo(store: CaseStore, guest_name: str) -> RewindPlan:
    """Plan going back to the safety capture of the guest's last rewind.

    Raises
    ------
    UsageError
        If there is no such guest, it was never rewound, or the last rewind was itself a way back.
    """
    guest = next((each for each in store.guests() if guest_name in (each.name, each.id)), None)
    if guest is None:
        raise UsageError(f"no guest {guest_name!r} in this case", known=[each.name for each in store.guests()])
    return plan_rewind(store, undo_target(store, guest), "production")


def undo_target(store: CaseStore, guest: GuestRecord) -> CaptureId:
    """Return the safety capture of a guest's last rewind.

    Raises
    ------
    UsageError
        If it was never rewound, or the last rewind was itself a way back.
    """
    mark = last_rewind(store, guest.id)
    if mark is None or not mark.note.startswith("safety="):
        raise UsageError(f"{guest.name} has no rewind to undo", cure="See `workbench timeline`")
    return CaptureId(mark.note.removeprefix("safety="))


def _words(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
