"""btrfs by dissect.btrfs, where the user has installed it (`rewind-workbench[btrfs]`): names, metadata, content.

The library comes under the AGPL, so it is no dependency: it is imported when a btrfs is opened, and nothing of it is
here. A subvolume is shown as a directory where it lies; inodes of another subvolume than the default one have its
number in the bits from 40 up.

Refuses several devices in one file system, to say where content lies (compressed extents have no place byte for byte;
so all files are read where a disk changed), to replay the log tree (what was fsynced since the last commit may be
missing: "unreplayed"), and to tell what was deleted or is free: the library gives no way to either.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from typing import Any

from workbench.disk.content import Content
from workbench.disk.filesystem import Entry, Extent, Kind, State
from workbench.disk.image import Slice
from workbench.disk.library import LibraryFileSystem, Source
from workbench.disk.logs import btrfs_log
from workbench.disk.signatures import Signature, identify
from workbench.errors import DiskError, UnsupportedError

__all__ = ["CURE", "BtrfsFileSystem", "can_read", "open_btrfs"]

CURE = "Install it: pip install rewind-workbench[btrfs]; or export the disk and use `btrfs restore`."
_SHIFT = 40
_MOST_INODE = (1 << _SHIFT) - 1
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block",
    stat.S_IFCHR: "character",
}
_LONGEST_TARGET = 4096


def can_read() -> bool:
    """Tell whether the library is installed."""
    try:
        import dissect.btrfs  # noqa: F401
    except ImportError:
        return False
    return True


def open_btrfs(volume: Slice, *, state: State | None = None) -> BtrfsFileSystem:
    """Open a btrfs.

    Parameters
    ----------
    volume : Slice
    state : State, optional
        By default what its superblock says of its log tree.

    Raises
    ------
    UnsupportedError
        If the library is not installed.
    DiskError
        If it cannot be read.
    StoreError
    """
    signature = identify(volume)
    if signature.kind != "btrfs":
        raise DiskError(f"no btrfs: {signature.kind}")
    if not can_read():
        raise UnsupportedError(
            "btrfs is read by dissect.btrfs (AGPL-3.0), which is not installed",
            cure=CURE,
        )
    return BtrfsFileSystem(volume, signature, state or ("unreplayed" if btrfs_log(volume) else "clean"))


class BtrfsFileSystem(LibraryFileSystem):
    """A file system read by dissect.btrfs; `open_btrfs` makes it. As `FileSystem` says."""

    def __init__(self, volume: Slice, signature: Signature, state: State) -> None:
        from dissect.btrfs import Btrfs

        super().__init__(volume, signature, state)
        self._source = Source(volume)
        try:
            self._fs = Btrfs(io.BufferedReader(self._source, 1 << 16))
            self._default = int(self._fs.default_subvolume.objectid)
            self._root = self._number(self._fs.root)
        except Exception as error:  # noqa: BLE001  (a parser of hostile bytes raises anything)
            self._fail("this btrfs cannot be opened", error)

    # Names.

    def _number(self, node: Any) -> int:
        inode, subvolume = int(node.inum), int(node.subvolume.objectid)
        if not 0 <= inode <= _MOST_INODE or not 0 < subvolume < 1 << 22:
            raise DiskError("an inode of a number that cannot be told", inode=inode, subvolume=subvolume)
        return inode if subvolume == self._default else subvolume << _SHIFT | inode

    def _node(self, inode: int) -> Any:
        try:
            subvolume = self._fs.open_subvolume(inode >> _SHIFT or self._default)
            node = subvolume.inode(inode & _MOST_INODE)
            _ = node.inode  # is there such a record?
        except Exception as error:  # noqa: BLE001
            self._fail("no such inode", error)
        return node

    def _listed(self, inode: int, path: str, *, first: bool = False) -> Iterator[Entry]:
        try:
            children = iter(self._node(inode).iterdir())
        except Exception as error:  # noqa: BLE001
            self._broken(path, error, first=first)
            return
        base = path.rstrip("/")
        while True:
            try:
                name, node = next(children)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001  (what follows in the directory cannot be reached)
                self._broken(path, error, first=first)
                return
            if name not in ("", ".", "..") and "/" not in name:
                entry = self._readable(f"{base}/{name}", node)
                if entry is not None:
                    yield entry

    def _broken(self, path: str, error: Exception, *, first: bool) -> None:
        if first:
            self._fail("the directory cannot be read", error)
        self._raise_store()
        self.note(f"directory cannot be read: {path}")

    def _readable(self, path: str, node: Any) -> Entry | None:
        try:
            return self._entry(path, node)
        except Exception:  # noqa: BLE001
            self._raise_store()
            self.note(f"no inode can be read for {path}")
            return None

    def _at(self, inode: int, path: str) -> Entry:
        try:
            return self._entry(path, self._node(inode))
        except DiskError:
            raise
        except Exception as error:  # noqa: BLE001
            self._fail("no such inode", error)

    def _entry(self, path: str, node: Any) -> Entry:
        mode, record = int(node.mode), node.inode
        kind = _KINDS.get(stat.S_IFMT(mode), "unknown")
        return Entry(
            path=path,
            inode=self._number(node),
            kind=kind,
            size=int(node.size),
            mode=stat.S_IMODE(mode),
            uid=int(node.uid),
            gid=int(node.gid),
            links=int(record.nlink),
            modified_ns=int(node.mtime_ns),
            changed_ns=int(node.ctime_ns),
            accessed_ns=int(node.atime_ns),
            created_ns=int(node.otime_ns) or None,
            target=self._target(node) if kind == "link" else None,
        )

    def _target(self, node: Any) -> str | None:
        if not 0 < int(node.size) <= _LONGEST_TARGET:
            return None
        raw: bytes = node.open().read(_LONGEST_TARGET)
        return raw.decode("utf-8", "surrogateescape")

    # Content.

    def open(self, inode: int) -> io.RawIOBase:
        """Return the content of an inode, seekable and read-only.

        Raises
        ------
        DiskError
            If it cannot be read, or is not one that has content.
        StoreError
        """
        node = self._node(inode)
        if stat.S_IFMT(int(node.mode)) != stat.S_IFREG:
            raise DiskError("not one that has content", inode=inode)
        return _Stream(self, node)

    def read_node(self, node: Any, stream: Any, offset: int, length: int) -> bytes:
        """Return bytes of a content through the library.

        Raises
        ------
        DiskError
            If they cannot be read.
        StoreError
        """
        try:
            stream.seek(offset)
            found: bytes = stream.read(length)
        except Exception as error:  # noqa: BLE001
            self._fail(f"content at {offset} of inode {int(node.inum)} cannot be read", error)
        self._raise_store()
        return found

    def stream(self, node: Any) -> Any:
        """Return the library's own stream of a content.

        Raises
        ------
        DiskError
            If there is none.
        StoreError
        """
        try:
            return node.open()
        except Exception as error:  # noqa: BLE001
            self._fail("where the content lies cannot be read", error)

    def extents(self, inode: int) -> Iterator[Extent]:
        """Refuse: whoever asks has to read the content instead.

        Raises
        ------
        UnsupportedError
            Always.
        """
        raise UnsupportedError("where content of btrfs lies is not told", inode=inode)

    def deleted(self) -> Iterator[Entry]:
        """Refuse: nothing here can tell.

        Raises
        ------
        UnsupportedError
            Always.
        """
        raise UnsupportedError(
            "what btrfs still has of deleted files is not read", cure="Look for the file in an earlier capture."
        )

    def unallocated(self) -> Iterator[Extent]:
        """Refuse: nothing here can tell.

        Raises
        ------
        UnsupportedError
            Always.
        """
        raise UnsupportedError("free space of btrfs is not read", cure="Export the disk and carve it.")


class _Stream(Content):
    """Content that the library puts together, compressed extents too."""

    def __init__(self, system: BtrfsFileSystem, node: Any) -> None:
        super().__init__(int(node.size))
        self._system, self._node, self._stream = system, node, system.stream(node)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._system.read_node(self._node, self._stream, offset, length)
