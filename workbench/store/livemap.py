"""A region's map in full, in arrays by block: what the writer and `check` carry from capture to capture.

Refuses to hold content. Costs 41 bytes a block, of which blocks never touched cost nothing (the arrays are lazy).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from workbench.errors import DamagedError
from workbench.model import RegionSpec
from workbench.store.codec import digest_of
from workbench.store.format import ID_BYTES
from workbench.store.maps import RegionMap
from workbench.store.packs import Packs
from workbench.store.types import I64, U8, U32, U64, Bools

__all__ = ["CHUNK", "Changes", "LiveMap", "region_digest", "sparse_digest", "zero_digests"]

CHUNK = 1024
"""Blocks whose ids make up one chunk of a region's digest."""

_SLICE = 1 << 16


def zero_digests(blocks: int) -> U8:
    """Return the digests of the chunks of a region of zeros, (chunks, 32)."""
    chunks = -(-blocks // CHUNK)
    digests = np.empty((chunks, ID_BYTES), np.uint8)
    if chunks:
        digests[:] = np.frombuffer(digest_of(bytes(CHUNK * ID_BYTES)), np.uint8)
        digests[-1] = np.frombuffer(digest_of(bytes((blocks - CHUNK * (chunks - 1)) * ID_BYTES)), np.uint8)
    return digests


def region_digest(digests: U8) -> str:
    """Return a region's digest from those of its chunks."""
    return digest_of(digests.tobytes()).hex()


def sparse_digest(blocks: int, index: U32, ids: U8) -> str:
    """Return the digest of a region of which the blocks at `index` (ascending) have `ids`, and the others are zero."""
    digests = zero_digests(blocks)
    cuts = np.flatnonzero(np.diff(index // CHUNK)) + 1
    for rows in np.split(np.arange(len(index)), cuts) if len(index) else ():
        chunk = int(index[rows[0]]) // CHUNK
        content = np.zeros((min(CHUNK, blocks - chunk * CHUNK), ID_BYTES), np.uint8)
        content[index[rows] - chunk * CHUNK] = ids[rows]
        digests[chunk] = np.frombuffer(digest_of(content.tobytes()), np.uint8)
    return region_digest(digests)


class Changes:
    """What is to be laid over a map: rows as they come, and per block which row is its newest.

    Rows are compact, because a few changes scattered over dense arrays cost a page fault each, and of huge pages.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._row = np.zeros(blocks, np.uint32)  # plus one; 0 for a block not touched
        self._used = 0
        self._place: U64 = np.empty(blocks, np.uint64)
        self._id: U8 = np.empty((blocks, ID_BYTES), np.uint8)
        self._depth: U8 = np.empty(blocks, np.uint8)

    def set(self, indices: I64, place: U64, ids: U8, depth: U8) -> None:
        """Note blocks; `indices` must not repeat. What was noted of them before is replaced."""
        fresh = indices[self._row[indices] == 0]
        self._row[fresh] = np.arange(self._used + 1, self._used + 1 + len(fresh), dtype=np.uint32)
        self._used += len(fresh)
        rows = self._rows(indices)
        self._place[rows], self._id[rows], self._depth[rows] = place, ids, depth

    def _rows(self, indices: I64) -> I64:
        return self._row[indices].astype(np.int64) - 1

    def indices(self) -> I64:
        """Return the blocks noted, ascending."""
        return np.flatnonzero(self._row)

    def touched(self, indices: I64) -> Bools:
        """Return which blocks are noted."""
        touched: Bools = self._row[indices] != 0
        return touched

    def ids(self, indices: I64) -> U8:
        """Return ids, (n, 32), of blocks; zeros where one is not noted."""
        rows = self._rows(indices)
        ids = self._id[np.maximum(rows, 0)]
        ids[rows < 0] = 0
        return ids

    def places(self, indices: I64) -> U64:
        """Return the places of blocks that are noted."""
        return self._place[self._rows(indices)]

    def depths(self, indices: I64) -> U8:
        """Return the chain depths of blocks that are noted."""
        return self._depth[self._rows(indices)]


class LiveMap:
    """Place, id and chain depth of every block of one region.

    Attributes
    ----------
    spec : RegionSpec
    place : (blocks,) uint64
    digests : (chunks, 32) uint8
    """

    def __init__(self, spec: RegionSpec) -> None:
        self.spec = spec
        self.place: U64 = np.zeros(spec.blocks, np.uint64)
        self._id: U8 = np.zeros((spec.blocks, ID_BYTES), np.uint8)
        self._depth: U8 = np.zeros(spec.blocks, np.uint8)
        self.digests = zero_digests(spec.blocks)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.place)

    @property
    def digest(self) -> str:
        """The region's digest."""
        return region_digest(self.digests)

    def ids(self, indices: I64) -> U8:
        """Return the ids of blocks, (n, 32)."""
        return self._id[indices]

    def places(self, indices: I64) -> U64:
        """Return the places of blocks."""
        return self.place[indices]

    def depths(self, indices: I64) -> U8:
        """Return the chain depths of blocks."""
        return self._depth[indices]

    def reshaped(self, spec: RegionSpec) -> tuple[LiveMap, int]:
        """Return a map of the shape `spec` with what of this one stands, and how many leading blocks that is.

        It is this very map where the shape is the same.
        """
        if (spec.kind, spec.block_size) != (self.spec.kind, self.spec.block_size):
            return LiveMap(spec), 0
        if spec == self.spec:
            return self, spec.blocks
        kept = min(spec.blocks, self.spec.blocks)
        other = LiveMap(spec)
        index = np.flatnonzero(self.place[:kept])
        other._set(index, self.place[index], self._id[index], self._depth[index])
        return other, kept

    def _set(self, index: I64, place: U64, ids: U8, depth: U8) -> None:
        """Lay blocks over the map; `index` ascending."""
        self.place[index] = place
        self._id[index] = ids
        self._depth[index] = depth
        for chunk, _ in _chunks(index):
            content = self._id[chunk * CHUNK : (chunk + 1) * CHUNK]
            self.digests[chunk] = np.frombuffer(digest_of(content.tobytes()), np.uint8)

    def lay(self, index: I64, changes: Changes, digests: U8) -> None:
        """Lay the changes of some blocks over the map; `digests` are what `digests_with` said of them."""
        self.digests = digests
        for begin in range(0, len(index), _SLICE):
            part = index[begin : begin + _SLICE]
            self.place[part] = changes.places(part)
            self._id[part] = changes.ids(part)
            self._depth[part] = changes.depths(part)

    def digests_with(self, index: I64, changes: Changes) -> U8:
        """Return what `digests` would be with the changes of some blocks (ascending); nothing is changed."""
        digests = self.digests.copy()
        for chunk, part in _chunks(index):
            content = self._id[chunk * CHUNK : (chunk + 1) * CHUNK].copy()
            content[part - chunk * CHUNK] = changes.ids(part)
            digests[chunk] = np.frombuffer(digest_of(content.tobytes()), np.uint8)
        return digests

    def follow(self, target: RegionMap, packs: Packs) -> I64:
        """Become `target`, by what differs; return the blocks whose place changed, ascending.

        Raises
        ------
        MissingError, DamagedError, StoreError
            The map then is worth nothing.
        """
        # Dense against sparse: one array of places is laid out, and only what differs is looked up in packs.
        wanted = np.zeros(self.spec.blocks, np.uint64)
        wanted[target.index] = target.place
        changed = np.flatnonzero(wanted != self.place)
        for begin in range(0, len(changed), _SLICE):
            part = changed[begin : begin + _SLICE]
            place = wanted[part]
            self._set(part, place, packs.ids(place), packs.depths(place))
        return changed

    def moved(self, target: RegionMap, packs: Packs) -> None:
        """Take over other places of the same content: all of them, or none where that cannot be.

        Raises
        ------
        DamagedError
            If the content is another.
        MissingError, StoreError
        """
        wanted = np.zeros(self.spec.blocks, np.uint64)
        wanted[target.index] = target.place
        changed = np.flatnonzero(wanted != self.place)
        place = wanted[changed]
        if (packs.ids(place) != self._id[changed]).any():
            raise DamagedError("a prune changed what a capture holds", region=self.spec.name)
        self._depth[changed] = packs.depths(place)
        self.place[changed] = place


def _chunks(index: I64) -> Iterator[tuple[int, I64]]:
    """Yield the chunks that blocks (ascending) lie in, and which of them lie there."""
    cuts = np.flatnonzero(np.diff(index // CHUNK)) + 1
    bounds = [0, *cuts.tolist(), len(index)] if len(index) else []
    for begin, end in pairwise(bounds):
        yield int(index[begin]) // CHUNK, index[begin:end]
