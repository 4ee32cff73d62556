"""What a file system is to us: entries with metadata, content by inode, and the bytes of the image that hold it.

Libraries differ in what they can; what one cannot do raises `UnsupportedError`, never an empty answer. Refuses to
follow symbolic links: whoever resolves a path decides that.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Entry", "Extent", "FileSystem", "Kind", "State"]

Kind = Literal["file", "directory", "link", "fifo", "socket", "block", "character", "unknown"]
State = Literal["clean", "replayed", "unreplayed"]
"""Whether a log had to be replayed, and was; "unreplayed" content may lack what was fsynced."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a file system with its inode.

    Attributes
    ----------
    path : str
        Below the file system's root, beginning with "/"; undecodable bytes as surrogate escapes.
    inode : int
    kind : Kind
    size : int
        Bytes.
    mode, uid, gid, links : int
        Permission bits (without the kind), owner, number of names.
    modified_ns, changed_ns, accessed_ns, created_ns : int or None
        UTC, ns since the epoch; None where the file system has no such time.
    target : str or None
        Of a symbolic link, as it is written.
    deleted : bool
        Whether the file system only remembers it.
    """

    path: str
    inode: int
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    links: int
    modified_ns: int | None
    changed_ns: int | None
    accessed_ns: int | None
    created_ns: int | None
    target: str | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file that lie one after the other on the disk.

    Attributes
    ----------
    file_offset : int
        Bytes from the file's beginning.
    offset : int
        Bytes from the *disk's* beginning (not the volume's); -1 where the file has a hole.
    length : int
    """

    file_offset: int
    offset: int
    length: int


class FileSystem(Protocol):
    """A file system of a volume of a moment.

    Attributes
    ----------
    kind : str
        "ext4", "xfs", "ntfs", "fat", "exfat", "btrfs" ...
    label, uuid : str
        Empty where there is none.
    state : State
    cluster : int
        Bytes of its allocation unit.
    """

    kind: str
    label: str
    uuid: str
    state: State
    cluster: int

    def walk(self) -> Iterator[Entry]:
        """Yield every entry once, directories before what is in them; damaged parts are skipped and counted.

        Raises
        ------
        DiskError
            If not even the root can be read.
        """

    def damage(self) -> list[str]:
        """Return what could not be read so far, a line each."""

    def children(self, path: str) -> Iterator[Entry]:
        """Yield the entries of a directory.

        Raises
        ------
        DiskError
            If there is no such directory.
        """

    def lookup(self, path: str) -> Entry:
        """Return the entry with this path; links are not followed.

        Raises
        ------
        DiskError
            If there is none.
        """

    def open(self, inode: int) -> io.RawIOBase:
        """Return the content of an inode, seekable and read-only.

        Raises
        ------
        DiskError
            If it cannot be read, or is not one that has content.
        """

    def extents(self, inode: int) -> Iterator[Extent]:
        """Yield where an inode's content lies, by file offset, holes too; nothing for content kept in the inode."""

    def deleted(self) -> Iterator[Entry]:
        """Yield what the file system still remembers of deleted entries."""

    def unallocated(self) -> Iterator[Extent]:
        """Yield the runs that no file uses (`file_offset` is 0)."""
