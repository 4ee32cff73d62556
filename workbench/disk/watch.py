"""What the fate of a path hangs on: the bytes of the disk from which its metadata and its content are read.

As long as none of them changes, neither in its place nor by what the journal would write there, the path is as it
was. For ext2, ext3 and ext4: the inode records and blocks of every directory on the way, of the file, and the blocks
of their extent trees (Linux `fs/ext4/ext4_extents.h`). Refuses to answer (None) for what it cannot follow: then every
moment has to be opened.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from workbench.disk.content import RunContent
from workbench.disk.filesystem import Entry, Extent
from workbench.disk.image import Image, Slice
from workbench.disk.inodes import InodeTable, inode_table
from workbench.disk.log_targets import needs_recovery, read_log
from workbench.disk.pagecache import Held
from workbench.disk.parts import Part
from workbench.disk.pieces import clipped, joined
from workbench.disk.recached import fingerprint
from workbench.errors import DiskError, UnsupportedError
from workbench.model import CLUSTER
from workbench.store import CaptureView
from workbench.store.types import I64

__all__ = ["Watch", "watch"]

_JOURNAL = 8
_EXTENTS_FLAG, _INLINE_FLAG = 0x80000, 0x10000000
_EXTENTS_MAGIC = 0xF30A
_MOST_NODES = 4096
_TABLE = 17408
"""Bytes of a GPT at a disk's beginning."""
_NONE = b""


@dataclass(slots=True)
class Watch:
    """What to look at in later captures.

    Attributes
    ----------
    part : Part
        Only its shape is used: its name, its volume's pieces.
    block : int
        Bytes of a block of the file system.
    ranges : list of (int, int)
        Offset and length on the disk of all that metadata is read from.
    content : list of (int, int)
        The same of the content.
    journal : list of Extent
        Where the journal lies in the volume.
    """

    part: Part
    block: int
    ranges: list[tuple[int, int]] = field(default_factory=list)
    content: list[tuple[int, int]] = field(default_factory=list)
    journal: list[Extent] = field(default_factory=list)

    def logged(self, view: CaptureView, *, content_only: bool = False) -> bytes | None:
        """Return a digest of what the journal of a capture would write over what is watched; None if it is not known.

        Raises
        ------
        StoreError
        """
        raw = self.part.volume.over(Image(view, f"disk:{self.part.disk}"))
        if not needs_recovery(raw.read(1024, 1024)):
            return _NONE
        size = max((run.file_offset + run.length for run in self.journal), default=0)
        log = read_log(RunContent(raw, self.journal, size)) if size else None
        if log is None or log.block != self.block:
            return None
        try:
            return log.fingerprint(self._watched(log.copies.keys() | log.revoked.keys(), content_only))
        except DiskError:
            return None

    def _watched(self, blocks: Iterable[int], content_only: bool) -> dict[int, list[tuple[int, int]]]:
        """Return which blocks of the file system are watched, and from where to where in each."""
        ranges = self._joined(content_only)
        starts, ends = ranges[:, 0], ranges.sum(axis=1)
        found: dict[int, list[tuple[int, int]]] = {}
        for each in blocks:
            for offset, disk, length in self.part.volume.places(each * self.block, self.block):
                first, last = np.searchsorted(ends, disk, "right"), np.searchsorted(starts, disk + length, "left")
                shift = offset - each * self.block - disk
                spans = zip(starts[first:last].tolist(), ends[first:last].tolist(), strict=True)
                mine = [(max(begin, disk) + shift, min(end, disk + length) + shift) for begin, end in spans]
                if disk >= 0 and mine:
                    found.setdefault(each, []).extend(mine)
        return found

    def cached(self, held: Held | None, inode: int, *, content_only: bool = False) -> bytes:
        """Return a digest of what a moment's memory has over what is watched, and of an inode's content (-1: none).

        Raises
        ------
        StoreError
        """
        return fingerprint(held, self.part, self._joined(content_only), inode)

    def _joined(self, content_only: bool) -> I64:
        pairs = self.content if content_only else self.ranges + self.content
        return joined(np.array(pairs, np.int64).reshape(-1, 2))

    def written(self, before: CaptureView, after: CaptureView, clusters: I64, *, content_only: bool = False) -> bool:
        """Tell whether any byte that is watched differs in its place between two captures.

        Parameters
        ----------
        clusters : (n,) int64
            Clusters of the disk that differ between them.

        Raises
        ------
        StoreError
        """
        watched = self._joined(content_only)
        if not len(watched) or not len(clusters):
            return False
        images = [Image(view, f"disk:{self.part.disk}") for view in (before, after)]
        starts, ends = watched[:, 0], watched.sum(axis=1)
        for begin in (clusters * CLUSTER).tolist():
            mine = slice(np.searchsorted(ends, begin, "right"), np.searchsorted(starts, begin + CLUSTER, "left"))
            for offset, length in clipped(watched[mine], begin, begin + CLUSTER).tolist():
                if images[0].read(offset, length) != images[1].read(offset, length):
                    return True
        return False


def watch(part: Part, chain: list[Entry]) -> Watch | None:
    """Return what a path hangs on; None where that cannot be told.

    Parameters
    ----------
    part : Part
    chain : list of Entry
        The root, the directories on the way, and the file if it is there.

    Raises
    ------
    StoreError
    """
    table = inode_table(part)
    if table is None:
        return None
    found = Watch(part, part.filesystem.cluster)
    if part.volume.pieces and part.volume.pieces[0].disk:
        found.ranges.append((0, _TABLE))
    try:
        for entry in chain:
            _put(found, table, entry)
        found.journal = _in_volume(part.volume, list(part.filesystem.extents(_JOURNAL)))
        found.ranges += table.on_disk(_JOURNAL)
    except (DiskError, UnsupportedError, struct.error):
        return None
    return found


def _put(found: Watch, table: InodeTable, entry: Entry) -> None:
    record = table.record(entry.inode)
    flags = struct.unpack_from("<I", record, 0x20)[0]
    if (
        not flags & (_EXTENTS_FLAG | _INLINE_FLAG)
        and entry.kind in {"file", "directory"}
        and entry.size > 12 * found.block
    ):
        raise DiskError("blocks by indirection are not followed here", inode=entry.inode)
    found.ranges += table.on_disk(entry.inode)
    if flags & _EXTENTS_FLAG:
        found.ranges += _tree(found, record[0x28 : 0x28 + 60])
    extents = (
        [] if entry.kind not in {"file", "directory", "link"} else list(found.part.filesystem.extents(entry.inode))
    )
    mine = found.content if entry.kind == "file" else found.ranges
    mine += [(extent.offset, extent.length) for extent in extents if extent.offset >= 0]


def _tree(found: Watch, root: bytes) -> list[tuple[int, int]]:
    """Return where the inner blocks of an extent tree lie on the disk."""
    ranges: list[tuple[int, int]] = []
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        magic, entries, _, depth = struct.unpack_from("<HHHH", node, 0)
        if magic != _EXTENTS_MAGIC or not depth:
            continue
        for at in range(12, min(12 + 12 * entries, len(node) - 11), 12):
            low, high = struct.unpack_from("<IH", node, at + 4)
            block = high << 32 | low
            if block in seen:
                continue
            seen.add(block)
            if len(seen) > _MOST_NODES:
                raise DiskError("a tree of extents with too many blocks", most=_MOST_NODES)
            places = found.part.volume.places(block * found.block, found.block)
            ranges += [(disk, length) for _, disk, length in places if disk >= 0]
            waiting.append(found.part.volume.read(block * found.block, found.block).ljust(12, b"\0"))
    return ranges


def _in_volume(volume: Slice, extents: list[Extent]) -> list[Extent]:
    """Return extents with offsets in the volume instead of on the disk."""
    return [
        Extent(extent.file_offset, extent.offset - piece.disk + piece.offset, extent.length)
        for extent in extents
        for piece in volume.pieces
        if extent.offset >= 0 and piece.disk <= extent.offset < piece.disk + piece.length
    ]
