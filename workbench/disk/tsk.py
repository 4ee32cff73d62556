"""File systems that The Sleuth Kit reads: ext2, ext3, ext4, NTFS, FAT12, FAT16, FAT32, exFAT. Only here is it used.

What cannot be read is counted in `damage`; an error of the store beneath is raised, never taken for damage of the
guest's. Refuses to replay a journal (`workbench.disk.journal` does), to follow links, and encrypted content of NTFS.

Times of FAT and exFAT have no zone that can be relied on: they are taken as UTC. An alternate data stream of NTFS is an
entry `name:stream` whose inode is that of the file with the attribute's id, plus one, in the bits from 48 up.
"""

from __future__ import annotations

import calendar
import io
import time
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import pytsk3

from workbench.disk.allocation import free_runs
from workbench.disk.content import Content, RunContent
from workbench.disk.dirents import Dirents
from workbench.disk.ext_inodes import ExtInodes
from workbench.disk.filesystem import Entry, Extent, Kind, State
from workbench.disk.image import Overlay, Slice
from workbench.disk.signatures import Signature, ext_clusters, ext_superblock, identify
from workbench.errors import DiskError, UnsupportedError
from workbench.store.lru import BoundedCache

__all__ = ["KINDS", "STREAM_SHIFT", "TskFileSystem", "open_tsk"]

KINDS: Final = ("ext2", "ext3", "ext4", "ntfs", "fat12", "fat16", "fat32", "exfat")
STREAM_SHIFT: Final = 48

_MOST_ENTRIES = 20_000_000
_MOST_DEPTH = 2048
_MOST_PATH = 65536
_MOST_DAMAGE = 1000
_MOST_BLOCKS, _FEW_BLOCKS = 1 << 24, 1 << 20
"""Blocks of a file mapped by blocks: at most, and always allowed; between them sixteen times the volume."""
_NAMES = 400_000
"""Names of directories kept for look-ups."""
_META_KINDS: dict[int, Kind] = {
    1: "file", 2: "directory", 3: "fifo", 4: "character", 5: "block", 6: "link", 8: "socket"
}  # fmt: skip
_VIRTUAL = (10, 11)
_FREE = 2
"""TSK_FS_NAME_FLAG_UNALLOC and TSK_FS_META_FLAG_UNALLOC."""
_EXPORT = "Export the disk and read it with a kernel's read-only mount."
_SPARSE, _FILLER = 2, 1
_RESIDENT, _COMPRESSED, _ENCRYPTED = 0x04, 0x10, 0x20
"""TSK_FS_ATTR_RES, _COMP, _ENC."""
_DATA = 128
"""TSK_FS_ATTR_TYPE_NTFS_DATA."""
_INDEX = 160


class _Disk(pytsk3.Img_Info):  # type: ignore[misc]
    """A volume as the library reads it; keeps the error that a read ended with."""

    def __init__(self, volume: Slice) -> None:
        self.volume = volume
        self.failed: Exception | None = None
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, length: int) -> bytes:
        try:
            return self.volume.read(offset, length)
        except Exception as error:
            self.failed = error
            raise

    def get_size(self) -> int:
        return self.volume.size


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


class TskFileSystem:
    """A file system read by The Sleuth Kit; `open_tsk` makes it. As `FileSystem` says."""

    def __init__(self, volume: Slice, signature: Signature, state: State) -> None:
        self.volume = volume
        self.kind = signature.kind
        self.label = signature.label
        self.uuid = signature.uuid
        self.state: State = state
        self.cluster = signature.cluster
        self._damage: list[str] = []
        self._names: BoundedCache[int, dict[bytes, int]] = BoundedCache(_NAMES)
        if self.kind.startswith("ext") and ext_clusters(volume.read(1024, 1024)):
            raise UnsupportedError("ext4 with bigalloc cannot be read: the library does not know it", cure=_EXPORT)
        self._most_blocks = min(_MOST_BLOCKS, max(_FEW_BLOCKS, 16 * volume.size // max(1024, self.cluster)))
        self._inodes = ExtInodes(volume) if self.kind.startswith("ext") else None
        self._disk = _Disk(volume)
        try:
            self._fs = pytsk3.FS_Info(self._disk)
        except OSError as error:
            self._fail(f"this {self.kind} cannot be opened", error)
        info = self._fs.info
        self.kind = _TYPES.get(int(info.ftype), self.kind)
        self._root = int(info.root_inum)
        self._orphans = int(info.last_inum)
        self._block = int(info.block_size)

    def note(self, *lines: str) -> None:
        """Add lines to `damage`, as long as there are not too many."""
        self._damage += lines[: max(0, _MOST_DAMAGE - len(self._damage))]

    def damage(self) -> list[str]:
        """Return what could not be read so far, a line each."""
        return list(self._damage)

    def _fail(self, words: str, error: Exception) -> NoReturn:
        """Raise what the store said, or that the guest's bytes are no good."""
        self._raise_store()
        first = str(error).strip().splitlines()
        raise DiskError(words, reason=first[0] if first else type(error).__name__) from error

    def _raise_store(self) -> None:
        failed, self._disk.failed = self._disk.failed, None
        if failed is not None:
            raise failed

    # Names.

    def walk(self) -> Iterator[Entry]:
        """Yield every entry once, directories before what is in them; damaged parts are skipped and counted.

        Raises
        ------
        DiskError
            If not even the root can be read.
        StoreError
        """
        yield self._entry("/", self._open_meta(self._root))
        for path, file in self._walk(deleted=False):
            entry = self._entry(path, file)
            yield entry
            yield from self._streams(entry, file)

    def _walk(self, *, deleted: bool) -> Iterator[tuple[str, Any]]:
        """Yield the path and file of every name that is (not) deleted, once for each directory that is in use."""
        seen, waiting, count = {self._root}, [("", self._root, 0)], 0
        while waiting:
            above, inode, depth = waiting.pop()
            below = []
            listed = self._told(inode, above or "/") if deleted else self._listed(inode, above or "/", first=not depth)
            for name, file in listed:
                count += 1
                path = f"{above}/{_decoded(name)}"
                free = deleted and bool(int(file.info.name.flags) & _FREE)
                if free == deleted:
                    yield path, file
                if not free and _is_directory(file) and file.info.meta.addr not in seen:
                    seen.add(int(file.info.meta.addr))
                    below.append((path, int(file.info.meta.addr), depth + 1))
            if count > _MOST_ENTRIES:
                self.note(f"more than {_MOST_ENTRIES} names: the rest is left out")
                return
            waiting += [each for each in reversed(below) if self._allowed(each[0], each[2])]

    def _allowed(self, path: str, depth: int) -> bool:
        if depth <= _MOST_DEPTH and len(path) <= _MOST_PATH:
            return True
        self.note(f"a directory {depth} levels deep is left out: {path[:80]}...")
        return False

    def _listed(self, inode: int, path: str, *, first: bool = False) -> Iterator[tuple[bytes, Any]]:
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
                    self.note(f"no inode can be read for {path.rstrip('/')}/{_decoded(name)}")
        except DiskError:
            if first:
                raise
            self.note(f"directory cannot be read: {path}")
            return
        if names.damaged:
            self.note(f"{names.damaged} blocks of a directory are damaged: {path}")

    def _told(self, inode: int, path: str, *, first: bool = False) -> Iterator[tuple[bytes, Any]]:
        """Yield the names of a directory as the library has them, also those deleted."""
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
                self.note(f"no inode can be read for {path.rstrip('/')}/{_decoded(name)}")
                continue
            yield name, file

    def children(self, path: str) -> Iterator[Entry]:
        """Yield the entries of a directory.

        Raises
        ------
        DiskError
            If there is no such directory.
        StoreError
        """
        above = self.lookup(path)
        if above.kind != "directory":
            raise DiskError("not a directory", path=path)
        base = path.rstrip("/")
        for name, file in self._listed(above.inode, path, first=True):
            entry = self._entry(f"{base}/{_decoded(name)}", file)
            yield entry
            yield from self._streams(entry, file)

    def lookup(self, path: str) -> Entry:
        """Return the entry with this path; links are not followed.

        Raises
        ------
        DiskError
            If there is none.
        StoreError
        """
        inode, parts = self._root, [part for part in path.split("/") if part and part != "."]
        for number, part in enumerate(parts):
            found = self._named(inode, part.encode("utf-8", "surrogateescape"))
            if found is None and number == len(parts) - 1 and self.kind == "ntfs" and ":" in part:
                return self._stream(inode, path, part)
            if found is None:
                raise DiskError("no such file or directory", path=path)
            inode = found
        return self._entry("/" + "/".join(parts), self._open_meta(inode))

    def _named(self, directory: int, name: bytes) -> int | None:
        names = self._names.get(directory)
        if names is None:
            names = {}
            meta = self._open_meta(directory).info.meta
            if int(meta.type) == 2:
                listed = self._listed(directory, f"inode {directory}")
                names = {each: int(file.info.meta.addr) for each, file in listed}
            self._names.put(directory, names, len(names) + 1)
        if name in names or self.kind.startswith("ext"):
            return names.get(name)
        folded = _decoded(name).casefold()
        return next((inode for each, inode in names.items() if _decoded(each).casefold() == folded), None)

    def _stream(self, directory: int, path: str, part: str) -> Entry:
        name = part.partition(":")[0]
        inode = self._named(directory, name.encode("utf-8", "surrogateescape"))
        if inode is not None:
            file = self._open_meta(inode)
            base = self._entry("/" + path.strip("/").rpartition(":")[0], file)
            for entry in self._streams(base, file):
                if entry.path.rpartition("/")[2] == part:
                    return entry
        raise DiskError("no such file or directory", path=path)

    def _open_meta(self, inode: int) -> Any:
        if self._inodes is not None and self._inodes.blocks_listed(inode) > self._most_blocks:
            raise DiskError("an inode that says it has more blocks than can be gone through", inode=inode)
        try:
            file = self._fs.open_meta(inode=inode)
        except (OSError, RuntimeError, OverflowError, ValueError) as error:
            self._fail("no such inode", error)
        if file.info.meta is None:
            raise DiskError("no such inode", inode=inode)
        return file

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
        return None if raw is None else _decoded(raw)

    def _streams(self, entry: Entry, file: Any) -> Iterator[Entry]:
        """Yield the alternate data streams of a file of NTFS."""
        if self.kind != "ntfs":
            return
        for attribute in self._attributes(file):
            info = attribute.info
            if int(info.type) == _DATA and info.name and int(info.id) < 1 << 14:
                yield Entry(
                    path=f"{entry.path}:{_decoded(info.name)}",
                    inode=(int(info.id) + 1) << STREAM_SHIFT | entry.inode,
                    kind="file",
                    size=int(info.size),
                    mode=entry.mode,
                    uid=entry.uid,
                    gid=entry.gid,
                    links=entry.links,
                    modified_ns=entry.modified_ns,
                    changed_ns=entry.changed_ns,
                    accessed_ns=entry.accessed_ns,
                    created_ns=entry.created_ns,
                )

    def _attributes(self, file: Any) -> list[Any]:
        try:
            return list(file)
        except (OSError, RuntimeError):
            self._raise_store()
            self.note(f"the attributes of inode {int(file.info.meta.addr)} cannot be read")
            return []

    # Content.

    def open(self, inode: int) -> io.RawIOBase:
        """Return the content of an inode, seekable and read-only.

        Raises
        ------
        DiskError
            If it cannot be read, or is not one that has content.
        StoreError
        """
        base, stream = inode & ((1 << STREAM_SHIFT) - 1), inode >> STREAM_SHIFT
        file = self._open_meta(base)
        if int(file.info.meta.type) not in (1, 6):
            raise DiskError("not one that has content", inode=inode)
        return self._content_of(file, stream)

    def _content_of(self, file: Any, stream: int) -> io.RawIOBase:
        attribute = self._attribute(file, stream)
        if attribute is None:
            return RunContent(self.volume, [], int(file.info.meta.size))
        flags, size = int(attribute.info.flags), int(attribute.info.size)
        if flags & _ENCRYPTED:
            raise DiskError("encrypted by the file system: no key, no content", inode=int(file.info.meta.addr))
        if self.kind == "ntfs" or flags & (_RESIDENT | _COMPRESSED):
            return _Attribute(self, file, attribute, size)
        return RunContent(self.volume, list(self._runs(attribute, size)), size)

    def _attribute(self, file: Any, stream: int) -> Any:
        try:
            found = list(file)
        except (OSError, RuntimeError) as error:
            self._fail("where the content lies cannot be read", error)
        if self.kind != "ntfs":
            return found[0] if found else None
        for each in found:
            named = bool(each.info.name)
            if int(each.info.type) == _DATA and (int(each.info.id) + 1 == stream if stream else not named):
                return each
        if stream:
            raise DiskError("no such stream", inode=int(file.info.meta.addr), stream=stream - 1)
        return None

    def read_attribute(self, file: Any, attribute: Any, offset: int, length: int) -> bytes:
        """Return bytes of an attribute through the library.

        Raises
        ------
        DiskError
            If they cannot be read.
        StoreError
        """
        info = attribute.info
        try:
            data: bytes = file.read_random(offset, length, info.type, info.id)
        except (OSError, RuntimeError) as error:
            self._fail(f"content at {offset} cannot be read", error)
        self._raise_store()
        return data

    def extents(self, inode: int) -> Iterator[Extent]:
        """Yield where an inode's content lies, by file offset, holes too; nothing for content kept in the inode.

        Raises
        ------
        DiskError
            If that cannot be read.
        StoreError
        """
        base, stream = inode & ((1 << STREAM_SHIFT) - 1), inode >> STREAM_SHIFT
        file = self._open_meta(base)
        if self.kind == "ntfs" and int(file.info.meta.type) == 2:
            found = [each for each in self._attributes(file) if int(each.info.type) == _INDEX]
            attribute = found[0] if found else None
        else:
            attribute = self._attribute(file, stream)
        if attribute is None or int(attribute.info.flags) & _RESIDENT:
            return
        runs = list(self._runs(attribute, int(attribute.info.size)))
        if int(file.info.meta.type) not in (1, 2) and all(run.offset < 0 for run in runs):
            return
        yield from self._placed(runs)

    def _runs(self, attribute: Any, size: int) -> Iterator[Extent]:
        """Yield the runs of an attribute by volume offset, cut at its size.

        Raises
        ------
        DiskError
            If one cannot be, or is not known.
        """
        try:
            runs = list(attribute)
        except (OSError, RuntimeError) as error:
            self._fail("where the content lies cannot be read", error)
        for run in runs:
            begin, flags = int(run.offset) * self._block, int(run.flags)
            length = min(int(run.len) * self._block, size - begin)
            if length <= 0:
                continue
            if flags & _FILLER and not flags & _SPARSE and self.kind == "ntfs":
                raise DiskError("part of the content is not known where it lies", offset=begin)
            hole = bool(flags & (_SPARSE | _FILLER))
            at = -1 if hole else int(run.addr) * self._block
            if at + length > self.volume.size:
                raise DiskError("content that lies outside of the volume", offset=begin)
            yield Extent(begin, at, length)

    def _placed(self, runs: list[Extent]) -> Iterator[Extent]:
        """Turn offsets of the volume into those of its disk."""
        for run in runs:
            if run.offset < 0:
                yield run
                continue
            for at, disk, count in self.volume.places(run.offset, run.length):
                yield Extent(run.file_offset + at - run.offset, disk, count)

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
        for path, file in self._walk(deleted=True):
            meta = file.info.meta
            if meta is None or not int(meta.flags) & _FREE:
                yield _forgotten(path, file)
                continue
            named.add(int(meta.addr))
            yield self._entry(path, file, deleted=True)
        for name, file in self._told(self._orphans, "/$OrphanFiles"):
            inode = int(file.info.name.meta_addr)
            if inode not in named:
                try:
                    yield self._entry(f"/$OrphanFiles/{_decoded(name)}", self._open_meta(inode), deleted=True)
                except DiskError:
                    self.note(f"the deleted inode {inode} cannot be read")

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


class _Attribute(Content):
    """Content that the library must put together: resident, compressed, or partly initialised."""

    def __init__(self, system: TskFileSystem, file: Any, attribute: Any, size: int) -> None:
        super().__init__(size)
        self._system, self._file, self._attribute = system, file, attribute

    def read_at(self, offset: int, length: int) -> bytes:
        return self._system.read_attribute(self._file, self._attribute, offset, length)


def _is_directory(file: Any) -> bool:
    meta = file.info.meta
    return meta is not None and int(meta.type) == 2


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _wall(seconds: int) -> int:
    """Undo the host's time zone, which the library puts into times that have none."""
    return calendar.timegm(time.localtime(int(seconds))) if seconds else 0


def _forgotten(path: str, file: Any) -> Entry:
    kinds: dict[int, Kind] = {1: "fifo", 2: "character", 3: "directory", 4: "block", 5: "file", 6: "link", 8: "socket"}
    kind = kinds.get(int(file.info.name.type), "unknown")
    return Entry(path, 0, kind, 0, 0, 0, 0, 0, None, None, None, None, deleted=True)


_TYPES = {int(getattr(pytsk3, f"TSK_FS_TYPE_{kind.upper()}")): kind for kind in KINDS}
