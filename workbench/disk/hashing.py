"""Digests of contents, each read once.

Refuses to read a content larger than its bound, or for longer: a sparse file may claim exabytes. Why there is no
digest is told with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from workbench.disk.parts import Part
from workbench.errors import DiskError, UnsupportedError

__all__ = ["MOST", "Hashed", "Hasher"]

MOST = 16 << 30
"""Bytes of a content at most."""
_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Hashed:
    """A digest, or why there is none.

    Attributes
    ----------
    sha256 : str
        Hexadecimal; empty if the content could not be read.
    reason : str
    """

    sha256: str
    reason: str = ""


class Hasher:
    """Hashes the contents of one file system.

    Parameters
    ----------
    part : Part
    most : int
        Bytes of a content at most.

    Attributes
    ----------
    count : int
        How many contents were read.
    """

    def __init__(self, part: Part, most: int = MOST) -> None:
        self._part = part
        self._most = most
        self._known: dict[int, Hashed] = {}
        self.count = 0

    def learn(self, inode: int, sha256: str) -> None:
        """Take note of a digest that is known already."""
        self._known[inode] = Hashed(sha256)

    def __call__(self, inode: int, size: int) -> Hashed:
        """Return the digest of an inode's content.

        Raises
        ------
        StoreError
        """
        if inode not in self._known:
            self._known[inode] = self._read(inode, size)
        return self._known[inode]

    def _read(self, inode: int, size: int) -> Hashed:
        if size > self._most:
            return Hashed("", f"larger than {self._most} bytes")
        self.count += 1
        digest, read = hashlib.sha256(), 0
        try:
            with self._part.filesystem.open(inode) as content:
                while data := content.read(_STEP):
                    digest.update(data)
                    read += len(data)
                    if read > self._most:
                        return Hashed("", f"larger than {self._most} bytes")
        except (DiskError, UnsupportedError) as error:
            return Hashed("", error.message)
        return Hashed(digest.hexdigest())
