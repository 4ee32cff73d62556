"""Whether the log of an XFS, NTFS or btrfs has something in it that a mount would replay.

Refuses to replay: nobody does so outside of a kernel. What cannot be told is told as such.

Sources: linux/fs/xfs/libxfs/xfs_log_format.h and xfs_log_recover.c (xlog_check_unmount_rec); the documentation of
NTFS's $LogFile by libyal and ntfs-3g's include/ntfs-3g/logfile.h.
"""

from __future__ import annotations

import struct

import numpy as np

from workbench.disk.image import Slice
from workbench.errors import DiskError

__all__ = ["btrfs_log", "ntfs_log", "xfs_log"]

_BLOCK = 512
_MOST_LOG = 2 << 30
_STEP = 4 << 20
_RECORD = 0xFEEDBABE
_UNMOUNT = 0x20


def xfs_log(volume: Slice) -> str:
    """Return why the log has to be replayed; empty if it ends with an unmount.

    Raises
    ------
    StoreError
    """
    raw = volume.read(0, 512)
    block, agblocks = struct.unpack_from(">I", raw, 4)[0], struct.unpack_from(">I", raw, 84)[0]
    start, blocks, shift = struct.unpack_from(">Q", raw, 48)[0], struct.unpack_from(">I", raw, 96)[0], raw[124]
    if not start:
        return "its log is on another disk"
    if shift > 31 or not 0 < blocks * block <= _MOST_LOG:
        return "its log cannot be where its superblock says"
    offset = ((start >> shift) * agblocks + (start & ((1 << shift) - 1))) * block
    newest = _newest(volume, offset, blocks * block)
    if newest is None:
        return "its log has no record"
    return "" if _is_unmount(volume, newest) else "its log was not replayed: files may lack what was written last"


def _newest(volume: Slice, offset: int, length: int) -> int | None:
    """Return where the record with the highest sequence (cycle, block) begins."""
    best, at = (-1, -1), -1
    for begin, count in volume.stretches(offset, length):
        for step in range(begin, begin + count, _STEP):
            raw = volume.read(step, min(_STEP, begin + count - step))
            words = np.frombuffer(raw[: len(raw) // _BLOCK * _BLOCK], ">u4").reshape(-1, _BLOCK // 4)
            for row in np.flatnonzero(words[:, 0] == _RECORD).tolist():
                sequence = (int(words[row, 4]), int(words[row, 5]))
                if sequence > best and sequence[0] == int(words[row, 1]):
                    best, at = sequence, step + row * _BLOCK
    return at if at >= 0 else None


def _is_unmount(volume: Slice, record: int) -> bool:
    """Tell whether a record holds an unmount alone."""
    header = volume.read(record, _BLOCK)
    operations, size = struct.unpack_from(">I", header, 40)[0], struct.unpack_from(">I", header, 320)[0]
    after = _BLOCK * max(1, min(-(-size // 32768), 8))
    return operations == 1 and bool(volume.read(record + after, 12)[9:10] == bytes([_UNMOUNT]))


def ntfs_log(volume: Slice) -> str:
    """Return why $LogFile has to be replayed; empty if it is clean.

    Raises
    ------
    StoreError
    """
    from workbench.disk.tsk import open_tsk

    try:
        content = open_tsk(volume).open(2)
        pages = [content.read(4096) or b""]
        content.seek(4096)
        pages.append(content.read(4096) or b"")
    except DiskError as error:
        return f"its log cannot be read: {error}"
    if pages[0][:4] == b"\xff\xff\xff\xff":
        return ""  # emptied, as ntfs-3g does
    clean = [_restart(page) for page in pages if page[:4] == b"RSTR"]
    if not clean:
        return "its log has no restart page"
    newest = max(clean)
    return "" if newest[1] else "its log was not replayed: Windows held it open (or fast start-up left it so)"


def _restart(page: bytes) -> tuple[int, bool]:
    """Return a restart page's sequence number and whether it says that nothing is left to do."""
    at = struct.unpack_from("<H", page, 24)[0]
    if at + 16 > len(page):
        return -1, False
    current, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, at)
    return current, in_use == 0xFFFF or bool(flags & 2)


def btrfs_log(volume: Slice) -> str:
    """Return why the log tree of a btrfs has to be replayed; empty if there is none.

    Source: linux/include/uapi/linux/btrfs_tree.h (`btrfs_super_block.log_root`).

    Raises
    ------
    StoreError
    """
    return "the log tree of a btrfs is not replayed here" if any(volume.read(65536 + 96, 8)) else ""
