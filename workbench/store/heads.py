"""What the writer remembers of content: heads of memory and state regions, and disk blocks carried past a failure.

A head is plain memory, never a mapped file: a mapped sparse file on a full disk kills the process with SIGBUS, and
the process that captures must outlive a full disk. Refuses to carry disk blocks past a bound; it then names the
region, and its disk must be compared again.
"""

from __future__ import annotations

import numpy as np

from workbench.model import RegionSpec
from workbench.store.types import I64, U8, U64

__all__ = ["Carry", "Head", "newest"]

CARRY_BYTES = 64 << 20
"""Disk content remembered past a failed transaction, over all regions."""


def newest(indices: I64, blocks: U8) -> tuple[I64, U8]:
    """Return indices ascending and their blocks; of an index given twice the later block."""
    if not len(indices) or bool((indices[1:] > indices[:-1]).all()):
        return indices, blocks
    unique, last = np.unique(indices[::-1], return_index=True)
    return unique, blocks[len(indices) - 1 - last]


class Head:
    """The newest known content of one memory or state region.

    Attributes
    ----------
    content : (blocks, block_size) uint8
        Zeros are not allocated until they are written over.
    pending : (blocks,) bool
        Blocks that may differ from the committed parent.
    """

    def __init__(self, spec: RegionSpec) -> None:
        self.spec = spec
        self.content: U8 = np.zeros((spec.blocks, spec.block_size), np.uint8)
        self.pending = np.zeros(spec.blocks, np.bool_)

    def reshaped(self, spec: RegionSpec, committed: U64) -> Head:
        """Return a head of the shape `spec`, with what of this one stands and zeros behind it.

        Parameters
        ----------
        committed : (spec.blocks,) uint64
            Places of the committed parent in that shape: where it has content and we now have zeros is pending.
        """
        if spec == self.spec:
            return self
        head = Head(spec)
        same = (spec.kind, spec.block_size) == (self.spec.kind, self.spec.block_size)
        kept = min(spec.blocks, self.spec.blocks) if same else 0
        head.content[:kept] = self.content[:kept]
        head.pending[:kept] = self.pending[:kept]
        head.pending[kept:] = committed[kept:] != 0
        tail = spec.length % spec.block_size
        if tail and head.content[-1, tail:].any():
            head.content[-1, tail:] = 0
            head.pending[-1] = True
        return head

    def set(self, indices: I64, blocks: U8) -> None:
        """Take newer content, which is pending until it is committed."""
        self.content[indices] = blocks
        self.pending[indices] = True


class Carry:
    """Disk blocks that are not committed yet, per region, within a bound.

    Attributes
    ----------
    dropped : set of str
        Regions of which something was dropped for the bound.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = CARRY_BYTES if limit is None else limit
        self._parts: dict[str, list[tuple[I64, U8]]] = {}
        self._sizes: dict[str, int] = {}
        self.dropped: set[str] = set()

    def add(self, region: str, indices: I64, blocks: U8) -> None:
        """Remember blocks, or drop the whole region where that goes past the bound."""
        if region in self.dropped:
            return
        self._sizes[region] = self._sizes.get(region, 0) + blocks.nbytes
        if sum(self._sizes.values()) > self._limit:
            self.dropped.add(region)
            self._parts.pop(region, None)
            del self._sizes[region]
            return
        self._parts.setdefault(region, []).append((indices.copy(), blocks.copy()))

    def blocks(self, spec: RegionSpec) -> tuple[I64, U8] | None:
        """Return the newest content remembered of a region, as far as it lies within `spec`; None if nothing."""
        parts = self._parts.get(spec.name)
        if not parts or parts[0][1].shape[1] != spec.block_size:
            return None
        indices, blocks = newest(np.concatenate([i for i, _ in parts]), np.concatenate([b for _, b in parts]))
        inside = indices < spec.blocks
        return indices[inside], blocks[inside]

    def clear(self) -> None:
        """Forget everything: it is committed, or no longer wanted."""
        self._parts.clear()
        self._sizes.clear()
        self.dropped.clear()
