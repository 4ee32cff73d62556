"""The file systems of a moment as comparisons need them: which disk they lie on, and the bytes they were read from.

A part is one mounted file system of one capture. Refuses to
take a volume that could not be opened for an empty one: it is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.disk.filesystem import FileSystem
from workbench.disk.image import Bytes, Slice
from workbench.disk.pagecache import Held, PageCache
from workbench.store import CaptureView
from workbench.store.types import I64

if TYPE_CHECKING:
    from workbench.disk.mounted import Mounted

__all__ = ["Opened", "Part", "no_ranges", "open_parts", "shown"]


def no_ranges() -> I64:
    """Return no ranges: (0, 2) int64."""
    return np.zeros((0, 2), np.int64)


@dataclass(slots=True)
class Part:
    """One file system of one capture.

    Attributes
    ----------
    name : str
        The volume's name ("vda1"): what it is called in every capture.
    mount : str
        Where its root is shown: "/", "/home", or "/vda1" where nobody knows.
    disk : str
        "vda": the region's name without "disk:".
    volume : Slice
        Its bytes as they were read, after a replay where there was one.
    raw : Bytes
        The disk as it was captured.
    filesystem : FileSystem
    replayed : (n, 2) int64
        Offset and length on the disk of what a replay of the journal wrote.
    cached : (n, 2) int64
        The same of metadata that is from memory.
    held : Held or None
        What memory has of its files.
    """

    name: str
    mount: str
    disk: str
    volume: Slice
    raw: Bytes
    filesystem: FileSystem
    replayed: I64 = field(default_factory=no_ranges)
    cached: I64 = field(default_factory=no_ranges)
    held: Held | None = None

    @property
    def signature(self) -> tuple[str, str]:
        """What has to be the same for two moments' parts to be one: kind and UUID."""
        return self.filesystem.kind, self.filesystem.uuid

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the disk as this file system sees them, as captured where they are not its own.

        Raises
        ------
        DiskError, StoreError
        """
        for piece in self.volume.pieces:
            if piece.disk <= offset and offset + length <= piece.disk + piece.length:
                return self.volume.read(offset - piece.disk + piece.offset, length)
        return self.raw.read(offset, length)


@dataclass(slots=True)
class Opened:
    """The file systems of a capture.

    Attributes
    ----------
    parts : list of Part
    unread : dict of str to str
        Volumes that are there and could not be opened, and why: nothing is known of what is in them.
    findings : list of str
        All that is wrong with the disks, a line each.
    """

    parts: list[Part]
    unread: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


def open_parts(view: CaptureView, directory: Path | None = None, cache: PageCache | None = None) -> Opened:
    """Open the file systems of a capture, after replay.

    Parameters
    ----------
    view : CaptureView
    directory : Path, optional
        Where the temporary copies for replays go.
    cache : PageCache, optional
        Of the same instant, to be laid over the file systems.

    Raises
    ------
    StoreError
    """
    from workbench.disk.mounted import open_disks

    disks = open_disks(view, directory=directory, cache=cache)
    parts = [_part(each) for each in disks.mounted]
    names = {part.name for part in parts}
    unread = {volume.name: volume.note or volume.kind for volume in disks.volumes if volume.name not in names}
    return Opened(parts, unread, [f"{each.volume}: {each.words}" for each in disks.findings])


def _part(each: Mounted) -> Part:
    cached = each.cached
    return Part(
        each.volume.name,
        each.mount,
        each.image.name,
        each.replay.volume if cached is None else cached.volume,
        each.image,
        each.filesystem,
        np.array(each.replay.changed, np.int64).reshape(-1, 2),
        no_ranges() if cached is None else cached.ranges,
        None if cached is None else cached.held,
    )


def shown(mount: str, path: str) -> str:
    """Return the path of an entry below the moment's root."""
    if mount == "/":
        return path
    return mount if path == "/" else mount + path
