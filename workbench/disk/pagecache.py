"""A guest's page cache laid over its file systems: files as the guest would have read them at that instant.

Memory is told as a table (`FROM_MEMORY`) and a way to read it: this room never heard of kernels. Metadata that a file
system's journal held in memory goes over the volume before it is opened, so that names and inodes are those of the
guest; contents and sizes go over the files. Only ext2, ext3, ext4 and XFS: their inodes have one number in memory and
on the disk.

Refuses pieces that cannot be: outside of the volume, of an inode of another kind or generation than the disk's.
"""

from __future__ import annotations

import io
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.disk.content import PiecedContent
from workbench.disk.filesystem import Entry, Extent, FileSystem
from workbench.disk.image import Overlay, Slice
from workbench.store.types import I64

__all__ = ["FROM_MEMORY", "CachedFileSystem", "Held", "HeldFile", "PageCache", "Read"]

FROM_MEMORY = ("device", "uuid", "kind", "inode", "size", "mode", "links", "offset", "length", "address", "dirty")
"""Columns: the file system (three texts), inode (-1: metadata), bytes, `st_mode`, a count, bytes, bytes, physical,
newer than the disk."""
Read = Callable[[int, int], bytes]
"""Physical address and length to bytes."""
Ids = Callable[[I64], NDArray[np.uint8]]
"""Physical addresses to the digests of the pages that they lie in, (n, 32)."""
_KINDS = ("ext2", "ext3", "ext4", "xfs")
_LARGEST = 1 << 62
_UNIT = 128
"""Bytes in which metadata is compared: an inode's record is a multiple, and begins at one."""
_MOST_METADATA = 256 << 20


@dataclass(slots=True)
class HeldFile:
    """What memory has of one file; pieces by offset, none over another.

    Attributes
    ----------
    size, mode, links : int
        Of the inode in memory.
    offset, length, address : (n,) int64
        Bytes in the file, bytes, physical address.
    dirty : bool
        Whether a piece is newer than the disk.
    """

    size: int
    mode: int
    links: int
    offset: I64
    length: I64
    address: I64
    dirty: bool


@dataclass(slots=True)
class Held:
    """What memory has of one file system.

    Attributes
    ----------
    metadata : (n, 3) int64
        Offset in the volume, length, physical address.
    files : dict of int to HeldFile
        By inode.
    pieces : (n, 4) int64
        Inode, offset in the file, length, physical address: as memory has them, a page or a block each.
    read, ids : callable
    """

    metadata: I64
    files: dict[int, HeldFile]
    pieces: I64
    read: Read
    ids: Ids

    def over(self, volume: Slice) -> tuple[Slice, I64]:
        """Lay the metadata over a volume.

        Returns
        -------
        Slice
        (n, 2) int64
            Offsets on the disk and lengths of what is not the same beneath.

        Raises
        ------
        DiskError, StoreError
        """
        overlay, ranges = Overlay(volume.under, cluster=512, most=_MOST_METADATA), []
        for offset, length, address in self.metadata.tolist():
            if offset < 0 or offset + length > volume.size:
                continue
            data = self.read(address, length)
            under = volume.read(offset, length)
            if data == under:
                continue
            volume.patch(overlay, offset, data)
            for at in range(0, length, _UNIT):
                if data[at : at + _UNIT] != under[at : at + _UNIT]:
                    ranges += [(disk, count) for _, disk, count in volume.places(offset + at, _UNIT) if disk >= 0]
        return (volume.over(overlay) if ranges else volume), np.array(ranges, np.int64).reshape(-1, 2)


@dataclass(slots=True)
class PageCache:
    """What memory has of a moment's file systems.

    Parameters
    ----------
    frame : DataFrame
        With the columns `FROM_MEMORY`.
    read, ids : callable
    """

    frame: pd.DataFrame
    read: Read
    ids: Ids
    _held: dict[str, Held | None] = field(default_factory=dict)

    def of(self, name: str, kind: str, uuid: str) -> Held | None:
        """Return what is held of a volume; None if it was not mounted, or is of a kind that cannot be joined.

        Of several mounted file systems with one UUID the one counts whose device has the volume's name.
        """
        if name not in self._held:
            mine = self.system(name, kind, uuid)
            self._held[name] = None if mine is None else self._of_system(*mine)
        return self._held[name]

    def system(self, name: str, kind: str, uuid: str) -> tuple[str, str] | None:
        """Return device and UUID by which memory knows a volume; None as `of` says."""
        known = [each for each in self._systems() if not uuid or not each[1] or each[1] == uuid.lower()]
        mine = [each for each in known if each[0] == name] or [each for each in known if each[1] and uuid]
        return mine[0] if kind in _KINDS and len(mine) == 1 else None

    def _systems(self) -> list[tuple[str, str]]:
        rows = self.frame[["device", "uuid", "kind"]].drop_duplicates()
        return [(str(device), str(uuid)) for device, uuid, kind in rows.to_numpy().tolist() if kind in _KINDS]

    def _of_system(self, device: str, uuid: str) -> Held:
        rows = self.frame[(self.frame["device"] == device) & (self.frame["uuid"] == uuid)]
        return _held(rows, self.read, self.ids)


def _held(rows: pd.DataFrame, read: Read, ids: Ids) -> Held:
    columns = {name: rows[name].to_numpy(np.int64) for name in ("inode", "offset", "length", "address")}
    sound = (columns["offset"] >= 0) & (columns["length"] > 0) & (columns["offset"] < _LARGEST)
    rows, columns = rows[sound], {name: values[sound] for name, values in columns.items()}
    inode, dirty = columns["inode"], rows["dirty"].to_numpy(bool)
    told = {name: rows[name].to_numpy(np.int64) for name in ("size", "mode", "links")}
    order = np.lexsort((columns["offset"], inode))
    cuts = np.flatnonzero(np.diff(inode[order], prepend=-2, append=-2))
    files = {}
    for first, last in pairwise(cuts.tolist()):
        part = order[first:last]
        if inode[part[0]] >= 0:
            size, mode, links = (int(told[name][part[0]]) for name in ("size", "mode", "links"))
            pieces = _pieces(*(columns[name][part] for name in ("offset", "length", "address")))
            files[int(inode[part[0]])] = HeldFile(size, mode, links, *pieces, bool(dirty[part].any()))
    meta = np.stack([columns[name][inode == -1] for name in ("offset", "length", "address")], axis=1)
    contents = np.stack([columns[name][inode >= 0] for name in ("inode", "offset", "length", "address")], axis=1)
    return Held(meta, files, contents, read, ids)


def _pieces(offset: I64, length: I64, address: I64) -> tuple[I64, I64, I64]:
    """Return pieces that do not overlap, those that go on both in the file and in memory as one."""
    ends = offset + length
    clear = np.concatenate([[True], offset[1:] >= np.maximum.accumulate(ends)[:-1]])
    offset, length, address = offset[clear], length[clear], address[clear]
    goes_on = (offset[1:] == (offset + length)[:-1]) & (address[1:] == (address + length)[:-1])
    first = np.flatnonzero(np.concatenate([[True], ~goes_on]))
    return offset[first], np.add.reduceat(length, first), address[first]


class CachedFileSystem:
    """A file system under the page cache; as `FileSystem` says.

    Parameters
    ----------
    under : FileSystem
        Opened over the metadata that memory holds.
    held : Held

    Attributes
    ----------
    newer : set of int
        Inodes of which a byte or the size is not on the disk.
    """

    def __init__(self, under: FileSystem, held: Held) -> None:
        self._under = under
        self._held = held
        self.kind, self.label, self.uuid = under.kind, under.label, under.uuid
        self.state, self.cluster = under.state, under.cluster
        self.newer: set[int] = {inode for inode, each in held.files.items() if each.dirty and each.links}

    def _joined(self, entry: Entry) -> Entry:
        """Return an entry with the size that the guest's kernel had."""
        file = self._file(entry)
        if file is None or file.size == entry.size:
            return entry
        self.newer.add(entry.inode)
        return replace(entry, size=file.size)

    def _file(self, entry: Entry) -> HeldFile | None:
        file = self._held.files.get(entry.inode)
        if file is None or entry.kind != "file" or not stat.S_ISREG(file.mode) or not file.links:
            return None
        return file if 0 <= file.size <= _LARGEST else None

    def walk(self) -> Iterator[Entry]:
        """Yield every entry once; as `FileSystem.walk`."""
        return map(self._joined, self._under.walk())

    def damage(self) -> list[str]:
        """Return what could not be read so far, a line each."""
        return self._under.damage()

    def children(self, path: str) -> Iterator[Entry]:
        """Yield the entries of a directory; as `FileSystem.children`."""
        return map(self._joined, self._under.children(path))

    def lookup(self, path: str) -> Entry:
        """Return the entry with this path; as `FileSystem.lookup`."""
        return self._joined(self._under.lookup(path))

    def open(self, inode: int) -> io.RawIOBase:
        """Return the content of an inode as the guest would have read it; as `FileSystem.open`."""
        under, file = self._under.open(inode), self._held.files.get(inode)
        usable = file is not None and stat.S_ISREG(file.mode) and file.links and 0 <= file.size <= _LARGEST
        return _Joined(under, file, self._held.read) if usable and file is not None else under

    def beneath(self, inode: int) -> io.RawIOBase:
        """Return the content of an inode as the disk alone has it; as `FileSystem.open`."""
        return self._under.open(inode)

    def extents(self, inode: int) -> Iterator[Extent]:
        """Yield where an inode's content lies on the disk."""
        return self._under.extents(inode)

    def deleted(self) -> Iterator[Entry]:
        """Yield what the file system still remembers of deleted entries."""
        return self._under.deleted()

    def unallocated(self) -> Iterator[Extent]:
        """Yield the runs that no file uses."""
        return self._under.unallocated()


class _Joined(PiecedContent):
    """A file's content on the disk with the pieces that memory has over it; zeros where neither has any."""

    def __init__(self, under: io.RawIOBase, file: HeldFile, read: Read) -> None:
        super().__init__(file.size)
        self._under = under
        self._file = file
        self._read = read
        self._starts = file.offset.tolist()

    def _part(self, offset: int, end: int) -> bytes:
        at = bisect_right(self._starts, offset) - 1
        inside = offset - self._starts[at] if at >= 0 else -1
        if 0 <= inside < self._file.length[at]:
            count = min(end - offset, int(self._file.length[at]) - inside)
            return self._read(int(self._file.address[at]) + inside, count)
        following = self._starts[at + 1] if at + 1 < len(self._starts) else end
        return self._beneath(offset, min(end, following) - offset)

    def _beneath(self, offset: int, length: int) -> bytes:
        self._under.seek(offset)
        found = b""
        while len(found) < length and (data := self._under.read(length - len(found))):
            found += data
        return found.ljust(length, b"\0")
