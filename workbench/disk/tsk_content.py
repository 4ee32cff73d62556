"""Content of files that The Sleuth Kit reads: where it lies, and what the library itself must put together.

Refuses encrypted content of NTFS, and content that lies outside of the volume.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import pytsk3

from workbench.disk.content import Content, RunContent
from workbench.disk.ext_inodes import ExtInodes
from workbench.disk.filesystem import Entry, Extent, State
from workbench.disk.image import Slice
from workbench.disk.library import LibraryFileSystem, Source
from workbench.disk.signatures import Signature, ext_clusters
from workbench.errors import DiskError, UnsupportedError

__all__ = ["KINDS", "STREAM_SHIFT", "TskContent", "decoded"]

KINDS: Final = ("ext2", "ext3", "ext4", "ntfs", "fat12", "fat16", "fat32", "exfat")
STREAM_SHIFT: Final = 48

_MOST_BLOCKS, _FEW_BLOCKS = 1 << 24, 1 << 20
"""Blocks of a file mapped by blocks: at most, and always allowed; between them sixteen times the volume."""
_EXPORT = "Export the disk and read it with a kernel's read-only mount."
_SPARSE, _FILLER = 2, 1
_RESIDENT, _COMPRESSED, _ENCRYPTED = 0x04, 0x10, 0x20
"""TSK_FS_ATTR_RES, _COMP, _ENC."""
_DATA = 128
"""TSK_FS_ATTR_TYPE_NTFS_DATA."""
_INDEX = 160
_TYPES = {int(getattr(pytsk3, f"TSK_FS_TYPE_{kind.upper()}")): kind for kind in KINDS}


class _Disk(pytsk3.Img_Info):  # type: ignore[misc]
    """A volume as the library wants it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, length: int) -> bytes:
        return self._source.read_at(offset, length)

    def get_size(self) -> int:
        return self._source.size


class TskContent(LibraryFileSystem):
    """A file system opened by the library, as far as inodes and their content go."""

    def __init__(self, volume: Slice, signature: Signature, state: State) -> None:
        super().__init__(volume, signature, state)
        if self.kind.startswith("ext") and ext_clusters(volume.read(1024, 1024)):
            raise UnsupportedError("ext4 with bigalloc cannot be read: the library does not know it", cure=_EXPORT)
        self._most_blocks = min(_MOST_BLOCKS, max(_FEW_BLOCKS, 16 * volume.size // max(1024, self.cluster)))
        self._inodes = ExtInodes(volume) if self.kind.startswith("ext") else None
        self._source = Source(volume)
        self._disk = _Disk(self._source)
        try:
            self._fs = pytsk3.FS_Info(self._disk)
        except OSError as error:
            self._fail(f"this {self.kind} cannot be opened", error)
        info = self._fs.info
        self.kind = _TYPES.get(int(info.ftype), self.kind)
        self._root = int(info.root_inum)
        self._block = int(info.block_size)

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

    def _index_bytes(self, inode: int) -> int:
        """Return how many bytes the index of a directory of NTFS has; 0 for others."""
        if self.kind != "ntfs":
            return 0
        try:
            file = self._open_meta(inode)
        except DiskError:
            return 0  # whoever opens it says so
        return max((int(each.info.size) for each in self._attributes(file) if int(each.info.type) == _INDEX), default=0)

    def _attributes(self, file: Any) -> list[Any]:
        try:
            return list(file)
        except (OSError, RuntimeError):
            self._raise_store()
            self.note(f"the attributes of inode {int(file.info.meta.addr)} cannot be read")
            return []

    def _streams(self, entry: Entry, file: Any) -> Iterator[Entry]:
        """Yield the alternate data streams of a file of NTFS."""
        if self.kind != "ntfs":
            return
        for attribute in self._attributes(file):
            info = attribute.info
            if int(info.type) == _DATA and info.name and int(info.id) < 1 << 14:
                yield Entry(
                    path=f"{entry.path}:{decoded(info.name)}",
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


class _Attribute(Content):
    """Content that the library must put together: resident, compressed, or partly initialised."""

    def __init__(self, system: TskContent, file: Any, attribute: Any, size: int) -> None:
        super().__init__(size)
        self._system, self._file, self._attribute = system, file, attribute

    def read_at(self, offset: int, length: int) -> bytes:
        return self._system.read_attribute(self._file, self._attribute, offset, length)


def decoded(raw: bytes) -> str:
    """Return a name as text, undecodable bytes as surrogate escapes."""
    return raw.decode("utf-8", "surrogateescape")
