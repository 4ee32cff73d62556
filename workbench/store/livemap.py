"""A region's map in full, in arrays by block: what the writer and `check` carry from capture to capture.

Refuses to hold content. Costs 41 bytes a block, of which blocks never touched cost nothing (the arrays are lazy).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from workbench.model import RegionSpec
from workbench.store.codec import digest_of
from workbench.store.format import ID_BYTES
from workbench.store.maps import RegionMap
from workbench.store.packs import Packs
from workbench.store.types import I64, U8, U32, U64

__all__ = ["CHUNK", "LiveMap", "region_digest", "sparse_digest", "zero_digests"]

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


class LiveMap:
    """Place, id and chain depth of every block of one region.

    Attributes
    ----------
    place : (blocks,) uint64
    id : (blocks, 32) uint8
    depth : (blocks,) uint8
    digests : (chunks, 32) uint8
    """

    def __init__(self, spec: RegionSpec) -> None:
        self.spec = spec
        self.place: U64 = np.zeros(spec.blocks, np.uint64)
        self.id: U8 = np.zeros((spec.blocks, ID_BYTES), np.uint8)
        self.depth: U8 = np.zeros(spec.blocks, np.uint8)
        self.digests = zero_digests(spec.blocks)

    @property
    def digest(self) -> str:
        """The region's digest."""
        return region_digest(self.digests)

    def reshaped(self, spec: RegionSpec) -> tuple[LiveMap, int]:
        """Return a map of the shape `spec` with what of this one stands, and how many leading blocks that is.

        It is this very map where only the length within the last block differs, or nothing.
        """
        if (spec.kind, spec.block_size) != (self.spec.kind, self.spec.block_size):
            return LiveMap(spec), 0
        if spec == self.spec:
            return self, spec.blocks
        kept = min(spec.blocks, self.spec.blocks)
        other = LiveMap(spec)
        index = np.flatnonzero(self.place[:kept])
        other.set(index, self.place[index], self.id[index], self.depth[index])
        return other, kept

    def set(self, index: I64, place: U64, ids: U8, depth: U8) -> None:
        """Lay blocks over the map; `index` ascending."""
        self.lay(index, place, ids, depth, self.digests_with(index, ids))

    def lay(self, index: I64, place: U64, ids: U8, depth: U8, digests: U8) -> None:
        """Lay blocks over the map whose digests are known already."""
        self.digests = digests
        self.place[index] = place
        self.id[index] = ids
        self.depth[index] = depth

    def digests_with(self, index: I64, ids: U8) -> U8:
        """Return what `digests` would be with the blocks at `index` (ascending) having `ids`; nothing is changed."""
        digests = self.digests.copy()
        cuts = np.flatnonzero(np.diff(index // CHUNK)) + 1
        bounds = [0, *cuts.tolist(), len(index)] if len(index) else []
        for begin, end in pairwise(bounds):
            chunk = int(index[begin]) // CHUNK
            content = self.id[chunk * CHUNK : (chunk + 1) * CHUNK].copy()
            content[index[begin:end] - chunk * CHUNK] = ids[begin:end]
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
            self.set(part, place, packs.ids(place), packs.depths(place))
        return changed
