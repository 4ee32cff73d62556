"""What an NBD server serves: bytes of a disk of a capture, and which stretches are zeros without being read.

Refuses to read what is outside of the disk. Shared by the threads of all clients; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workbench.store import RegionView
from workbench.store.types import I64

__all__ = ["ServedDisk"]


class ServedDisk:
    """A disk as its clients see it.

    Attributes
    ----------
    name : str
        The region's.
    size, block : int
        Bytes.

    Raises
    ------
    MissingError, DamagedError, StoreError
        If the case does not say which blocks the disk has.
    """

    def __init__(self, region: RegionView) -> None:
        self._region = region
        self.name = region.spec.name
        self.size = region.spec.length
        self.block = region.spec.block_size
        self._starts, self._ends = _runs(region.nonzero(), self.block, self.size)

    def is_called(self, name: str) -> bool:
        """Return whether an export of this name is this disk."""
        return name in {"", self.name, self.name.removeprefix("disk:")}

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the disk.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        return self._region.read(offset, length)

    def stretches(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """Yield offset, length and whether there is content, for what lies from `offset` on, in order, all of it."""
        end = min(offset + length, self.size)
        run = int(self._ends.searchsorted(offset, "right"))
        while offset < end:
            start = int(self._starts[run]) if run < len(self._starts) else self.size
            if start > offset:
                yield offset, min(start, end) - offset, False
                offset = start
                continue
            stop = min(int(self._ends[run]), end)
            yield offset, stop - offset, True
            offset, run = stop, run + 1


def _runs(blocks: I64, size: int, length: int) -> tuple[I64, I64]:
    """Return where runs of blocks begin and end, in bytes."""
    if not len(blocks):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    cuts = np.flatnonzero(np.diff(blocks) != 1)
    starts = blocks[np.concatenate([[0], cuts + 1])] * size
    ends = (blocks[np.concatenate([cuts, [len(blocks) - 1]])] + 1) * size
    return starts, np.minimum(ends, length)
