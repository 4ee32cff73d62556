"""Which stretches of a volume no file uses, out of the file system's own map of them.

Refuses to trust a map's numbers: what lies outside of the volume is cut, and a table that cannot be is an error.
Sources: linux/fs/ext4/ext4.h and Documentation/filesystems/ext4 (bigalloc, meta_bg, uninitialised groups), the
documentation of NTFS ($Bitmap) by libyal, Microsoft's FAT32 and exFAT specifications.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from workbench.disk.image import Bytes
from workbench.errors import DiskError, UnsupportedError

__all__ = ["free_runs", "joined"]

_STEP = 1 << 20
"""Bytes of a map looked at at once."""
_MOST_GROUPS = 1 << 22
_NTFS_BITMAP = 6
"""The record of $Bitmap."""

Opener = Callable[[int], io.RawIOBase]
_Runs = Iterator[tuple[int, int]]


def free_runs(volume: Bytes, kind: str, opener: Opener) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) in bytes of the volume of what no file uses, ascending.

    Parameters
    ----------
    volume : Bytes
    kind : str
        "ext4", "ntfs", "fat16" ...
    opener : callable
        Opens a file by its inode, for maps that are files.

    Raises
    ------
    UnsupportedError
        If there is no reader for the kind's map.
    DiskError
        If the map cannot be read.
    StoreError
    """
    if kind.startswith("ext"):
        found = _ext(volume)
    elif kind == "exfat":
        found = _exfat(volume)
    elif kind.startswith("fat"):
        found = _fat(volume, int(kind[3:]))
    elif kind == "ntfs":
        found = _ntfs(volume, opener)
    else:
        raise UnsupportedError(f"free space of {kind} cannot be told", cure="Ask for another file system.")
    for offset, length in joined(found):
        if offset < volume.size:
            yield offset, min(length, volume.size - offset)


def joined(runs: Iterable[tuple[int, int]]) -> _Runs:
    """Yield ascending runs, those that touch as one."""
    start = end = 0
    for offset, length in runs:
        if offset != end:
            if end > start:
                yield start, end - start
            start = offset
        end = offset + length
    if end > start:
        yield start, end - start


def _true_runs(flags: NDArray[np.bool_]) -> _Runs:
    """Yield (first, count) of the stretches that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    yield from ((start, end - start) for start, end in edges.reshape(-1, 2).tolist())


def _zero_bits(raw: bytes, count: int) -> _Runs:
    """Yield (first, count) of the stretches of zero bits among the first `count`, lowest bit first."""
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[:count]
    yield from _true_runs(bits == 0)


# ext2, ext3, ext4.


def _ext(volume: Bytes) -> _Runs:
    raw = volume.read(1024, 1024)
    low, first, log_block, log_cluster = (struct.unpack_from("<I", raw, at)[0] for at in (4, 0x14, 0x18, 0x1C))
    compatible_readonly, incompatible = (struct.unpack_from("<I", raw, at)[0] for at in (0x64, 0x60))
    per_group = struct.unpack_from("<I", raw, 0x20)[0]
    high = struct.unpack_from("<I", raw, 0x150)[0] if incompatible & 0x80 else 0
    blocks, block = high << 32 | low, 1024 << min(log_block, 6)
    ratio = 1 << min(log_cluster - log_block, 20) if compatible_readonly & 0x200 and log_cluster > log_block else 1
    groups = -(-max(0, blocks - first) // per_group) if per_group else 0
    if not groups or groups > _MOST_GROUPS or per_group > 8 * block * ratio:
        raise DiskError("the groups of blocks cannot be", groups=groups, per_group=per_group)
    for group, at, used in _groups(volume, raw, groups, block, first):
        begin = first + group * per_group
        count = min(per_group, blocks - begin)
        if used is not None:  # its map was never written
            after = max([begin, *(each for each in used if begin < each <= begin + count)])
            yield after * block, (begin + count - after) * block
            continue
        bitmap = volume.read(at * block, block)
        if len(bitmap) < block:
            raise DiskError("a map of blocks lies outside of the volume", group=group)
        for start, length in _zero_bits(bitmap, -(-count // ratio)):
            yield (begin + start * ratio) * block, min(length * ratio, count - start * ratio) * block


def _groups(
    volume: Bytes, superblock: bytes, groups: int, block: int, first: int
) -> Iterator[tuple[int, int, tuple[int, ...] | None]]:
    """Yield number and block of the map of each group, and, if that was never written, the ends of what is in use."""
    incompatible, readonly = struct.unpack_from("<II", superblock, 0x60)
    size = struct.unpack_from("<H", superblock, 0xFE)[0] if incompatible & 0x80 else 32
    if size < 32 or size > block or size & (size - 1):
        raise DiskError("descriptors of groups of a size that cannot be", size=size)
    if incompatible & 0x10:
        raise UnsupportedError("free space of ext with meta_bg cannot be told", cure="Read files by name.")
    table = volume.read((first + 1) * block, groups * size)
    if len(table) < groups * size:
        raise DiskError("the table of groups lies outside of the volume", groups=groups)
    reserved = struct.unpack_from("<H", superblock, 0xCE)[0] + -(-groups * size // block) + 1
    (per_group,), (inodes,) = (struct.unpack_from("<I", superblock, each) for each in (0x20, 0x28))
    (inode,) = struct.unpack_from("<H", superblock, 0x58)
    inode_blocks = -(-inodes * inode // block)
    for group in range(groups):
        at = [struct.unpack_from("<I", table, group * size + each)[0] for each in (0, 4, 8)]
        if size >= 64:
            high = struct.unpack_from("<III", table, group * size + 0x20)
            at = [upper << 32 | lower for upper, lower in zip(high, at, strict=True)]
        flags = struct.unpack_from("<H", table, group * size + 0x12)[0]
        unused = readonly & 0x410 and flags & 2  # gdt_csum or metadata_csum, BLOCK_UNINIT
        backup = reserved if not readonly & 1 or _has_copy(group) else 0
        ends = (first + group * per_group + backup, at[0] + 1, at[1] + 1, at[2] + inode_blocks)
        yield group, at[0], ends if unused else None


def _has_copy(group: int) -> bool:
    """Tell whether a group has a copy of the superblock (sparse_super): 0, 1 and powers of 3, 5 and 7."""
    return group < 2 or any(base ** round(np.log(group) / np.log(base)) == group for base in (3, 5, 7))


# NTFS.


def _ntfs(volume: Bytes, opener: Opener) -> _Runs:
    raw = volume.read(0, 512)
    sector, count = struct.unpack_from("<H", raw, 11)[0], raw[13]
    cluster = sector * count if count <= 128 else sector << min(256 - count, 32)
    clusters = struct.unpack_from("<Q", raw, 0x28)[0] * sector // cluster if cluster else 0
    yield from _map_file(opener(_NTFS_BITMAP), clusters, cluster, 0)


def _map_file(content: io.RawIOBase, clusters: int, cluster: int, offset: int) -> _Runs:
    """Yield free runs out of a file of bits; what it does not reach is not said to be free."""
    done = 0
    while done < clusters:
        raw = content.read(_STEP)
        if not raw:
            return
        for start, length in _zero_bits(raw, clusters - done):
            yield offset + (done + start) * cluster, length * cluster
        done += 8 * len(raw)


# FAT and exFAT.


def _fat(volume: Bytes, bits: int) -> _Runs:
    raw = volume.read(0, 512)
    sector, per, reserved, tables, roots, small, _, small_table = struct.unpack_from("<HBHBHHBH", raw, 11)
    large, large_table = struct.unpack_from("<II", raw, 32)
    table = (small_table or large_table) * sector
    begin = (reserved * sector) + tables * table + -(-roots * 32 // max(1, sector)) * sector
    cluster = per * sector
    if not cluster or not table or table > volume.size:
        raise DiskError("the tables of clusters cannot be", cluster=cluster, table=table)
    clusters = ((small or large) * sector - begin) // cluster
    step = _STEP - _STEP % 12
    for at in range(0, table, step):
        entries = _entries(volume.read(reserved * sector + at, min(step, table - at)), bits)
        first = at * 8 // bits
        free = (entries == 0)[: max(0, clusters + 2 - first)]
        if not first:
            free[:2] = False
        for start, length in _true_runs(free):
            yield begin + (first + start - 2) * cluster, length * cluster


def _entries(raw: bytes, bits: int) -> NDArray[np.uint32]:
    """Return the entries of a piece of a table of clusters."""
    if bits == 16:
        return np.frombuffer(raw[: len(raw) & ~1], "<u2").astype(np.uint32)
    if bits == 32:
        return np.frombuffer(raw[: len(raw) & ~3], "<u4").astype(np.uint32) & np.uint32(0x0FFFFFFF)
    triples = np.frombuffer(raw[: len(raw) - len(raw) % 3], np.uint8).reshape(-1, 3).astype(np.uint32)
    pairs = np.empty((len(triples), 2), np.uint32)
    pairs[:, 0] = triples[:, 0] | (triples[:, 1] & 15) << 8
    pairs[:, 1] = triples[:, 1] >> 4 | triples[:, 2] << 4
    return pairs.ravel()


def _exfat(volume: Bytes) -> _Runs:
    raw = volume.read(0, 512)
    table, heap, clusters, root = (struct.unpack_from("<I", raw, at)[0] for at in (80, 88, 92, 96))
    sector, cluster = raw[108], raw[108] + raw[109]
    if not 9 <= sector <= 12 or cluster > 25:
        raise DiskError("sectors or clusters of a size that cannot be", sector=sector, cluster=cluster)
    begin, size = heap << sector, 1 << cluster
    entries = volume.read(begin + (root - 2) * size, size) if root >= 2 else b""
    for at in range(0, len(entries), 32):
        if entries[at] == 0x81 and not entries[at + 1] & 1:
            first, length = struct.unpack_from("<IQ", entries, at + 20)
            bitmap = _chain(volume, table << sector, begin, size, first, min(length, -(-clusters // 8)))
            yield from _map_file(io.BytesIO(bitmap), clusters, size, begin)  # type: ignore[arg-type]
            return
    raise DiskError("no map of clusters in the root directory", root=root)


def _chain(volume: Bytes, table: int, begin: int, size: int, cluster: int, length: int) -> bytes:
    """Read a file by its chain in the table of clusters."""
    parts: list[bytes] = []
    for _ in range(-(-length // size)):
        if cluster < 2 or begin + (cluster - 2) * size >= volume.size:
            raise DiskError("the map of clusters breaks off", cluster=cluster)
        parts.append(volume.read(begin + (cluster - 2) * size, size))
        cluster = int.from_bytes(volume.read(table + 4 * cluster, 4), "little")
    return b"".join(parts)[:length]
