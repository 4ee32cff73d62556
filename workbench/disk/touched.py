"""Which inodes the changed bytes between two moments belong to, and how many clusters each: the fast way to changes.

An inode that is not named here has the same content in both moments: the same bytes of the disk in the same order,
and none of them differ. Refuses to say so of content of which it is not known where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.disk.extentmap import DATA, ExtentMap
from workbench.disk.parts import Part
from workbench.disk.pieces import differing, joined, part_pieces
from workbench.disk.recached import recached
from workbench.model import CLUSTER
from workbench.store.types import I64

__all__ = ["Touched", "touched"]

_STREAM = (1 << 48) - 1
"""Bits of an inode's number of NTFS that are the record's; above is the stream."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What lies between two moments of one volume.

    Attributes
    ----------
    pieces : (n, 2) int64
        Offset on the disk and length of bytes that differ.
    inodes : (n,) int64
        Those whose content may differ.
    unplaced : (n,) int64
        Those of which it is not known.
    before, after : (n, 2) int64
        Inode and changed cluster of the disk, by the extents of each moment; ascending, each once.
    logged_before, logged_after : (n,) int64
        Inodes with content that only the journal had.
    cached : (n,) int64
        Those of which a page that either moment has in memory differs.
    """

    pieces: I64
    inodes: I64
    unplaced: I64
    before: I64
    after: I64
    logged_before: I64
    logged_after: I64
    cached: I64

    def clusters(self, before: int, after: int) -> int:
        """Return how many changed clusters an inode's content lies in, -1 for an inode that is not in a moment."""
        found = [
            each[slice(*np.searchsorted(each[:, 0], [inode, inode + 1])), 1]
            for each, inode in ((self.before, before), (self.after, after))
            if inode >= 0
        ]
        return len(np.unique(np.concatenate(found))) if found else 0


def touched(before: Part, after: Part, maps: tuple[ExtentMap, ExtentMap], clusters: I64) -> Touched:
    """Return what changed bytes belong to.

    Parameters
    ----------
    before, after : Part
        One file system at two moments.
    maps : (ExtentMap, ExtentMap)
        Of the same.
    clusters : (n,) int64
        Changed clusters of their disk.

    Raises
    ------
    DiskError, StoreError
    """
    pieces = part_pieces(before, after, clusters)
    owned = [_owned(each, pieces) for each in maps]
    inodes = [*(each[:, 0] for each in owned), maps[0].moved(maps[1])]
    if after.filesystem.kind == "ntfs":
        inodes += [_records(part, each, pieces) for part, each in zip((before, after), maps, strict=True)]
    unplaced = np.union1d(maps[0].elsewhere(), maps[1].elsewhere()) if len(pieces) else np.zeros(0, np.int64)
    return Touched(
        pieces,
        np.unique(np.concatenate(inodes)),
        unplaced,
        owned[0],
        owned[1],
        _logged(before, maps[0]),
        _logged(after, maps[1]),
        recached(before, after),
    )


def _owned(extents: ExtentMap, pieces: I64) -> I64:
    """Return each (inode, cluster) whose bytes are among the pieces."""
    starts, ends = pieces[:, 0], pieces.sum(axis=1)
    ranges, rows = extents.touching(starts, ends)
    mine = extents.kinds(rows) == DATA
    ranges, rows = ranges[mine], rows[mine]
    first = np.maximum(starts[ranges], extents.start[rows]) // CLUSTER
    last = (np.minimum(ends[ranges], extents.end[rows]) - 1) // CLUSTER
    count = last - first + 1
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    pairs = np.stack([np.repeat(extents.owners(rows), count), np.repeat(first, count) + nth], axis=1)
    return np.unique(pairs, axis=0)


def _logged(part: Part, extents: ExtentMap) -> I64:
    """Return the inodes whose content a replay of the journal changed."""
    if not len(part.replayed):
        return np.zeros(0, np.int64)
    pieces = differing(part.raw.read, part.read, joined(part.replayed))
    return np.unique(_owned(extents, pieces)[:, 0])


def _records(part: Part, extents: ExtentMap, pieces: I64) -> I64:
    """Return the inodes of NTFS whose records changed: how much of a content is valid is told there alone."""
    size = _record_size(part)
    ranges, rows = extents.touching(pieces[:, 0], pieces.sum(axis=1))
    mine = extents.owners(rows) == 0
    found = []
    for at, row in zip(ranges[mine].tolist(), rows[mine].tolist(), strict=True):
        shift = extents.file_offset[extents.row[row]] - extents.start[row]
        begin = max(int(pieces[at, 0]), int(extents.start[row])) + shift
        end = min(int(pieces[at].sum()), int(extents.end[row])) + shift
        found.append(np.arange(begin // size, -(-end // size)))
    records = np.concatenate(found) if found else np.zeros(0, np.int64)
    return np.unique(extents.inode[np.isin(extents.inode & _STREAM, records) & (extents.inode >= 0)])


def _record_size(part: Part) -> int:
    """Return the bytes of a record: a power of two where the boot sector's byte 64 is negative, else clusters."""
    told = part.volume.read(64, 1)
    if told and told[0] > 127:
        return max(512, 1 << min(256 - told[0], 16))
    return max(512, (told[0] if told else 0) * part.filesystem.cluster)
