"""What a stretch of a disk is, by the marks at known places: file systems, encryption, members of something larger.

Refuses to guess: what has no mark is "unknown", what is all zero "empty". A mark says what something claims to be;
whether it can be read shows when it is opened.

Sources: linux/fs/ext4/ext4.h, linux/fs/xfs/libxfs/xfs_format.h, linux/fs/btrfs (btrfs_tree.h), cryptsetup's LUKS1
and LUKS2 on-disk formats, mdadm's mdp_superblock_1, bcache_format.h, swap.h, OpenZFS vdev_impl.h, Microsoft's
exFAT and FAT32 specifications, the documentation of NTFS and BitLocker volume headers by libyal.
"""

from __future__ import annotations

import struct
import uuid as uuids
from collections.abc import Callable
from dataclasses import dataclass, replace

from workbench.disk.image import Bytes, SparseBytes

__all__ = ["BACKUPS", "EXT_MAGIC", "Signature", "ext_clusters", "ext_superblock", "identify"]

EXT_MAGIC = b"\x53\xef"
BACKUPS = tuple(
    (group * 8 * size + (1 if size == 1024 else 0)) * size for size in (4096, 1024, 2048) for group in (1, 3)
)
"""Where ext keeps copies of its superblock, by the sizes of blocks that mke2fs chooses."""
_EMPTY_READ = 8 << 20
_TO_GO = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a stretch of a disk claims to be.

    Attributes
    ----------
    kind : str
    label, uuid : str
        Empty where there is none.
    cluster : int
        Bytes of an allocation unit; 0 if it has none.
    note : str
        What to know before it is opened.
    dirty : bool
        Whether it says that a journal must be replayed (ext only).
    backup : int
        Byte of the copy of a superblock that it was read from; 0 for the first (ext only).
    """

    kind: str
    label: str = ""
    uuid: str = ""
    cluster: int = 0
    note: str = ""
    dirty: bool = False
    backup: int = 0


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _uuid(raw: bytes) -> str:
    return str(uuids.UUID(bytes=raw)) if len(raw) == 16 and any(raw) else ""


def ext_superblock(raw: bytes) -> Signature | None:
    """Read what a superblock of ext2, ext3 or ext4 says; None if it is none.

    Parameters
    ----------
    raw : bytes
        1024 bytes.
    """
    if len(raw) < 1024 or raw[0x38:0x3A] != EXT_MAGIC:
        return None
    (blocks,), (log_size,), (per_group,) = (struct.unpack_from("<I", raw, at) for at in (4, 0x18, 0x20))
    if log_size > 6 or not blocks or not per_group:
        return None
    compatible, incompatible, readonly = struct.unpack_from("<III", raw, 0x5C)
    if incompatible & 0x8:
        return Signature("journal", note="an external journal of ext3 or ext4")
    newer = incompatible & 0x3C0 or readonly & 0x78  # extents, 64bit, mmp, flex_bg; huge_file ... extra_isize
    kind = "ext4" if newer else "ext3" if compatible & 0x4 else "ext2"
    return Signature(
        kind, _text(raw[0x78:0x88]), _uuid(raw[0x68:0x78]), 1024 << log_size, dirty=bool(incompatible & 0x4)
    )


def ext_clusters(raw: bytes) -> bool:
    """Tell whether a superblock of ext4 says that blocks are allocated in clusters (bigalloc)."""
    return len(raw) >= 0x68 and bool(struct.unpack_from("<I", raw, 0x64)[0] & 0x200)


def _ext(content: Bytes) -> Signature | None:
    return ext_superblock(content.read(1024, 1024))


def _ext_backup(content: Bytes) -> Signature | None:
    for offset in BACKUPS:
        found = ext_superblock(content.read(offset, 1024))
        if found is not None:
            note = f"the superblock is damaged; its copy at byte {offset} is read instead"
            return replace(found, note=note, backup=offset)
    return None


def _xfs(content: Bytes) -> Signature | None:
    raw = content.read(0, 512)
    if raw[:4] != b"XFSB":
        return None
    return Signature("xfs", _text(raw[108:120]), _uuid(raw[32:48]), struct.unpack_from(">I", raw, 4)[0])


def _btrfs(content: Bytes) -> Signature | None:
    raw = content.read(0x10000, 1024)
    if raw[0x40:0x48] != b"_BHRfS_M":
        return None
    return Signature("btrfs", _text(raw[0x12B:0x22B]), _uuid(raw[0x20:0x30]), struct.unpack_from("<I", raw, 0x90)[0])


def _boot(content: Bytes) -> Signature | None:
    """NTFS, exFAT, BitLocker and FAT, by the boot sector's name."""
    raw = content.read(0, 512)
    if len(raw) < 512:
        return None
    if raw[3:11] == b"-FVE-FS-" or raw[0x1A8:0x1B8] == _TO_GO:
        return Signature("bitlocker", note="encrypted (BitLocker); its content cannot be read without a key")
    if raw[3:11] == b"NTFS    ":
        return Signature("ntfs", uuid=raw[0x48:0x50][::-1].hex().upper(), cluster=_ntfs_cluster(raw))
    if raw[3:11] == b"EXFAT   ":
        shift = raw[108] + raw[109]
        return Signature("exfat", uuid=_serial(raw[100:104]), cluster=1 << shift if shift <= 25 else 0)
    return _fat(raw)


def _ntfs_cluster(raw: bytes) -> int:
    sector, count = struct.unpack_from("<H", raw, 11)[0], raw[13]
    return int(sector * count) if count <= 128 else int(sector << min(256 - count, 32))


def _serial(raw: bytes) -> str:
    number = int.from_bytes(raw, "little")
    return f"{number >> 16:04X}-{number & 0xFFFF:04X}"


def _fat(raw: bytes) -> Signature | None:
    sector, count, reserved, tables, roots, small, _, small_table = struct.unpack_from("<HBHBHHBH", raw, 11)
    fits = sector in (512, 1024, 2048, 4096) and count and not count & (count - 1)
    if not (fits and reserved and tables in (1, 2) and raw[510:512] == b"\x55\xaa" and raw[0] in (0xEB, 0xE9)):
        return None
    large, large_table = struct.unpack_from("<II", raw, 32)
    table, sectors = small_table or large_table, small or large
    clusters = (sectors - reserved - tables * table - -(-roots * 32 // sector)) // count
    if not table or clusters <= 0:
        return None
    at = 0x27 if small_table else 0x43
    label = raw[at + 4 : at + 15].decode("cp437").strip()
    kind = "fat12" if clusters < 4085 else "fat16" if clusters < 65525 else "fat32"
    return Signature(kind, "" if label == "NO NAME" else label, _serial(raw[at : at + 4]), sector * count)


def _luks(content: Bytes) -> Signature | None:
    raw = content.read(0, 512)
    if raw[:6] not in (b"LUKS\xba\xbe", b"SKUL\xba\xbe"):
        return None
    version = struct.unpack_from(">H", raw, 6)[0]
    note = f"encrypted (LUKS{version}); its content cannot be read without a key"
    return Signature("luks", _text(raw[24:72]) if version == 2 else "", _text(raw[168:208]), note=note)


def _swap(content: Bytes) -> Signature | None:
    raw = content.read(0, 65536)
    for page in (4096, 8192, 16384, 65536):
        if raw[page - 10 : page] in (b"SWAPSPACE2", b"SWAP-SPACE"):
            return Signature("swap", _text(raw[1052:1068]), _uuid(raw[1036:1052]), page, "a swap area")
    return None


def _lvm(content: Bytes) -> Signature | None:
    raw = content.read(0, 2048)
    for at in range(0, 2048, 512):
        if raw[at : at + 8] == b"LABELONE" and raw[at + 24 : at + 32] == b"LVM2 001":
            return Signature("lvm", uuid=_text(raw[at + 32 : at + 64]), note="a physical volume of LVM")
    return None


def _mdraid(content: Bytes) -> Signature | None:
    end = max(0, (content.size & ~0xFFF) - 8192)
    for offset in (0, 4096, end):
        raw = content.read(offset, 256)
        if raw[:8] == b"\xfc\x4e\x2b\xa9\x01\0\0\0":
            return Signature("mdraid", _text(raw[32:64]), _uuid(raw[16:32]), note="a member of a Linux RAID")
    old = content.read(max(0, (content.size & ~0xFFFF) - 65536), 64)
    if old[:4] == b"\xfc\x4e\x2b\xa9":
        return Signature("mdraid", note="a member of a Linux RAID (format 0.90)")
    return None


def _bcache(content: Bytes) -> Signature | None:
    raw = content.read(4096, 128)
    if raw[24:40] != bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"):
        return None
    return Signature("bcache", _text(raw[72:104]), _uuid(raw[40:56]), note="a device of bcache")


def _zfs(content: Bytes) -> Signature | None:
    """Look for an uberblock in the first or last label: 128 KiB of a ring, each at least 1 KiB."""
    for label in (0, 256 << 10, (content.size & ~0x3FFFF) - (256 << 10)):
        if label < 0:
            continue
        ring = content.read(label + (128 << 10), 128 << 10)
        if any(ring[at : at + 8] in _UBERBLOCK for at in range(0, len(ring), 1024)):
            return Signature("zfs", note="a member of a ZFS pool; it cannot be read")
    return None


_UBERBLOCK = (bytes.fromhex("0cb1ba0000000000"), bytes.fromhex("0000000000bab10c"))
_LOOKS: tuple[Callable[[Bytes], Signature | None], ...] = (
    _luks, _lvm, _mdraid, _xfs, _ext, _btrfs, _swap, _bcache, _boot, _zfs, _ext_backup
)  # fmt: skip


def identify(content: SparseBytes) -> Signature:
    """Tell what a stretch of a disk claims to be.

    Raises
    ------
    StoreError
    """
    for look in _LOOKS:
        found = look(content)
        if found is not None:
            return found
    if _is_empty(content):
        return Signature("empty", note="all zero")
    return Signature("unknown", note="no file system known here; perhaps encrypted without a header")


def _is_empty(content: SparseBytes) -> bool:
    """Tell whether everything is zero; only what may not be is read, up to a bound."""
    left = _EMPTY_READ
    for offset, length in content.stretches(0, content.size):
        if left <= 0 or any(content.read(offset, min(length, left))):
            return False
        left -= length
    return left > 0
