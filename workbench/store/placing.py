"""Find a place for every block of a transaction: content the store has already, or a slot of a pack being written.

Refuses to trust its indices: what they answer is compared by whole id. Refuses to fail for a damaged ancestor: a
block whose base cannot be read is stored plain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import DamagedError, FormatError
from workbench.model import RegionSpec
from workbench.store.backend import Staged, Staging
from workbench.store.codec import choose_xor, prefixes
from workbench.store.format import MAX_CHAIN
from workbench.store.index import IdIndex
from workbench.store.livemap import Changes, LiveMap
from workbench.store.packing import PackWriter
from workbench.store.types import I64, U8, U64, Bools

if TYPE_CHECKING:
    from workbench.store.writer import Writer

__all__ = ["Bases", "GrowingRegion", "Placer", "code"]

BLOCK_BITS = np.int64(32)
_SLICE = 1 << 16
Bases = Callable[[I64], tuple[U8, Bools]]
"""For rows of a put: the parent's content of these blocks, and for which of them that is known."""


def code(region: int, blocks: I64) -> I64:
    """Return what the index knows blocks of a region by."""
    return (np.int64(region) << BLOCK_BITS) | blocks


class GrowingRegion:
    """A region of the capture being made.

    Attributes
    ----------
    live : LiveMap
        The parent's map in this capture's shape.
    kept : int
        Leading blocks of the parent that stand.
    """

    def __init__(self, spec: RegionSpec, parent: LiveMap | None) -> None:
        self.spec = spec
        self.live, self.kept = (LiveMap(spec), 0) if parent is None else parent.reshaped(spec)
        self.changes = Changes(spec.blocks)

    def changed(self) -> I64:
        """Return the blocks whose content differs from the parent's, ascending."""
        indices = self.changes.indices()
        parts = [indices[at : at + _SLICE] for at in range(0, len(indices), _SLICE)]
        changed = [part[(self.changes.ids(part) != self.live.ids(part)).any(axis=1)] for part in parts]
        return np.concatenate(changed) if changed else indices

    def current_ids(self, indices: I64) -> U8:
        """Return the ids of blocks as of the last put."""
        ids = self.live.ids(indices)
        rows = np.flatnonzero(self.changes.touched(indices))
        ids[rows] = self.changes.ids(indices[rows])
        return ids


class Placer:
    """Gives places to the blocks of one transaction.

    Attributes
    ----------
    index : IdIndex
        The blocks stored by this transaction.
    """

    def __init__(self, writer: Writer, regions: dict[str, GrowingRegion], staging: Callable[[], Staging]) -> None:
        self._writer = writer
        self._store = writer.store
        self._regions = regions
        self._staging = staging
        self._packs: PackWriter | None = None
        self.index = IdIndex()

    def stored_bases(self, target: GrowingRegion, indices: I64) -> Bases:
        """Return what reads the parent's content of blocks from the store, where no head has it."""

        def read(rows: I64) -> tuple[U8, Bools]:
            out = np.zeros((len(rows), target.spec.block_size), np.uint8)
            usable = target.live.depths(indices[rows]) < MAX_CHAIN
            try:
                self._store.packs.read(np.where(usable, target.live.places(indices[rows]), np.uint64(0)), out)
            except (DamagedError, FormatError):
                # A damaged ancestor must not keep us from capturing: store plain.
                usable[:] = False
            return out, usable

        return read

    def place(self, target: GrowingRegion, indices: I64, blocks: U8, ids: U8, bases: Bases) -> None:
        """Find a place for each block and note it in `target`.

        Raises
        ------
        StoreFullError, StoreError
        """
        place, depth, known = self._known(target, indices, ids)
        rest = np.flatnonzero(~known)
        if len(rest):
            _, first, inverse = np.unique(prefixes(ids[rest]), return_index=True, return_inverse=True)
            leader = rest[first[inverse]]
            # Two ids with one prefix are not one content: those are stored each for itself.
            alone = (leader == rest) | (ids[leader] != ids[rest]).any(axis=1)
            rows = rest[alone]
            place[rows], depth[rows] = self._pack(target, indices[rows], blocks[rows], ids[rows], bases(rows))
            place[rest[~alone]], depth[rest[~alone]] = place[leader[~alone]], depth[leader[~alone]]
            self.index.add(prefixes(ids[rows]), code(self._writer.region_number(target.spec.name), indices[rows]))
        target.changes.set(indices, place, ids, depth)

    def _known(self, target: GrowingRegion, indices: I64, ids: U8) -> tuple[U64, U8, Bools]:
        """Return places and depths of content that the store has already, and for which rows that holds."""
        live = target.live
        known = (ids == live.ids(indices)).all(axis=1)
        place = np.where(known, live.places(indices), np.uint64(0))
        depth = np.where(known, live.depths(indices), np.uint8(0))
        known |= ~ids.any(axis=1)
        for index, source in ((self.index, self._changed_map), (self._writer.index, self._writer.maps.get)):
            rows = np.flatnonzero(~known)
            found = index.find(prefixes(ids[rows]))
            for number in np.unique(found[found >= 0] >> BLOCK_BITS).tolist():
                here = (found >> BLOCK_BITS) == number
                have = source(self._writer.region_named(number))
                if have is not None:
                    part, block = _same(have, rows[here], found[here] & 0xFFFFFFFF, ids)
                    place[part], depth[part], known[part] = have.places(block), have.depths(block), True
        return place, depth, known

    def _changed_map(self, region: str) -> Changes | None:
        target = self._regions.get(region)
        return None if target is None else target.changes

    def _pack(
        self, target: GrowingRegion, indices: I64, blocks: U8, ids: U8, bases: tuple[U8, Bools]
    ) -> tuple[U64, U8]:
        """Write blocks, XORed against their bases where that pays; return places and chain depths."""
        before, based = bases
        live = target.live
        based = based & (live.places(indices) != 0) & (live.depths(indices) < MAX_CHAIN)
        depth, base = np.zeros(len(indices), np.uint8), np.zeros(len(indices), np.uint64)
        rows = np.flatnonzero(based)
        if len(rows):
            mixed, better = choose_xor(blocks[rows], before[rows])
            rows, mixed = rows[better], mixed[better]
            blocks = blocks.copy()
            blocks[rows] = mixed
            depth[rows] = live.depths(indices[rows]) + 1
            base[rows] = live.places(indices[rows])
        return self._writing().add(blocks, ids, depth, base), depth

    def _writing(self) -> PackWriter:
        if self._packs is None:
            salt = bytes.fromhex(self._writer.guest.replace("-", ""))
            self._packs = PackWriter(self._staging(), self._store.packs.table, salt)
        return self._packs

    def finish(self) -> tuple[list[tuple[Staged, str]], int]:
        """Finish the packs; return their files with the names they are to get, and their bytes.

        Raises
        ------
        StoreFullError, StoreError
        """
        if self._packs is None:
            return [], 0
        self._packs.finish()
        return self._packs.files, self._packs.stored_bytes


def _same(have: LiveMap | Changes, rows: I64, blocks: I64, ids: U8) -> tuple[I64, I64]:
    """Return which rows' ids really are those of the blocks that an index answered, and these blocks."""
    inside = blocks < have.blocks
    rows, blocks = rows[inside], blocks[inside]
    same = (have.ids(blocks) == ids[rows]).all(axis=1)
    return rows[same], blocks[same]
