"""How large an inode of ext says its content is, before a library is let at it.

The Sleuth Kit goes through every block of a file that is mapped by blocks, holes too: a lie about the size would keep
it busy for years, in C, where nothing can stop it. Refuses to read anything else.

Source: linux/fs/ext4/ext4.h (ext4_inode, ext4_group_desc, EXT4_EXTENTS_FL, EXT4_INLINE_DATA_FL).
"""

from __future__ import annotations

import struct

from workbench.disk.image import Bytes

__all__ = ["ExtInodes"]

_EXTENTS, _INLINE = 0x80000, 0x10000000


class ExtInodes:
    """The tables of inodes of a volume."""

    def __init__(self, volume: Bytes) -> None:
        raw = volume.read(1024, 1024)
        first, log_block = (struct.unpack_from("<I", raw, at)[0] for at in (0x14, 0x18))
        self._volume = volume
        self._block = 1024 << min(log_block, 6)
        self._per_group = struct.unpack_from("<I", raw, 0x28)[0]
        self._size = struct.unpack_from("<H", raw, 0x58)[0] if struct.unpack_from("<I", raw, 0x4C)[0] else 128
        wide = struct.unpack_from("<I", raw, 0x60)[0] & 0x80
        self._descriptor = max(32, struct.unpack_from("<H", raw, 0xFE)[0]) if wide else 32
        self._table = (first + 1) * self._block

    def blocks_listed(self, inode: int) -> int:
        """Return how many blocks have to be gone through to know where the content lies; 0 where that is quick."""
        if inode < 1 or not self._per_group:
            return 0
        group, number = divmod(inode - 1, self._per_group)
        head = self._volume.read(self._table + group * self._descriptor, self._descriptor)
        if len(head) < self._descriptor:
            return 0
        high = struct.unpack_from("<I", head, 0x28)[0] if self._descriptor >= 64 else 0
        at = (high << 32 | struct.unpack_from("<I", head, 8)[0]) * self._block + number * self._size
        raw = self._volume.read(at, 128)
        if len(raw) < 128:
            return 0
        size, flags, upper = (struct.unpack_from("<I", raw, each)[0] for each in (4, 0x20, 0x6C))
        return 0 if flags & (_EXTENTS | _INLINE) else int(upper << 32 | size) // self._block
