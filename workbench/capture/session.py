"""A capture session: one guest, one writer, one tracker, one guard, from attach to detach.

Preconditions: the guest is claimed by nobody, the case's writer lock is free, and the case does not lie in the guest's
own volumes. On success of a capture, memory, device state and every disk of one instant are committed and the guest
runs as before. On failure at any point the guest runs as before, nothing committed is lost, and what the failed
capture had already taken goes into the next one. After `close` nothing of ours is in QEMU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workbench.capture.audit import audit
from workbench.capture.clock import SeriesClock
from workbench.capture.guard import Guard
from workbench.capture.pause import Laps, paused
from workbench.capture.place import refuse_own_volume
from workbench.capture.quiesce import Freezer, Quiesce
from workbench.capture.staging import Pages, Scratch, changed_pages, copy_pages
from workbench.errors import CaptureError, GuestError
from workbench.guest.claim import Claim
from workbench.guest.connection import Guest
from workbench.guest.devices import StateSink, state_sink
from workbench.guest.disks import (
    BackupTarget,
    Disk,
    allocated_bytes,
    backup_actions,
    backup_target,
    bitmap_state,
    read_disks,
    remove_bitmap,
    settle,
)
from workbench.guest.leftovers import drop_descriptors, sweep
from workbench.guest.memory import read_memory_map
from workbench.guest.reader import open_reader
from workbench.guest.stream import with_configuration
from workbench.guest.tracker import open_tracker
from workbench.model import (
    CLUSTER,
    PAGE,
    REWIND,
    CaptureId,
    CaptureMode,
    CaptureRecord,
    RegionKind,
    RegionSpec,
)
from workbench.progress import Progress, ProgressEvent, silent
from workbench.store import CaseStore, Transaction
from workbench.store.local import os_errors

__all__ = ["DEVICES", "LAYOUT", "STATE_REGIONS", "XML", "CaptureSession", "Prepared", "Taken"]

DEVICES, XML, LAYOUT = STATE_REGIONS = ("state:devices", "state:xml", "state:layout")
_DISK_LIMIT = 600.0
"""Seconds that a backup job may take."""
_THREADED_LIMIT = 20.0
"""Seconds that the backup job of a disk in an I/O thread may take inside the pause."""
_MEMFD_LIMIT = 64 << 20
"""Bytes of dirty clusters up to which a backup goes to a memfd; beyond, to a spool file in the case."""

_READY = 2048
"""Pages that a pause can always copy without faulting memory in: 8 MiB."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made ready before the pause."""

    targets: list[BackupTarget]
    sink: StateSink


@dataclass(slots=True)
class Taken:
    """What the pause took."""

    time_ns: int
    ahead_ns: int
    monotonic_ns: int
    laps: Laps
    pages: list[Pages]


class CaptureSession:
    """Attach to a running guest and take captures of it.

    Parameters
    ----------
    guest : Guest
    store : CaseStore
    parent : CaptureId, optional
        The capture that the guest is a continuation of; by default the newest of the case. Whatever the guest's real
        state is, the first capture compares all of it.
    tracker : str, optional
        Insist on a way to know dirty pages ("userfaultfd", "soft-dirty", "compare").
    audit : bool
        Compare the full memory with the tracked copy inside every pause.
    allow_own_volume : bool
        Accept a case that lies in the guest's own volumes.
    quiesce : Quiesce, optional
        Freeze the guest's file systems through its agent for every capture but those around a rewind.

    Raises
    ------
    GuestBusyError, StoreBusyError
        If another process works on this guest or writes its history.
    UsageError
        If the case lies in the guest's own volumes.
    """

    def __init__(
        self,
        guest: Guest,
        store: CaseStore,
        *,
        parent: CaptureId | None = None,
        tracker: str | None = None,
        audit: bool = False,
        allow_own_volume: bool = False,
        quiesce: Quiesce | None = None,
        progress: Progress = silent,
    ) -> None:
        self.guest = guest
        self.store = store
        self.progress = progress
        self.audit = audit
        self.quiesce = quiesce
        self.as_found: Callable[[str], str] = str  # takes what we changed in the guest's description out of it
        self._prefer = tracker
        self._stack = contextlib.ExitStack()
        self._fresh = True  # the head has not been compared with the guest yet
        self._suspect = True  # bitmaps may lack clusters of a capture that failed: compare disks whole
        self._whole: set[str] = set()  # disks just copied whole while the guest ran, with a bitmap from that instant on
        self._owed: dict[str, NDArray[np.int64]] = {}  # pages the tracker has let go of and no capture holds yet
        self._scratch = Scratch()
        self._copied = 0  # pages of the last capture: the next one may well have as many
        self._open: Transaction | None = None
        with contextlib.ExitStack() as stack:
            self._attach(stack, parent, allow_own_volume)
            self._stack = stack.pop_all()

    def _attach(self, stack: contextlib.ExitStack, parent: CaptureId | None, allow_own_volume: bool) -> None:
        claim = Claim(self.guest.id, self.guest.name)
        stack.callback(claim.close)
        if not allow_own_volume:
            refuse_own_volume(self.store.path, self.guest.xml())
        sweep(self.guest.monitor)
        stack.callback(self._drop_descriptors)
        self.store.add_guest(self.guest.id, self.guest.name)
        self.writer = stack.enter_context(self.store.writer(self.guest.id))
        known = self.store.captures(self.guest.id)
        self.writer.move_to(parent or (known[-1].id if known else None))
        rewinds = [mark.time_ns for mark in self.store.marks(self.guest.id) if mark.kind == REWIND]
        self.clock = SeriesClock(max([-1, *(each.time_ns for each in known[-1:]), *rewinds]))
        self.guard = Guard(self.guest, claim)
        stack.callback(self.guard.close)
        self._freezer = Freezer(self.guest, self.guard)
        self.memory = read_memory_map(self.guest)
        self.reader = open_reader(self.guest, self.memory)
        stack.callback(self.reader.close)
        self.tracker = open_tracker(self.guest, self.memory, prefer=self._prefer)
        stack.callback(self.tracker.close)
        self.disks = read_disks(self.guest)
        stack.callback(self._sweep)
        self._host = self._host_facts()

    def _drop_descriptors(self) -> None:
        """Take away what captures of a standing guest had to leave: QEMU closes descriptors only while it runs."""
        with contextlib.suppress(GuestError):
            drop_descriptors(self.guest.monitor)

    def _sweep(self) -> None:
        """Take away the bitmaps, wherever they are now: an external snapshot leaves one on the image below."""
        with contextlib.suppress(GuestError):
            sweep(self.guest.monitor)

    def _host_facts(self) -> dict[str, Any]:
        accelerator = "kvm" if self.guest.monitor.execute("query-kvm")["enabled"] else "tcg"
        return {"versions": self.guest.hypervisor.versions(), "accelerator": accelerator}

    # One capture.

    def capture(
        self,
        mode: CaptureMode = CaptureMode.MANUAL,
        reason: str = "",
        *,
        extra_facts: Mapping[str, Any] | None = None,
        quiesce: Quiesce | None = None,
    ) -> CaptureRecord:
        """Take and commit one capture; the first one of a session compares everything.

        Parameters
        ----------
        extra_facts : mapping, optional
            JSON values that the caller adds to the record's facts.
        quiesce : Quiesce, optional
            For this capture; by default what the session was begun with.

        Raises
        ------
        CaptureError, GuestError, StoreError
            The guest runs on; nothing committed is lost.
        """
        self.begin()
        wish = quiesce or (None if mode is CaptureMode.SAFETY else self.quiesce)
        with contextlib.ExitStack() as stack:
            if wish is not None:
                self._settle()  # most of what has to be written out, while nothing is frozen
            with self._freezer.frozen(wish, patient=mode is not CaptureMode.CONTINUOUS) as freeze:
                prepared = stack.enter_context(self.prepare())
                with self.pause() as laps:
                    freeze.at_the_instant()
                    taken = self.take(prepared, laps)
            return self.keep(prepared, taken, mode, reason, {**(extra_facts or {}), **freeze.facts()})

    def _settle(self) -> None:
        for disk in self.disks:
            settle(disk)

    def begin(self) -> None:
        """Bring the head near the guest before the first pause of a session, and follow a changed shape of the guest.

        After this a pause only has to copy what the guest writes from now on.
        """
        self._follow_shape()
        self.writer.catch_up()  # here, not in the pause
        for disk in self.disks:
            if disk.threaded and (self._suspect or bitmap_state(self.guest.monitor, disk) is None):
                self._read_live_disk(disk)
        if not self._fresh:
            return
        if self.tracker.exact_pages:
            # Armed in a pause: a page under DMA while it is first protected could be written behind the tracker's back.
            with self.pause():
                self.tracker.arm()
                self.tracker.collect()
            self._read_live()
        self._fresh = False

    def _follow_shape(self) -> None:
        """Notice memory or disks that came or went since the last capture."""
        self.disks = read_disks(self.guest)
        before, self.memory = self.memory, read_memory_map(self.guest, self.memory)
        # A BAR that moved changes where the guest sees a block, not the block.
        if self.memory.blocks == before.blocks:
            return
        self.tracker.close()
        self.reader.close()
        self.reader = open_reader(self.guest, self.memory)
        self.tracker = open_tracker(self.guest, self.memory, prefer=self._prefer)
        self._fresh = True

    def _read_live(self) -> None:
        """Put every page that differs from the head while the guest runs; the pause takes what it writes meanwhile."""
        done, total = 0, sum(block.size for block in self.memory.blocks)
        with self._aborting() as transaction:
            for block in self.memory.blocks:
                for pages in changed_pages(self.reader, block, self.writer.head(block.name)):
                    transaction.put(pages.block, pages.indices, pages.content)
                    self._tell("reading memory of", done + int(pages.indices[-1]) * PAGE, total)
                done += block.size
        self._tell("reading memory of", total, total)

    def _read_live_disk(self, disk: Disk) -> None:
        """Put all of a disk while the guest runs, and begin its bitmap; the pause takes what is written meanwhile.

        For disks whose backup job must end inside the pause: copying all of one there would take too long.
        """
        self._tell(f"reading {disk.target} of", 0, disk.size)
        with contextlib.ExitStack() as stack, self._aborting() as transaction:
            remove_bitmap(self.guest.monitor, disk)
            target = stack.enter_context(self._place(disk))
            self.guest.monitor.execute("transaction", actions=target.actions())
            self._put_disk(transaction, target)
            self._whole.add(disk.target)
        self._tell(f"reading {disk.target} of", disk.size, disk.size)

    @contextlib.contextmanager
    def _place(self, disk: Disk, dirty: int | None = None) -> Iterator[BackupTarget]:
        """Give a target with room for `dirty` bytes of `disk`, or for all of it."""
        whole = dirty is None
        with contextlib.ExitStack() as stack:
            with os_errors(self.store.path, f"make room for the clusters of {disk.target}"):
                spool, most = None, 0
                if (disk.size if dirty is None else dirty) > _MEMFD_LIMIT:
                    spool = stack.enter_context(tempfile.TemporaryFile(dir=self.store.path)).fileno()
                    most = allocated_bytes(self.guest.monitor, disk) if dirty is None else dirty
                target = stack.enter_context(backup_target(self.guest, disk, whole=whole, spool=spool, most=most))
            yield target

    def _tell(self, what: str, done: int, total: int) -> None:
        self.progress(ProgressEvent(f"{what} {self.guest.name}", done, total))

    def pause(
        self, *, limit: float = 30.0, recovery: Sequence[str] | None = None
    ) -> contextlib.AbstractContextManager[Laps]:
        """Hold the guest still, guarded; see `paused`."""
        return paused(self.guest, self.guard, limit=limit, recovery=recovery)

    @contextlib.contextmanager
    def prepare(self) -> Iterator[Prepared]:
        """Make ready what a pause needs: backup targets, a place for device state, clean host caches.

        Nothing of it is left in QEMU afterwards, whatever happens in between.
        """
        with contextlib.ExitStack() as stack:
            targets = [stack.enter_context(self._target(disk)) for disk in self.disks]
            sink = stack.enter_context(state_sink(self.guest.monitor))
            self._settle()
            self._scratch.ready(max(_READY, self._copied + self._copied // 2))
            yield Prepared(targets, sink)

    def _target(self, disk: Disk) -> contextlib.AbstractContextManager[BackupTarget]:
        dirty = bitmap_state(self.guest.monitor, disk)
        if self._suspect and disk.target not in self._whole:
            dirty = None
        if dirty is None:
            remove_bitmap(self.guest.monitor, disk)
        return self._place(disk, dirty)

    def take(self, prepared: Prepared, laps: Laps) -> Taken:
        """Take the instant; only inside the pause.

        Raises
        ------
        GuestError
            If QEMU refuses a part. What was already taken goes into the next capture.
        AuditError
            If the audit is on and finds a page that the tracker missed. The next capture compares everything.
        CaptureError
            If the guest did not stand still until the end: what was taken is of no instant.
        """
        taken = Taken(self.clock.now(), self.clock.ahead_ns, time.monotonic_ns(), laps, [])
        if self.tracker.exact_pages:
            self.collect_dirty()
        laps.mark("scan")
        taken.pages = self._copy()
        self._copied = sum(len(pages.indices) for pages in taken.pages)
        laps.mark("memory")
        prepared.sink.save()
        laps.mark("devices")
        if prepared.targets:
            self._suspect = True
            self._whole.clear()
            self.guest.monitor.execute("transaction", actions=backup_actions(prepared.targets))
            laps.mark("disks")
            for target in prepared.targets:
                if target.disk.threaded:
                    target.wait(timeout=_THREADED_LIMIT)
                    laps.mark("disk copies")
        if self.audit:
            self._fresh = True  # until it is proven: a missed page is found only by comparing everything anew
            audit(self.reader, self.memory, self.writer.head, taken.pages)
            self._fresh = False
            laps.mark("audit")
        if self.guest.has_resumed():
            raise CaptureError(
                f"somebody let {self.guest.name} go on in the middle of a capture", cure="Capture it again"
            )
        return taken

    def collect_dirty(self) -> dict[str, NDArray[np.int64]]:
        """Return the pages written since the last capture or call, in a pause. The next capture copies them."""
        dirty = self.tracker.collect()
        self._owe(dirty)
        return dirty

    @property
    def guarded(self) -> bool:
        """Whether a pause is under way that the guard watches (not one that somebody else began)."""
        return self.guard.armed

    @property
    def accelerator(self) -> str:
        """Either "kvm" or "tcg"."""
        return str(self._host["accelerator"])

    def _owe(self, dirty: Mapping[str, NDArray[np.int64]]) -> None:
        for name, indices in dirty.items():
            owed = self._owed.get(name)
            self._owed[name] = indices if owed is None else np.union1d(owed, indices)

    def _copy(self) -> list[Pages]:
        if self.tracker.exact_pages:
            return copy_pages(self.reader, self.memory, self._owed, self._scratch)
        self._transaction()  # the head of a region is there once it is part of a transaction
        return [
            pages
            for block in self.memory.blocks
            for pages in changed_pages(self.reader, block, self.writer.head(block.name))
        ]

    # Into the store.

    def specs(self) -> list[RegionSpec]:
        """Return the regions of a capture of this guest as it is now."""
        memory = [RegionSpec(block.name, RegionKind.MEMORY, block.size, PAGE) for block in self.memory.blocks]
        disks = [RegionSpec(disk.region, RegionKind.DISK, disk.size, CLUSTER) for disk in self.disks]
        return [*memory, *disks, *(RegionSpec(name, RegionKind.STATE, 0, PAGE) for name in STATE_REGIONS)]

    def _transaction(self) -> Transaction:
        if self._open is None:
            self._open = self.writer.begin(self.specs())
        return self._open

    @contextlib.contextmanager
    def _aborting(self) -> Iterator[Transaction]:
        """Yield the open transaction; an error aborts it, and what it held goes into the next one."""
        transaction = self._transaction()
        try:
            yield transaction
        except BaseException:
            self._open = None
            self._suspect = True  # clusters that were put may be lost with it
            self._whole.clear()
            transaction.abort()
            raise

    def keep(
        self,
        prepared: Prepared,
        taken: Taken,
        mode: CaptureMode,
        reason: str,
        extra_facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> CaptureRecord:
        """Commit what a pause took.

        Raises
        ------
        StoreError, GuestError
            Nothing is committed; memory that was taken goes into the next capture, disks are compared whole then.
        """
        with self._aborting() as transaction:
            for pages in taken.pages:
                transaction.put(pages.block, pages.indices, pages.content)
            self._owed = {}
            self._put_state(transaction, prepared.sink.read())
            clusters = sum(self._put_disk(transaction, target) for target in prepared.targets)
            facts = {**self._facts(taken, clusters), **extra_facts}
            record = transaction.commit(time_ns=taken.time_ns, mode=mode, reason=reason, facts=facts)
        self._open = None
        self._suspect = False
        return record

    def _put_state(self, transaction: Transaction, devices: bytes) -> None:
        machine = self.guest.machine()
        layout = {
            "machine": machine,
            "memory": self.memory.to_json(),
            "disks": [dataclasses.asdict(disk) for disk in self.disks],
            **self._host,
        }
        transaction.put_stream(DEVICES, with_configuration(devices, machine))
        transaction.put_stream(XML, self.as_found(self.guest.xml(migratable=True)).encode())
        transaction.put_stream(LAYOUT, json.dumps(layout, sort_keys=True).encode())

    def _put_disk(self, transaction: Transaction, target: BackupTarget) -> int:
        target.finish(timeout=_DISK_LIMIT)
        count = 0
        for indices, blocks in target.batches():
            transaction.put(target.disk.region, indices, blocks)
            count += len(indices)
        return count

    def _facts(self, taken: Taken, clusters: int) -> dict[str, Any]:
        return {
            "pause_ns": taken.laps.total,
            "pause_parts_ns": taken.laps.parts,
            "dirty_pages": sum(len(pages.indices) for pages in taken.pages),
            "dirty_clusters": clusters,
            "tracker": self.tracker.name,
            "tracker_why": self.tracker.why,
            "reader": self.reader.name,
            "consistency": "crash",
            "monotonic_ns": taken.monotonic_ns,
            **({"clock_ahead_ns": taken.ahead_ns} if taken.ahead_ns else {}),
            **self._host,
        }

    def close(self) -> None:
        """Detach: nothing of ours stays in the guest. An unfinished transaction is dropped."""
        if self._open is not None:
            self._open.abort()
            self._open = None
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
