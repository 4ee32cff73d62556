"""Where inodes lie on the disk: their record's bytes, for file systems whose layout tells it without a search.

For ext2, ext3 and ext4: an inode's place follows from the superblock and the group descriptors (Linux
`fs/ext4/ext4.h`, `struct ext4_super_block`, `struct ext4_group_desc`). Other file systems have no answer here, and
say so with None. Refuses layouts it does not know (meta_bg), and numbers that lie outside.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workbench.disk.parts import Part
from workbench.errors import DiskError
from workbench.store.types import I64

__all__ = ["InodeTable", "cached_inodes", "generations", "inode_table", "replayed_inodes"]

_MAGIC = 0xEF53
_META_BG, _64BIT = 0x10, 0x80
_MOST_GROUPS = 1 << 20
_GENERATION = 0x64
"""Offset of `i_generation` in an inode."""


@dataclass(frozen=True, slots=True)
class InodeTable:
    """The inode tables of an ext file system.

    Attributes
    ----------
    part : Part
    per_group : int
        Inodes in a group.
    size : int
        Bytes of an inode's record.
    tables : (groups,) int64
        Offset of each group's table in the volume, bytes.
    """

    part: Part
    per_group: int
    size: int
    tables: I64

    def place(self, inode: int) -> int:
        """Return the offset of an inode's record in the volume, -1 if there is no such inode."""
        group, index = divmod(inode - 1, self.per_group)
        if inode < 1 or group >= len(self.tables):
            return -1
        return int(self.tables[group]) + index * self.size

    def record(self, inode: int) -> bytes:
        """Return an inode's record; empty if there is no such inode.

        Raises
        ------
        DiskError, StoreError
        """
        place = self.place(inode)
        return b"" if place < 0 else self.part.volume.read(place, self.size)

    def on_disk(self, inode: int) -> list[tuple[int, int]]:
        """Return (offset, length) on the disk of an inode's record."""
        place = self.place(inode)
        return [] if place < 0 else [(at, size) for _, at, size in self.part.volume.places(place, self.size) if at >= 0]

    def generations(self, inodes: I64) -> I64:
        """Return `i_generation` of inodes, -1 for those that are not there.

        Raises
        ------
        DiskError, StoreError
        """
        found = np.full(len(inodes), -1, np.int64)
        group, index = np.divmod(inodes - 1, self.per_group)
        for each in np.unique(group[(inodes > 0) & (group < len(self.tables))]).tolist():
            mine = np.flatnonzero((group == each) & (inodes > 0))
            first, last = int(index[mine].min()), int(index[mine].max())
            data = self.part.volume.read(int(self.tables[each]) + first * self.size, (last - first + 1) * self.size)
            whole = len(data) // self.size
            records = np.frombuffer(data, np.uint8, whole * self.size).reshape(whole, self.size)
            told = np.ascontiguousarray(records[:, _GENERATION : _GENERATION + 4]).view("<u4").reshape(-1)
            there = index[mine] - first < whole
            found[mine[there]] = told[index[mine[there]] - first]
        return found

    def within(self, offset: int, length: int) -> Iterator[int]:
        """Yield the inodes whose records touch a range of the volume."""
        order = np.argsort(self.tables, kind="stable")
        starts = self.tables[order]
        span = self.per_group * self.size
        first = int(np.searchsorted(starts, offset - span, "right"))
        for at in range(first, int(np.searchsorted(starts, offset + length, "left"))):
            low = max(0, offset - int(starts[at])) // self.size
            high = min(self.per_group, -(-(offset + length - int(starts[at])) // self.size))
            yield from range(int(order[at]) * self.per_group + low + 1, int(order[at]) * self.per_group + high + 1)


def inode_table(part: Part) -> InodeTable | None:
    """Return where inodes lie; None for file systems for which this module cannot tell.

    Raises
    ------
    StoreError
    """
    if not part.filesystem.kind.startswith("ext"):
        return None
    head = part.volume.read(1024, 1024)
    if len(head) < 1024 or struct.unpack_from("<H", head, 0x38)[0] != _MAGIC:
        return None
    inodes, first_block, log_size = (struct.unpack_from("<I", head, at)[0] for at in (0, 0x14, 0x18))
    per_group = struct.unpack_from("<I", head, 0x28)[0]
    revision, incompatible = (struct.unpack_from("<I", head, at)[0] for at in (0x4C, 0x60))
    size = struct.unpack_from("<H", head, 0x58)[0] if revision else 128
    wide = incompatible & _64BIT
    step = struct.unpack_from("<H", head, 0xFE)[0] if wide else 32
    if incompatible & _META_BG or log_size > 6 or not per_group or not 128 <= size <= 4096 or not 32 <= step <= 1024:
        return None
    block = 1024 << log_size
    groups = min(-(-inodes // per_group), _MOST_GROUPS)
    return _table(part, per_group, size, block, (first_block + 1) * block, step, groups)


def _table(part: Part, per_group: int, size: int, block: int, start: int, step: int, groups: int) -> InodeTable | None:
    data = part.volume.read(start, groups * step)
    groups = len(data) // step
    rows = np.frombuffer(data, np.uint8, groups * step).reshape(groups, step)
    tables = np.ascontiguousarray(rows[:, 8:12]).view("<u4").reshape(-1).astype(np.int64)
    if step >= 64:
        tables += np.ascontiguousarray(rows[:, 0x28:0x2C]).view("<u4").reshape(-1).astype(np.int64) << 32
    tables = np.where((tables < 1) | (tables > part.volume.size // block), part.volume.size // block, tables)
    return InodeTable(part, per_group, size, tables * block)


def generations(part: Part, inodes: I64) -> I64:
    """Return the generation of each inode, -1 where there is none to be told.

    Raises
    ------
    StoreError
    """
    table = inode_table(part)
    if table is None:
        return np.full(len(inodes), -1, np.int64)
    try:
        return table.generations(inodes)
    except DiskError:
        return np.full(len(inodes), -1, np.int64)


def replayed_inodes(part: Part) -> set[int]:
    """Return the inodes whose records a replay of the journal changed.

    Raises
    ------
    StoreError
    """
    table = inode_table(part) if len(part.replayed) else None
    if table is None:
        return set()
    return {inode for offset, length in _in_volume(part, part.replayed) for inode in _differing(table, offset, length)}


def cached_inodes(part: Part) -> set[int]:
    """Return the inodes whose records are as the page cache has them, not the disk.

    Raises
    ------
    StoreError
    """
    table = inode_table(part) if len(part.cached) else None
    if table is None:
        return set()
    return {inode for offset, length in _in_volume(part, part.cached) for inode in table.within(offset, length)}


def _in_volume(part: Part, ranges: I64) -> Iterator[tuple[int, int]]:
    """Yield ranges of the disk as offset and length in the volume."""
    for piece in part.volume.pieces:
        for offset, length in ranges.tolist():
            begin, end = max(offset, piece.disk), min(offset + length, piece.disk + piece.length)
            if begin < end:
                yield begin - piece.disk + piece.offset, end - begin


def _differing(table: InodeTable, offset: int, length: int) -> Iterator[int]:
    """Yield the inodes in a range of the volume whose records are not as they were captured."""
    for inode in table.within(offset, length):
        for at, size in table.on_disk(inode):
            if table.part.raw.read(at, size) != table.part.read(at, size):
                yield inode
