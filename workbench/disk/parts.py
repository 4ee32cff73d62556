"""The file systems of a moment as comparisons need them: which disk they lie on, and the bytes they were read from.

A part is one mounted file system of one capture. Refuses to open anything: whoever opened a moment hands them over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workbench.disk.filesystem import FileSystem
from workbench.disk.image import Bytes, Slice
from workbench.store.types import I64

__all__ = ["Part", "no_ranges", "shown"]


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
    """

    name: str
    mount: str
    disk: str
    volume: Slice
    raw: Bytes
    filesystem: FileSystem
    replayed: I64 = field(default_factory=no_ranges)

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


def shown(mount: str, path: str) -> str:
    """Return the path of an entry below the moment's root."""
    if mount == "/":
        return path
    return mount if path == "/" else mount + path
