"""The names in a directory of ext2, ext3 or ext4, read by ourselves: The Sleuth Kit's time grows with their square.

A directory with an index (htree) reads the same way: inner nodes look like free entries. Refuses to go on in a block
whose records cannot be; the reader is told how many such blocks there are.

Source: linux/fs/ext4/ext4.h (ext4_dir_entry_2, ext4_rec_len_from_disk).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

__all__ = ["Dirents"]

_MOST = 4 << 30
"""Bytes of a directory that are read at most."""
_MOST_DAMAGED = 1000
"""Damaged blocks after which the rest of a directory is given up."""
_HEAD = struct.Struct("<IHB")


class Dirents:
    """The names of a directory.

    Attributes
    ----------
    damaged : int
        Blocks left in the middle, so far.
    """

    def __init__(self, content: io.RawIOBase, block: int) -> None:
        self._content = content
        self._block = block
        self.damaged = 0

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Yield (name, inode) of what is in use, without "." and "..".

        Raises
        ------
        DiskError, StoreError
        """
        raw = self._content.read(self._block)
        if 0 < len(raw) < self._block:
            yield from self._inline(raw)
            return
        for _ in range(_MOST // self._block):
            if not raw:
                return
            yield from self._names(raw)
            raw = self._content.read(self._block)
        self.damaged += 1

    def _inline(self, raw: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield the names of a directory kept in its inode: its parent's number, entries up to byte 60, then more.

        Source: Linux fs/ext4/inline.c (EXT4_INLINE_DOTDOT_SIZE, EXT4_MIN_INLINE_DATA_SIZE).
        """
        yield from self._names(raw[4:60])
        if len(raw) > 60:
            yield from self._names(raw[60:])

    def _names(self, raw: bytes) -> Iterator[tuple[bytes, int]]:
        at = 0
        while at < len(raw):
            if at + 8 > len(raw):
                self.damaged += 1
                return
            inode, length, size = _HEAD.unpack_from(raw, at)
            if len(raw) == 65536 and length in (0, 65535):
                length = 65536
            if length < 8 or length % 4 or at + length > len(raw) or (inode and size + 8 > length):
                self.damaged += 1
                return
            name = raw[at + 8 : at + 8 + size]
            if inode and size and name not in (b".", b".."):
                yield name, inode
            at += length
