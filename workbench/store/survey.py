"""What a prune finds and does capture by capture: new deltas, stranded blocks moved, old deltas replaced in batches.

Works with readers of its own, so that what others cache is neither believed nor lost. Refuses a kept capture whose
deltas cannot be read: what it needs is not known. Order and terms: docs/design.md, section 3.7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from workbench.errors import DamagedError, MissingError
from workbench.model import CaptureId, CaptureRecord, GuestId
from workbench.progress import Progress, ProgressEvent
from workbench.store.backend import Staged, Staging
from workbench.store.blocks import Blocks
from workbench.store.format import encode_delta, encode_delta_body
from workbench.store.lineage import Lineage
from workbench.store.maps import Delta, Maps, RegionStep, delta_name, region_deltas
from workbench.store.moving import Mover
from workbench.store.packs import Packs, listed_packs
from workbench.store.rebasing import rebased

if TYPE_CHECKING:
    from workbench.store.case import CaseStore

__all__ = ["Survey", "prune_owner"]

_FRAME_CACHE = 64 << 20
_BATCH_BYTES = 32 << 20


def prune_owner(guest: GuestId) -> str:
    """Return what the staged files of a prune are called by."""
    return f"prune-{guest}"


class Survey:
    """The kept captures of a guest, as a prune sees them.

    Parameters
    ----------
    store : CaseStore
    guest : GuestId
    drop : collection of CaptureRecord

    Attributes
    ----------
    rebased : set of CaptureId
        Kept captures whose base goes.
    grown : int
        By how many bytes deltas grew.
    """

    def __init__(self, store: CaseStore, guest: GuestId, drop: Collection[CaptureRecord]) -> None:
        self._store = store
        self._guest = guest
        self._packs = Packs(store.backend, _FRAME_CACHE)
        self._maps = Maps(store.backend, self._packs.table)
        self.blocks = Blocks(self._packs, guest)
        self.mover = Mover(guest, self._maps, self._packs, self.blocks, self._stage)
        gone = {stone.id: stone.parent for stone in store.pruned(guest).values()}
        self._lineage = Lineage(gone | {record.id: record.parent for record in drop})
        self.rebased: set[CaptureId] = set()
        self.grown = 0
        self._pending: list[tuple[CaptureRecord, dict[str, RegionStep]]] = []
        self._pending_bytes = 0

    def _stage(self) -> Staging:
        return self._store.backend.stage(prune_owner(self._guest))

    def _add_packs(self) -> list[int]:
        numbers = [self._packs.table.number(pack) for pack in listed_packs(self._store.backend)]
        self.blocks.add(numbers)
        return numbers

    # Looking.

    def look(self, kept: Iterable[CaptureRecord], progress: Progress) -> None:
        """Find the live blocks of kept captures, and the thin packs.

        Raises
        ------
        DamagedError, FormatError, StoreError
        """
        numbers = self._add_packs()
        order = sorted(kept, key=_order)
        for done, record in enumerate(order):
            progress(ProgressEvent("planning a prune", done, len(order), "captures"))
            for step in self._steps(record).values():
                self.blocks.use(step.place)
        self.blocks.judge(numbers)

    def _steps(self, record: CaptureRecord) -> Mapping[str, RegionStep]:
        """Return the steps from the base that a kept capture is to stand on."""
        try:
            delta = self._maps.delta(self._guest, record.id)
            if record.id not in self._lineage.base and self._lineage.add(record, delta.base):
                self.rebased.add(record.id)
            if record.id not in self.rebased:
                return delta.regions
            return rebased(self._maps, record, self._lineage.base[record.id], self.mover.now)
        except DamagedError as error:
            error.cure = "What this capture needs is not known. Drop it with those that stand on it, or mend the case."
            raise

    # Doing.

    def handled(self, capture: CaptureId) -> bool:
        """Return whether a capture was looked at or processed."""
        return capture in self._lineage.base

    def process(self, kept: Iterable[CaptureRecord], progress: Progress) -> None:
        """Move what is stranded of captures, and replace their deltas where they change.

        Raises
        ------
        StoreFullError, StoreError
            What is half done is harmless, and left to the next prune.
        """
        self._add_packs()
        order = sorted(kept, key=_order)
        try:
            for done, record in enumerate(order):
                progress(ProgressEvent("pruning", done, len(order), "captures"))
                self._process(record)
            self._flush()
        except BaseException:
            self.mover.discard()
            raise

    def _process(self, record: CaptureRecord) -> None:
        before = self._steps(record)
        after = self.mover.relocate(before, self._lineage.parent[record.id])
        if record.id in self.rebased or any(after[name] is not before[name] for name in before):
            self._pending.append((record, after))
            self._pending_bytes += sum(16 * len(step.index) + 256 for step in after.values())
            if self._pending_bytes > _BATCH_BYTES:
                self._flush()

    def _flush(self) -> None:
        """Publish the new packs, then put the deltas that name them in place."""
        self.mover.publish()
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if not pending:
            return
        staging = self._stage()
        try:
            staging.replace([self._staged(staging, record, steps) for record, steps in pending])
        finally:
            staging.discard()
        for record, steps in pending:
            self._maps.learn(record.id, Delta(self._lineage.base[record.id], record.depth, steps))
            self.rebased.discard(record.id)

    def _staged(self, staging: Staging, record: CaptureRecord, steps: Mapping[str, RegionStep]) -> tuple[Staged, str]:
        base = self._lineage.base[record.id]
        body, plain = encode_delta_body(region_deltas(steps, self._packs.table))
        under = None if base is None else bytes.fromhex(base)
        data = encode_delta(bytes.fromhex(record.id), under, record.depth, body, plain)
        name = delta_name(self._guest, record.id)
        self.grown += len(data) - self._store.backend.size(name)
        file = staging.file()
        file.write(data)
        return file, name

    # Sweeping.

    def spare(self, left: Iterable[CaptureRecord]) -> set[CaptureId]:
        """Keep the thin packs that captures not processed need; return the captures whose deltas they need.

        Raises
        ------
        DamagedError, FormatError, StoreError
        """
        needed: set[CaptureId] = set()
        self._add_packs()
        for record in left:
            needed.update(member for member, _ in self._maps.chain(self._guest, record.id))
            for region in record.regions:
                self.blocks.spare(self._maps.region(self._guest, record.id, region.spec).place)
        return needed

    def thin_packs(self) -> list[bytes]:
        """Return the packs that are to go."""
        return [self._packs.table.id(number) for number in self.blocks.thin]

    def size(self, name: str) -> int:
        """Return the bytes of a file, 0 where it is gone."""
        try:
            return self._store.backend.size(name)
        except MissingError:
            return 0


def _order(record: CaptureRecord) -> tuple[int, int, CaptureId]:
    return record.depth, record.time_ns, record.id
