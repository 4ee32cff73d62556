"""The one writer of a guest's history: holds the lock, the heads, and the map of the capture that comes next's parent.

Refuses a second writer of the same guest, and refuses to go on from a parent that it could not read. It never
forgets what was put into a transaction that failed: that goes into the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from workbench.errors import DamagedError, StoreError, UsageError
from workbench.model import CaptureId, CaptureRecord, GuestId, RegionKind, RegionRecord, RegionSpec
from workbench.store.codec import prefixes
from workbench.store.documents import check_region
from workbench.store.heads import Carry, Head
from workbench.store.index import IdIndex
from workbench.store.livemap import LiveMap
from workbench.store.maps import Maps
from workbench.store.placing import code
from workbench.store.tombstones import Tombstone
from workbench.store.transaction import Transaction
from workbench.store.types import I64, U8

if TYPE_CHECKING:
    from workbench.store.case import CaseStore

__all__ = ["Writer"]


class Writer:
    """Appends captures to one guest's history. Not for several threads at once.

    Attributes
    ----------
    parent : CaptureId or None
        The capture that the next one will follow; None for a new root.
    must_compare : set of str
        Disks of which more was put into a failed transaction than could be remembered, or that were shorter there
        than in `parent`: the next transaction must be given every block that may differ from `parent`. Empty again
        after a commit.
    deltas : Maps
        The deltas that the next one is composed of: its own, since what readers cache may be older than a prune.
    """

    def __init__(self, store: CaseStore, guest: GuestId) -> None:
        self.store = store
        self.guest = guest
        self.parent: CaptureId | None = None
        self.must_compare: set[str] = set()
        self.maps: dict[str, LiveMap] = {}
        self.heads: dict[str, Head] = {}
        self.carry = Carry()
        self.index = IdIndex()
        self.deltas = Maps(store.backend, store.packs.table)
        self._numbers: dict[str, int] = {}
        self._lost = False
        self._line: int | None = None  # the branch of the next capture, where it is known
        self._transaction: Transaction | None = None
        self._lock = store.backend.lock(f"guests/{guest}/lock")
        try:
            self._turn = store.turn(guest)  # before anything else is read
            self._say(None)
            store.backend.sweep(guest)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Abort what is open and let the next writer in."""
        if self._transaction is not None:
            self._transaction.abort()
        self._lock.release()
        self._forget()

    def region_number(self, region: str) -> int:
        """Return a number for a region's name, the same as long as this writer lives."""
        return self._numbers.setdefault(region, len(self._numbers))

    def region_named(self, number: int) -> str:
        """Return the region that `region_number` gave this number to."""
        return list(self._numbers)[number]

    def head(self, region: str) -> U8:
        """Return the newest known content of a memory or state region, committed or not.

        Returns
        -------
        (blocks, block_size) uint8
            Read-only; it follows later puts until the region is resized.

        Raises
        ------
        UsageError
            If there is no such region, or it is a disk.
        """
        head = self.heads.get(region)
        if head is None:
            raise UsageError(
                "region has no head",
                region=region,
                known=sorted(self.heads),
                cure="Only memory and state regions have one.",
            )
        view = head.content.view()
        view.flags.writeable = False
        return view

    # Moving.

    def move_to(self, capture: CaptureId | None) -> None:
        """Make `capture` the parent of the next transaction, and the heads its content; what was pending is dropped.

        From scratch it decodes all of it; from a known parent it reads what differs.

        Parameters
        ----------
        capture : CaptureId or None
            None for a new root: heads and maps are empty.

        Raises
        ------
        UsageError
            While a transaction is open, or if the capture is of another guest or does not exist.
        DamagedError, StoreError
            The writer then takes no transaction until it was moved elsewhere.
        """
        if self._transaction is not None:
            raise UsageError("a transaction is open", cure="Commit or abort it before moving.")
        self._say(capture)  # before the look: whoever prunes writes tombstones first and then reads this
        try:
            self._move(capture)
        finally:
            self._say(self.parent)

    def _move(self, capture: CaptureId | None) -> None:
        record = None if capture is None else self.store.record(capture)
        if record is not None and record.id in self.store.pruned(self.guest):
            raise UsageError("capture was pruned", capture=capture, cure="Choose one that the timeline lists.")
        if record is not None and record.guest != self.guest:
            raise UsageError(
                "capture is of another guest", capture=capture, guest=record.guest, cure="Open its guest's writer."
            )
        if record is None:
            self._forget()
            self._lost = False
            return
        try:
            self._follow(record)
        except BaseException:
            self._forget()
            raise
        self.parent, self._lost, self._line = record.id, False, None
        self.carry.clear()
        self.must_compare.clear()

    def _forget(self) -> None:
        self.parent, self._lost, self._line = None, True, None
        self.maps, self.heads, self.index = {}, {}, IdIndex()
        self.carry.clear()
        self.must_compare.clear()

    def _follow(self, record: CaptureRecord) -> None:
        maps, heads = {}, {}
        for region in record.regions:
            name = region.spec.name
            old = self.maps.get(name)
            live = LiveMap(region.spec) if old is None else old.reshaped(region.spec)[0]
            changed = self._follow_map(live, record, region)
            maps[name] = live
            if region.spec.kind is not RegionKind.DISK:
                heads[name] = self._follow_head(live, region.spec, changed)
            self.index.add(prefixes(live.ids(changed)), code(self.region_number(name), changed))
        self.maps, self.heads = maps, heads

    def _follow_map(self, live: LiveMap, record: CaptureRecord, region: RegionRecord) -> I64:
        changed = live.follow(self.deltas.region(record.guest, record.id, region.spec), self.store.packs)
        if live.digest != region.digest:
            raise DamagedError(
                "region is not what its capture's record says",
                region=region.spec.name,
                capture=record.id,
                expected=region.digest,
                found=live.digest,
            )
        return changed

    def _follow_head(self, live: LiveMap, spec: RegionSpec, changed: I64) -> Head:
        head = self.heads.get(spec.name)
        if head is None or head.spec != spec:
            head = Head(spec)
            rows = np.flatnonzero(live.place)
        else:
            head.pending[changed] = True
            rows = np.flatnonzero(head.pending)
        self.store.packs.read(live.place[rows], head.content, rows)
        head.pending[:] = False
        return head

    # After a prune.

    def catch_up(self) -> None:
        """Look up where the parent's blocks lie now, if a prune has moved them; content, heads and pending puts stay.

        `begin` does it too; whoever holds a guest still between `begin` and `commit` may want it done before. What
        cannot be read is left to the next time: the prune waits. Does nothing while a transaction is open.
        """
        if self._transaction is not None:
            return
        with suppress(StoreError):
            turn = self.store.turn(self.guest)
            if turn != self._turn:
                self.deltas.forget()
                if self.parent is not None:
                    self._look_again(self.store.record(self.parent))
                self._turn = turn
                self._say(self.parent)

    def _look_again(self, record: CaptureRecord) -> None:
        for region in record.regions:
            target = self.deltas.region(self.guest, record.id, region.spec)
            self.maps[region.spec.name].moved(target, self.store.packs)

    def _say(self, parent: CaptureId | None) -> None:
        """Note, for whoever prunes, which turn the maps follow and what must not be dropped."""
        self._lock.note(f"{self._turn} {parent or '-'}")

    # Transactions.

    def begin(self, regions: Sequence[RegionSpec], branch: int | None = None) -> Transaction:
        """Open a transaction for the capture that follows `parent`.

        Writes no file, so a full disk does not make it fail.

        Parameters
        ----------
        regions : sequence of RegionSpec
            All regions that the capture will have. A region that is new is zeros; one that was resized keeps the
            blocks that still exist; one that is not listed is gone. The length of a state region follows `put_stream`.
        branch : int, optional
            By default the parent's while it has no successor yet; else the next number that is free.

        Raises
        ------
        UsageError
            If another transaction is open, a region's shape or name cannot be stored, or `move_to` failed before.
        """
        if self._transaction is not None:
            raise UsageError("a transaction is open", cure="Commit or abort it before the next.")
        self.catch_up()
        if self._lost:
            raise UsageError("the writer has no parent", cure="Move it to a capture, or to None for a new root.")
        if len({spec.name for spec in regions}) != len(regions):
            raise UsageError("two regions have one name", cure="Name every region once.")
        for spec in regions:
            check_region(spec)
        self._transaction = Transaction(self, regions, self._next_branch() if branch is None else branch)
        return self._transaction

    def _next_branch(self) -> int:
        """Return the branch that a capture after `parent` belongs to: history forks where it goes on a second time."""
        if self._line is None:
            known = self.store.captures(self.guest)
            if not known or (self.parent is not None and known[-1].id == self.parent):
                self._line = 0 if self.parent is None else self.store.record(self.parent).branch
            else:
                records: list[CaptureRecord | Tombstone] = [self.store.record(ref.id) for ref in known]
                records += self.store.pruned(self.guest).values()
                forked = any(record.parent == self.parent for record in records)
                parent = None if self.parent is None else self.store.record(self.parent)
                highest = max(record.branch for record in records)
                self._line = highest + 1 if forked or parent is None else parent.branch
        return self._line

    def ended(self, transaction: Transaction, maps: dict[str, LiveMap] | None, capture: CaptureId | None) -> None:
        """Take note that a transaction ended; with `maps` if it was committed. For `Transaction` only."""
        assert self._transaction is transaction
        self._transaction = None
        if maps is None:
            self.must_compare |= self.carry.dropped | transaction.shortened()
            return
        self.maps, self.parent, self._line = maps, capture, transaction.branch
        self._say(capture)
        self.heads = {name: head for name, head in self.heads.items() if name in maps}
        for head in self.heads.values():
            head.pending[:] = False
        self.carry.clear()
        self.must_compare.clear()
