"""Which bytes of a disk differ between two moments, to the sector: as captured, or as a file system sees them.

Costs what was written between the moments: the store names the clusters, and those are read from both. Refuses to
take a cluster for changed as a whole: sixteen files may lie in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from workbench.disk.parts import Part
from workbench.model import CLUSTER, CaptureId
from workbench.store import CaseStore
from workbench.store.types import I64

__all__ = ["SECTOR", "changed_clusters", "clipped", "differing", "joined", "part_pieces"]

SECTOR = 512
_BATCH = 16 << 20
"""Bytes of each moment compared at once."""
Read = Callable[[int, int], bytes]


def changed_clusters(store: CaseStore, before: CaptureId, after: CaptureId) -> dict[str, I64]:
    """Return, for every disk by its name, the indices of clusters whose captured content differs, ascending.

    Raises
    ------
    UsageError
        If the captures are of two guests.
    StoreError
    """
    return {
        name.removeprefix("disk:"): clusters
        for name, clusters in store.diff(before, after).items()
        if name.startswith("disk:")
    }


def differing(first: Read, second: Read, ranges: I64) -> I64:
    """Return where two readings of the same ranges differ.

    Parameters
    ----------
    first, second : callable
        Offset and length in bytes to bytes; fewer at the end of a disk.
    ranges : (n, 2) int64
        Offsets and lengths in bytes, ascending, not overlapping.

    Returns
    -------
    (m, 2) int64
        Offset and length of each run of differing sectors within one range; ranges that touch are joined.
    """
    found = [runs for at, size in _batches(ranges) for runs in _compared(first(at, size), second(at, size), at)]
    return joined(np.array(found, np.int64).reshape(-1, 2))


def _batches(ranges: I64) -> Iterator[tuple[int, int]]:
    for offset, length in joined(ranges).tolist():
        for at in range(offset, offset + length, _BATCH):
            yield at, min(_BATCH, offset + length - at)


def _compared(one: bytes, two: bytes, offset: int) -> Iterator[tuple[int, int]]:
    if one == two:
        return
    length = max(len(one), len(two))
    size = -(-length // SECTOR) * SECTOR
    first, second = (np.frombuffer(each.ljust(size, b"\0"), np.uint64).reshape(-1, SECTOR // 8) for each in (one, two))
    changed = np.flatnonzero((first != second).any(axis=1))
    for start, end in zip(*_runs(changed), strict=True):
        yield offset + start * SECTOR, min((end - start) * SECTOR, length - start * SECTOR)


def _runs(index: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Return the first, and one past the last, of each run of consecutive numbers."""
    if not len(index):
        return [], []
    cut = np.flatnonzero(np.diff(index) != 1)
    firsts = index[np.concatenate([[0], cut + 1])]
    lasts = index[np.concatenate([cut, [len(index) - 1]])] + 1
    return firsts.tolist(), lasts.tolist()


def joined(ranges: I64) -> I64:
    """Return ranges (offset, length) ascending, those that touch or overlap as one."""
    if not len(ranges):
        return ranges.reshape(-1, 2)
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    ends = np.maximum.accumulate(ranges.sum(axis=1))
    first = np.flatnonzero(np.concatenate([[True], ranges[1:, 0] > ends[:-1]]))
    starts, stops = ranges[first, 0], ends[np.concatenate([first[1:] - 1, [len(ranges) - 1]])]
    return np.stack([starts, stops - starts], axis=1)


def part_pieces(before: Part, after: Part, clusters: I64) -> I64:
    """Return where a file system differs between two moments as it was read, replayed journals included.

    Parameters
    ----------
    clusters : (n,) int64
        The disk's changed clusters, of `changed_clusters`.

    Returns
    -------
    (m, 2) int64
        Offsets on the disk and lengths, in bytes, of sectors that differ.
    """
    ranges = np.stack([clusters * CLUSTER, np.full(len(clusters), CLUSTER, np.int64)], axis=1)
    ranges = joined(
        np.concatenate([ranges, *(each for part in (before, after) for each in (part.replayed, part.cached))])
    )
    mine = [clipped(ranges, piece.disk, piece.disk + piece.length) for piece in after.volume.pieces]
    return differing(before.read, after.read, joined(np.concatenate(mine)) if mine else ranges[:0])


def clipped(ranges: I64, begin: int, end: int) -> I64:
    """Return what of ranges lies in [begin, end)."""
    starts, stops = np.maximum(ranges[:, 0], begin), np.minimum(ranges.sum(axis=1), end)
    keep = starts < stops
    return np.stack([starts[keep], (stops - starts)[keep]], axis=1)
