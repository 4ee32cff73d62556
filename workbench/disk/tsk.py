"""File systems that The Sleuth Kit reads: ext2, ext3, ext4, NTFS, FAT12, FAT16, FAT32, exFAT. Only here is it used.

What cannot be read is counted in `damage`; an error of the store beneath is raised, never taken for damage of the
guest's. Refuses to replay a journal (`workbench.disk.journal` does), to follow links, and encrypted content of NTFS.

Times of FAT and exFAT have no zone that can be relied on: they are taken as UTC. An alternate data stream of NTFS is an
entry `name:stream` whose inode is that of the file with the attribute's id, plus one, in the bits from 48 up.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator
from typing import Any

from workbench.disk.allocation import free_runs
from workbench.disk.dirents import Dirents
from workbench.disk.filesystem import Entry, Extent, Kind, State
from workbench.disk.image import Overlay, Slice
from workbench.disk.signatures import ext_superblock, identify
from workbench.disk.tsk_content import KINDS, STREAM_SHIFT, TskContent, decoded
from workbench.errors import DiskError

__all__ = ["KINDS", "STREAM_SHIFT", "TskFileSystem", "open_tsk"]


MOST_INDEX = 32 << 20
"""Bytes of an index of NTFS at most: about 250,000 names. The library takes time with their square: 100,000 take half a
minute, and this many a few."""
_META_KINDS: dict[int, Kind] = {
    1: "file", 2: "directory", 3: "fifo", 4: "character", 5: "block", 6: "link", 8: "socket"
}  # fmt: skip
_DIRECTORY = 2
"""TSK_FS_META_TYPE_DIR."""
_VIRTUAL = (10, 11)
_FREE = 2
"""TSK_FS_NAME_FLAG_UNALLOC and TSK_FS_META_FLAG_UNALLOC."""


def open_tsk(volume: Slice, *, state: State | None = None) -> TskFileSystem:
    """Open the file system of a volume; with a damaged superblock of ext, by one of its copies.

    Parameters
    ----------
    volume : Slice
        Of an image, or of an overlay over one.
    state : State, optional
        By default what the superblock says: "unreplayed" if a journal has to be replayed.

    Raises
    ------
    UnsupportedError
        If it has a feature that the library does not know (bigalloc).
    DiskError
        If the library cannot read it.
    StoreError
    """
    signature = identify(volume)
    if signature.kind not in KINDS:
        raise DiskError(f"no file system that can be read here: {signature.kind}", note=signature.note)
    damage = []
    if signature.kind.startswith("ext") and ext_superblock(volume.read(1024, 1024)) is None:
        volume, damage = _mended(volume, signature.backup), [signature.note]
    found = TskFileSystem(volume, signature, state or ("unreplayed" if signature.dirty else "clean"))
    found.note(*damage)
    return found


def _mended(volume: Slice, backup: int) -> Slice:
    """Put a copy of the superblock over the damaged one, in memory."""
    overlay = Overlay(volume.under, cluster=1024)
    volume.patch(overlay, 1024, volume.read(backup, 1024))
    return volume.over(overlay)


class TskFileSystem(TskContent):
    """A file system read by The Sleuth Kit; `open_tsk` makes it. As `FileSystem` says."""

    # Names.

    def _listed(self, inode: int, path: str, *, first: bool = False) -> Iterator[Entry]:
        base = path.rstrip("/")
        for name, file in self._files(inode, path, first=first):
            entry = self._entry(f"{base}/{decoded(name)}", file)
            yield entry
            yield from self._streams(entry, file)

    def _at(self, inode: int, path: str) -> Entry:
        return self._entry(path, self._open_meta(inode))

    def _files(self, inode: int, path: str, *, first: bool = False) -> Iterator[tuple[bytes, Any]]:
        """Yield the names of a directory with their files; those without an inode are counted."""
        if self.kind.startswith("ext"):
            yield from self._dirents(inode, path, first=first)
            return
        for name, file in self._told(inode, path, first=first):
            if not int(file.info.name.flags) & _FREE:
                yield name, file

    def _dirents(self, inode: int, path: str, *, first: bool) -> Iterator[tuple[bytes, Any]]:
        try:
            content = self._content_of(self._open_meta(inode), 0)
            names = Dirents(content, self.cluster)
            for name, number in names:
                try:
                    yield name, self._open_meta(number)
                except DiskError:
                    self.note(f"no inode can be read for {path.rstrip('/')}/{decoded(name)}")
        except DiskError:
            if first:
                raise
            self.note(f"directory cannot be read: {path}")
            return
        if names.damaged:
            self.note(f"{names.damaged} blocks of a directory are damaged: {path}")

    def _too_many(self, inode: int, path: str, *, first: bool) -> bool:
        """Tell whether a directory has more names than the library can go through, and note it."""
        if self._index_bytes(inode) <= MOST_INDEX:
            return False
        words = f"a directory with more names than can be gone through is left out: {path}"
        if first:
            raise DiskError(words, cure="Export the disk and list it with another tool.")
        self.note(words)
        return True

    def _told(self, inode: int, path: str, *, first: bool = False) -> Iterator[tuple[bytes, Any]]:
        """Yield the names of a directory as the library has them, also those deleted."""
        if self._too_many(inode, path, first=first):
            return
        try:
            directory = self._fs.open_dir(inode=inode)
            size = int(directory.size)
        except (OSError, RuntimeError) as error:
            if first:
                self._fail("the root directory cannot be read", error)
            self._raise_store()
            self.note(f"directory cannot be read: {path}")
            return
        for _ in range(size):
            try:
                file = next(directory)
            except StopIteration:
                return
            except (OSError, RuntimeError):
                self._raise_store()
                self.note(f"a name cannot be read in {path}")
                continue
            name = file.info.name.name
            if not name or name in (b".", b"..") or int(file.info.name.type) in _VIRTUAL:
                continue
            if first and name == f"{self.label:<11} (Volume Label Entry)".encode() and self.kind.startswith("fat"):
                continue  # FAT keeps its label as an entry of the root
            if file.info.meta is None and not int(file.info.name.flags) & _FREE:
                self._raise_store()
                self.note(f"no inode can be read for {path.rstrip('/')}/{decoded(name)}")
                continue
            yield name, file

    def _pairs(self, directory: int) -> Iterator[tuple[str, int]]:
        if int(self._open_meta(directory).info.meta.type) == _DIRECTORY:
            for name, file in self._files(directory, f"inode {directory}"):
                yield decoded(name), int(file.info.meta.addr)

    def _match(self, names: dict[str, int], name: str) -> int | None:
        if name in names or self.kind.startswith("ext"):
            return names.get(name)
        folded = name.casefold()
        return next((inode for each, inode in names.items() if each.casefold() == folded), None)

    def _unnamed(self, inode: int, path: str, *, last: bool) -> Entry:
        """Return the alternate data stream that a path of NTFS means."""
        above, _, part = path.rpartition("/")
        found = self._named(inode, part.partition(":")[0]) if last and self.kind == "ntfs" and ":" in part else None
        if found is not None:
            file = self._open_meta(found)
            base = self._entry(f"{above}/{part.partition(':')[0]}", file)
            for entry in self._streams(base, file):
                if entry.path.rpartition("/")[2] == part:
                    return entry
        return super()._unnamed(inode, path, last=last)

    # Metadata.

    def _entry(self, path: str, file: Any, *, deleted: bool = False) -> Entry:
        meta = file.info.meta
        kind = _META_KINDS.get(int(meta.type), "unknown")
        modified, changed, accessed, created = self._times(meta)
        return Entry(
            path=path,
            inode=int(meta.addr),
            kind=kind,
            size=int(meta.size),
            mode=int(meta.mode) & 0o7777,
            uid=int(meta.uid),
            gid=int(meta.gid),
            links=int(meta.nlink),
            modified_ns=modified,
            changed_ns=changed,
            accessed_ns=accessed,
            created_ns=created,
            target=self._target(file) if kind == "link" else None,
            deleted=deleted,
        )

    def _times(self, meta: Any) -> tuple[int | None, int | None, int | None, int | None]:
        """Return modified, changed, accessed, created in ns; 0 of the library is no time."""
        if self.kind in ("fat12", "fat16", "fat32", "exfat"):
            found = (_wall(meta.mtime), 0, _wall(meta.atime), _wall(meta.crtime))
        else:
            found = (int(meta.mtime), int(meta.ctime), int(meta.atime), int(meta.crtime))
        parts = (meta.mtime_nano, meta.ctime_nano, meta.atime_nano, meta.crtime_nano)
        whole = [
            seconds * 10**9 + (int(nano) if 0 <= int(nano) < 10**9 else 0) if seconds else None
            for seconds, nano in zip(found, parts, strict=True)
        ]
        return whole[0], whole[1], whole[2], whole[3]

    def _target(self, file: Any) -> str | None:
        meta = file.info.meta
        raw = meta.link
        if raw is None and 0 < int(meta.size) <= 4096:
            try:
                raw = file.read_random(0, int(meta.size))
            except OSError:
                self._raise_store()
                self.note(f"the target of link {int(meta.addr)} cannot be read")
        return None if raw is None else decoded(raw)

    # What is no longer there.

    def deleted(self) -> Iterator[Entry]:
        """Yield what the file system still remembers of deleted entries.

        A name whose inode serves another file again has no size, owner or times (inode 0). Inodes without a name are
        below `/$OrphanFiles`.

        Raises
        ------
        DiskError
            If not even the root can be read.
        StoreError
        """
        named = set()
        for path, file in self._traversed(self._remembered):
            meta = file.info.meta
            if meta is None or not int(meta.flags) & _FREE:
                yield _forgotten(path, file)
                continue
            named.add(int(meta.addr))
            yield self._entry(path, file, deleted=True)
        for name, file in self._told(int(self._fs.info.last_inum), "/$OrphanFiles"):
            inode = int(file.info.name.meta_addr)
            if inode not in named:
                try:
                    yield self._entry(f"/$OrphanFiles/{decoded(name)}", self._open_meta(inode), deleted=True)
                except DiskError:
                    self.note(f"the deleted inode {inode} cannot be read")

    def _remembered(self, inode: int, path: str, _first: bool) -> Iterator[tuple[Any, str, int | None]]:
        """Yield the deleted names of a directory, and the directories in it that are in use."""
        for name, file in self._told(inode, path):
            below = f"{path.rstrip('/')}/{decoded(name)}"
            if int(file.info.name.flags) & _FREE:
                yield (below, file), below, None
            elif _is_directory(file):
                yield None, below, int(file.info.meta.addr)

    def unallocated(self) -> Iterator[Extent]:
        """Yield the runs that no file uses (`file_offset` is 0).

        Raises
        ------
        DiskError
            If the file system's map of them cannot be read.
        StoreError
        """
        for offset, length in free_runs(self.volume, self.kind, self.open):
            yield from (Extent(0, disk, count) for _, disk, count in self.volume.places(offset, length) if disk >= 0)


def _is_directory(file: Any) -> bool:
    meta = file.info.meta
    return meta is not None and int(meta.type) == _DIRECTORY


def _wall(seconds: int) -> int:
    """Undo the host's time zone, which the library puts into times that have none."""
    return calendar.timegm(time.localtime(int(seconds))) if seconds else 0


def _forgotten(path: str, file: Any) -> Entry:
    kinds: dict[int, Kind] = {1: "fifo", 2: "character", 3: "directory", 4: "block", 5: "file", 6: "link", 8: "socket"}
    kind = kinds.get(int(file.info.name.type), "unknown")
    return Entry(path, 0, kind, 0, 0, 0, 0, 0, None, None, None, None, deleted=True)
