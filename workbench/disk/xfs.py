"""XFS by libfsxfs: names, metadata, content, extents; free space by our own walk of its trees. Only here is it used.

Refuses to replay the log (nobody outside of a kernel does) and to tell what was deleted: XFS removes names and extents,
and the library gives no way to what is left. Names that are not UTF-8 cannot be read by the library: they are counted
as damage.

Source of free space: linux/fs/xfs/libxfs/xfs_format.h (xfs_agf, xfs_alloc_rec, xfs_btree_block).
"""

from __future__ import annotations

import io
import stat
import struct
from collections.abc import Iterator
from typing import Any

import pyfsxfs

from workbench.disk.allocation import joined
from workbench.disk.content import RunContent
from workbench.disk.filesystem import Entry, Extent, Kind, State
from workbench.disk.image import Slice
from workbench.disk.library import LibraryFileSystem, Source
from workbench.disk.logs import xfs_log
from workbench.disk.signatures import Signature, identify
from workbench.errors import DiskError, UnsupportedError

__all__ = ["XfsFileSystem", "open_xfs"]

_MOST_GROUPS = 1 << 20
_SPARSE = 1
"""LIBFSXFS_EXTENT_FLAG_IS_SPARSE."""
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "character",
}


def open_xfs(volume: Slice, *, state: State | None = None) -> XfsFileSystem:
    """Open an XFS.

    Parameters
    ----------
    volume : Slice
    state : State, optional
        By default what its log says.

    Raises
    ------
    DiskError
        If it cannot be read.
    StoreError
    """
    signature = identify(volume)
    if signature.kind != "xfs":
        raise DiskError(f"no XFS: {signature.kind}")
    return XfsFileSystem(volume, signature, state or ("unreplayed" if xfs_log(volume) else "clean"))


class XfsFileSystem(LibraryFileSystem):
    """A file system read by libfsxfs; `open_xfs` makes it. As `FileSystem` says."""

    def __init__(self, volume: Slice, signature: Signature, state: State) -> None:
        super().__init__(volume, signature, state)
        raw = volume.read(0, 512)
        self._per_group, self._shift = int.from_bytes(raw[84:88], "big"), raw[124]
        self._source = Source(volume)
        self._volume = pyfsxfs.volume()
        try:
            self._volume.open_file_object(self._source)
            self._root = int(self._volume.root_directory.inode_number)
        except (OSError, RuntimeError, AttributeError) as error:
            self._fail("this XFS cannot be opened", error)

    # Names.

    def _listed(self, inode: int, path: str, *, first: bool = False) -> Iterator[Entry]:
        try:
            directory = self._inode(inode)
            count = int(directory.number_of_sub_file_entries)
        except (OSError, RuntimeError, DiskError) as error:
            if first:
                self._fail("the directory cannot be read", error)
            self._raise_store()
            self.note(f"directory cannot be read: {path}")
            return
        for number in range(count):
            try:
                child = directory.get_sub_file_entry(number)
                name = child.name
                entry = self._entry(f"{path.rstrip('/')}/{name}", child)
            except (OSError, RuntimeError, ValueError, TypeError, OverflowError):
                self._raise_store()
                self.note(f"an entry cannot be read in {path}")
                continue
            if name and "/" not in name and name not in (".", ".."):
                yield entry

    def _at(self, inode: int, path: str) -> Entry:
        return self._entry(path, self._inode(inode))

    def _inode(self, inode: int) -> Any:
        try:
            found = self._volume.get_file_entry_by_inode(inode)
        except (OSError, RuntimeError, OverflowError, ValueError) as error:
            self._fail("no such inode", error)
        if found is None:
            raise DiskError("no such inode", inode=inode)
        return found

    def _entry(self, path: str, found: Any) -> Entry:
        mode = int(found.file_mode)
        kind = _KINDS.get(stat.S_IFMT(mode), "unknown")
        return Entry(
            path=path,
            inode=int(found.inode_number),
            kind=kind,
            size=int(found.size),
            mode=stat.S_IMODE(mode),
            uid=int(found.owner_identifier),
            gid=int(found.group_identifier),
            links=int(found.number_of_links),
            modified_ns=int(found.get_modification_time_as_integer()),
            changed_ns=int(found.get_inode_change_time_as_integer()),
            accessed_ns=int(found.get_access_time_as_integer()),
            created_ns=self._created(found),
            target=self._target(found) if kind == "link" else None,
        )

    @staticmethod
    def _created(found: Any) -> int | None:
        try:
            time = found.get_creation_time_as_integer()
        except OSError:
            return None  # version 4 has none
        return int(time) if time else None

    def _target(self, found: Any) -> str | None:
        try:
            target = found.symbolic_link_target
        except (OSError, ValueError):
            self._raise_store()
            self.note(f"the target of link {int(found.inode_number)} cannot be read")
            return None
        return None if target is None else str(target)

    # Content.

    def open(self, inode: int) -> io.RawIOBase:
        """Return the content of an inode, seekable and read-only.

        Raises
        ------
        DiskError
            If it cannot be read, or is not one that has content.
        StoreError
        """
        found = self._inode(inode)
        if not stat.S_ISREG(int(found.file_mode)):
            raise DiskError("not one that has content", inode=inode)
        return RunContent(self.volume, list(self._runs(found)), int(found.size))

    def _runs(self, found: Any) -> Iterator[Extent]:
        """Yield the runs of a file by volume offset, cut at its size."""
        size, at = int(found.size), 0
        try:
            runs = [found.get_extent(number) for number in range(int(found.number_of_extents))]
        except OSError as error:
            self._raise_store()
            if stat.S_ISREG(int(found.file_mode)) and size:
                self._fail("where the content lies cannot be read", error)
            return
        for offset, length, flags in runs:
            count = min(int(length), size - at)
            if count <= 0:
                return
            place = -1 if int(flags) & _SPARSE else self._linear(int(offset))
            if place > self.volume.size - count:
                raise DiskError("content that lies outside of the volume", offset=at)
            yield Extent(at, place, count)
            at += count

    def _linear(self, offset: int) -> int:
        """Turn the library's offset, whose block number is group and block in the group, into bytes of the volume."""
        block, within = divmod(offset, self.cluster)
        return ((block >> self._shift) * self._per_group + (block & ((1 << self._shift) - 1))) * self.cluster + within

    def extents(self, inode: int) -> Iterator[Extent]:
        """Yield where an inode's content lies, by file offset, holes too; nothing for content kept in the inode.

        Raises
        ------
        DiskError
            If that cannot be read.
        StoreError
        """
        yield from self._placed(self._runs(self._inode(inode)))

    def deleted(self) -> Iterator[Entry]:
        """Refuse: nothing here can tell.

        Raises
        ------
        UnsupportedError
            Always.
        """
        raise UnsupportedError(
            "XFS does not remember deleted names", cure="Look for the file in an earlier capture, or carve."
        )

    def unallocated(self) -> Iterator[Extent]:
        """Yield the runs that no file uses (`file_offset` is 0).

        Raises
        ------
        DiskError
            If the trees of free space cannot be read.
        StoreError
        """
        for offset, length in joined(_free(self.volume)):
            yield from (Extent(0, disk, count) for _, disk, count in self.volume.places(offset, length) if disk >= 0)


def _free(volume: Slice) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of free space of every allocation group."""
    raw = volume.read(0, 512)
    block, per_group, groups = (struct.unpack_from(">I", raw, at)[0] for at in (4, 84, 88))
    version, sector = (struct.unpack_from(">H", raw, at)[0] for at in (100, 102))
    if not 512 <= block <= 65536 or not 0 < groups <= _MOST_GROUPS or not 512 <= sector <= block:
        raise DiskError("groups of allocation that cannot be", block=block, groups=groups)
    header = 56 if version & 15 == 5 else 16
    for group in range(groups):
        base = group * per_group * block
        head = volume.read(base + sector, 64)
        if head[:4] != b"XAGF":
            raise DiskError("a group of allocation without a header", group=group)
        for first, count in sorted(_leaves(volume, base, block, per_group, header, head)):
            if first + count <= per_group:
                yield base + first * block, count * block


def _leaves(
    volume: Slice, base: int, block: int, per_group: int, header: int, head: bytes
) -> Iterator[tuple[int, int]]:
    """Yield (first block, blocks) of the tree by block number: down its left side, then from leaf to leaf."""
    at, seen = struct.unpack_from(">I", head, 16)[0], set[int]()
    while at < per_group and at not in seen:
        seen.add(at)
        raw = volume.read(base + at * block, block)
        magic, level, count, _, right = struct.unpack_from(">4sHHII", raw, 0)
        if magic not in (b"AB3B", b"ABTB") or header + 8 * count > block:
            raise DiskError("a tree of free space that cannot be read", block=at)
        if level:
            (at,) = struct.unpack_from(">I", raw, header + 8 * ((block - header) // 12))
            continue
        yield from struct.iter_unpack(">II", raw[header : header + 8 * count])
        at = right
    if at != 0xFFFFFFFF:
        raise DiskError("a tree of free space that is a loop or breaks off", block=at)
