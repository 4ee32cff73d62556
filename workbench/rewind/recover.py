"""Put a half rewound guest right from another process: the guard's cure after a killed rewind.

`python -m workbench.rewind.recover URI UUID CASE SAFETY TARGET run|stay [CLAIM]` takes the guest, found paused and
between two moments, to the safety capture, in place if it can, by restarting it if not. A guest that runs, and whose
rewind is noted in the case, is whole: it is left as it is. Preconditions: claim and lock become free, since their
holder is killed or ends; as long as it lives, only waited for. The guard hands its own claim down. Safe to run twice.
Refuses to touch a guest whose claim somebody else holds.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.capture.pause import Laps
from workbench.capture.session import DEVICES, CaptureSession
from workbench.capture.staging import changed_pages
from workbench.errors import (
    GuestBusyError,
    GuestError,
    GuestNotFoundError,
    StoreBusyError,
    StoreError,
    WorkbenchError,
)
from workbench.guest.claim import Claim, inherit
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.devices import state_sink
from workbench.guest.disks import Disk, read_disks
from workbench.guest.leftovers import drop_descriptors, find_leftovers, sweep
from workbench.guest.memory import MemoryBlock, MemoryMap, read_memory_map
from workbench.guest.reader import MemoryReader, open_reader
from workbench.guest.stream import with_clock_of
from workbench.guest.tracker import Tracker, open_tracker
from workbench.model import CaptureId, CaptureMode, GuestId, RegionKind
from workbench.rewind.apply import apply, devices_for
from workbench.rewind.content import Content, difference
from workbench.rewind.outcome import is_noted, note_return
from workbench.rewind.restart import end, restart_at
from workbench.rewind.start import resume
from workbench.store import CaptureView, CaseStore, Writer

__all__ = ["Unfinished", "recover"]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A rewind whose process is gone.

    Attributes
    ----------
    store : CaseStore
    guest : GuestId
    safety, target : CaptureId
        Where it came from, and where it was to go.
    run : bool
        Whether the guest ran before.
    """

    store: CaseStore
    guest: GuestId
    safety: CaptureId
    target: CaptureId
    run: bool


def recover(hypervisor: Hypervisor, unfinished: Unfinished) -> None:
    """Take the guest to the safety capture, whatever half-way state it is found in, unless it is whole.

    Raises
    ------
    GuestBusyError, StoreBusyError
        Somebody works on it: nothing was done.
    WorkbenchError
        Neither in place nor restart worked; the guest is off, or paused as it was found.
    """
    guest = _find(hypervisor, unfinished)
    name = guest.name if guest is not None else unfinished.guest
    claim = Claim(unfinished.guest, name)
    try:
        if guest is not None and is_whole(guest, unfinished):
            sweep(guest.monitor)
            return
    finally:
        claim.close()
    holding = [unfinished.target]
    if guest is not None:
        try:
            _in_place(guest, unfinished, holding)
        except (GuestBusyError, StoreBusyError):
            raise
        except Exception:  # noqa: BLE001  (whatever it is, a new QEMU is what is left)
            end(guest)
        else:
            return
    _restart(hypervisor, unfinished, name, holding)


def _find(hypervisor: Hypervisor, unfinished: Unfinished) -> Guest | None:
    try:
        return hypervisor.guest(unfinished.guest)
    except GuestNotFoundError:
        return None


def is_whole(guest: Guest, unfinished: Unfinished) -> bool:
    """Tell whether the rewind got to its end: it notes itself, and only then lets the guest run."""
    return guest.is_running() and is_noted(unfinished.store, unfinished.guest, unfinished.safety)


def _in_place(guest: Guest, unfinished: Unfinished, holding: list[CaptureId]) -> None:
    if guest.is_running():
        # Somebody let it go half way, and it wrote on: only a look at all of it tells what it has to lose.
        sweep(guest.monitor)
        guest.monitor.execute("stop")
        _undo_what_ran(guest, unfinished, holding)
    else:
        _undo_what_was_written(guest, unfinished)
    if unfinished.run:
        guest.monitor.execute("cont")
        with contextlib.suppress(WorkbenchError):
            drop_descriptors(guest.monitor)


def _undo_what_ran(guest: Guest, unfinished: Unfinished, holding: list[CaptureId]) -> None:
    """Capture the guest as it is, compared whole with the safety capture, and undo exactly the difference."""
    store, safety = unfinished.store, unfinished.safety
    with CaptureSession(guest, store, parent=safety) as session:
        reason = f"found half way in a rewind; taken back to {safety[:12]}"
        found = session.capture(CaptureMode.SAFETY, reason)
        holding.append(found.id)
        content = Content(store.view(safety))
        for kind in (RegionKind.MEMORY, RegionKind.DISK):
            content.cover(difference(store, found.id, safety, kind), kind)
        apply(session, content, devices_for(session, content.view, store.view(found.id)), Laps())
        note_return(store, unfinished.guest, safety)


@dataclass(slots=True)
class _Held:
    """A paused guest, without the trackers, bitmaps and guard of a capture session; see `Attached`."""

    guest: Guest
    writer: Writer
    disks: tuple[Disk, ...]
    memory: MemoryMap
    reader: MemoryReader
    tracker: Tracker

    def collect_dirty(self) -> dict[str, NDArray[np.int64]]:
        return self.tracker.collect()


@contextlib.contextmanager
def _hold(guest: Guest, unfinished: Unfinished) -> Iterator[_Held]:
    with contextlib.ExitStack() as stack:
        stack.callback(Claim(guest.id, guest.name).close)
        _sweep_standing(guest)
        writer = stack.enter_context(unfinished.store.writer(unfinished.guest))
        writer.move_to(unfinished.safety)
        memory = read_memory_map(guest)
        reader = stack.enter_context(contextlib.closing(open_reader(guest, memory)))
        tracker = stack.enter_context(contextlib.closing(open_tracker(guest, memory, prefer="compare")))
        yield _Held(guest, writer, read_disks(guest), memory, reader, tracker)


def _sweep_standing(guest: Guest) -> None:
    """Sweep a guest that stands still: its QEMU lets go of descriptors only when it runs, so those may be left."""
    try:
        sweep(guest.monitor)
    except GuestError:
        if any(not each.startswith("fdset ") for each in find_leftovers(guest.monitor)):
            raise


def _undo_what_was_written(guest: Guest, unfinished: Unfinished) -> None:
    """Write back what the dead process may have written: the memory that differs now, and every cluster it wanted.

    The guest stood still, so nothing else was written; nothing is captured, so a full disk does not matter.
    """
    store, safety = unfinished.store, unfinished.safety
    with _hold(guest, unfinished) as held:
        content = Content(store.view(safety))
        content.cover(difference(store, unfinished.target, safety, RegionKind.DISK), RegionKind.DISK)
        content.cover({block.name: _changed(held, block) for block in held.memory.blocks}, RegionKind.MEMORY)
        apply(held, content, _devices(guest, content.view), Laps())
        with contextlib.suppress(StoreError):
            note_return(store, unfinished.guest, safety)


def _changed(held: _Held, block: MemoryBlock) -> NDArray[np.int64]:
    if block.name not in held.writer.heads:
        return np.zeros(0, np.int64)
    parts = [pages.indices for pages in changed_pages(held.reader, block, held.writer.head(block.name))]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _devices(guest: Guest, view: CaptureView) -> bytes:
    devices = view.region(DEVICES).open().read()
    if guest.monitor.execute("query-kvm")["enabled"]:
        return devices
    with state_sink(guest.monitor) as sink:
        sink.save()
        return with_clock_of(devices, sink.read())


def _restart(hypervisor: Hypervisor, unfinished: Unfinished, name: str, holding: Sequence[CaptureId]) -> None:
    """Start the guest, which is off, anew at the safety capture."""
    store, safety = unfinished.store, unfinished.safety
    claim = Claim(unfinished.guest, name)
    try:
        with store.writer(unfinished.guest):
            guest = restart_at(hypervisor, store, safety, safety, holding=holding)
            with contextlib.suppress(StoreError):  # a full disk must not keep a whole guest from running
                note_return(store, unfinished.guest, safety)
            if unfinished.run:
                resume(guest)
    finally:
        claim.close()


def _until_free(hypervisor: Hypervisor, unfinished: Unfinished) -> None:
    """Recover as soon as nobody works on the guest; if the one who does brings it to an end, there is nothing to do."""
    pause = 0.02
    while True:
        try:
            recover(hypervisor, unfinished)
        except (GuestBusyError, StoreBusyError):
            guest = _find(hypervisor, unfinished)
            if guest is not None and is_whole(guest, unfinished):
                return
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        else:
            return


def main(arguments: Sequence[str]) -> None:
    """Run the recovery: `recover.py URI UUID CASE SAFETY TARGET run|stay [CLAIM]`; CLAIM is the guard's descriptor."""
    uri, uuid, case, safety, target, then, *claim = arguments
    if claim:
        inherit(uuid, int(claim[0]))
    with Hypervisor(uri) as hypervisor:
        store = CaseStore.open(Path(case))
        _until_free(hypervisor, Unfinished(store, GuestId(uuid), CaptureId(safety), CaptureId(target), then == "run"))


if __name__ == "__main__":
    main(sys.argv[1:])
