"""Write and read the two small kinds of qcow2 image that pass between QEMU and us.

An *empty image* is the target of a backup job; `read_clusters` reads what the job wrote. A *state image* holds one
internal snapshot whose VM state is a device stream, for `snapshot-load`. Both are made in place in a descriptor (a
memfd or a spool file), without starting a process. Refuses images that it did not make: no compression, no backing
file, no encryption, no other cluster size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import FormatError
from workbench.guest import c_qcow2 as c
from workbench.model import CLUSTER

__all__ = ["Clusters", "read_clusters", "write_empty_image", "write_state_image"]

SNAPSHOT_TAG = "rwb"


@dataclass(frozen=True, slots=True)
class Clusters:
    """What a backup job wrote into an image.

    Attributes
    ----------
    data : ndarray of int64, shape (n,)
        Indices of clusters with content, ascending.
    offsets : ndarray of int64, shape (n,)
        Their byte offsets in the image file.
    zeros : ndarray of int64, shape (m,)
        Indices of clusters written as zeros, ascending.
    """

    data: NDArray[np.int64]
    offsets: NDArray[np.int64]
    zeros: NDArray[np.int64]

    def read(self, descriptor: int, part: slice) -> NDArray[np.uint8]:
        """Return the content of `data[part]`, shape (k, CLUSTER), uint8, from the image behind `descriptor`."""
        offsets = self.offsets[part]
        blocks = np.zeros((len(offsets), CLUSTER), np.uint8)
        for block, offset in zip(blocks, offsets.tolist(), strict=True):
            os.preadv(descriptor, [block.data], offset)
        return blocks


def _header(
    size: int, l1_entries: int, *, l1_at: int, table_at: int, table_clusters: int, snapshots_at: int = 0
) -> bytes:
    return c.HEADER.pack(
        c.MAGIC, 3, 0, 0, c.CLUSTER_BITS, size, 0, l1_entries, l1_at * CLUSTER, table_at * CLUSTER, table_clusters,
        int(snapshots_at > 0), snapshots_at * CLUSTER, 0, 0, 0, 4, c.HEADER.size,
    )  # fmt: skip


def _refcounts(used: int) -> tuple[bytes, bytes]:
    """Return refcount table (one cluster) and blocks for `used` clusters of refcount 1 at the start of the file."""
    blocks = -(-used // c.REFCOUNT_ENTRIES)
    table = np.zeros(c.ENTRIES, ">u8")
    table[:blocks] = (np.arange(blocks) + 2) * CLUSTER
    counts = np.zeros(blocks * c.REFCOUNT_ENTRIES, ">u2")
    counts[:used] = 1
    return table.tobytes(), counts.tobytes()


def write_empty_image(descriptor: int, size: int) -> None:
    """Make the file behind `descriptor` an empty qcow2 of `size` virtual bytes.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    l1_entries = max(1, -(-size // c.L2_SPAN))
    l1_clusters = -(-l1_entries * 8 // CLUSTER)
    used = 3 + l1_clusters  # header, refcount table, one refcount block, L1
    table, counts = _refcounts(used)
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, used * CLUSTER)
    os.pwrite(descriptor, _header(size, l1_entries, l1_at=3, table_at=1, table_clusters=1), 0)
    os.pwrite(descriptor, table[: 8 * 8], CLUSTER)
    os.pwrite(descriptor, counts[: used * 2], 2 * CLUSTER)


def write_state_image(descriptor: int, stream: bytes) -> None:
    """Make the file behind `descriptor` a qcow2 whose snapshot `rwb` has `stream` as its VM state.

    VM state lies in the virtual disk behind its size rounded up to a full L1 entry (QEMU `qcow2_vm_state_offset`), so a
    disk of one cluster leaves L1 entry 1 to the state.

    Raises
    ------
    FormatError
        If the stream is larger than one L2 table can map (512 MiB).
    """
    data = -(-len(stream) // CLUSTER)
    if data > c.ENTRIES:
        raise FormatError(
            "device state too large for a state image", found=len(stream), expected=f"at most {c.L2_SPAN}"
        )
    blocks = 1 + data // c.REFCOUNT_ENTRIES
    l1_at, snapshot_l1, l2_at, snapshots_at = (2 + blocks + n for n in range(4))
    first = snapshots_at + 1
    used = first + data
    table, counts = _refcounts(used)
    l2 = (np.arange(first, used, dtype=np.uint64) * np.uint64(CLUSTER) | np.uint64(c.COPIED)).astype(">u8")
    l1 = np.zeros(2, ">u8")
    l1[1] = l2_at * CLUSTER | c.COPIED
    tag = SNAPSHOT_TAG.encode()
    entry = c.SNAPSHOT.pack(snapshot_l1 * CLUSTER, 2, 1, len(tag), 0, 0, 0, len(stream), c.SNAPSHOT_EXTRA.size)
    entry += c.SNAPSHOT_EXTRA.pack(len(stream), CLUSTER) + b"1" + tag
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, used * CLUSTER)
    header = _header(CLUSTER, 2, l1_at=l1_at, table_at=1, table_clusters=1, snapshots_at=snapshots_at)
    os.pwrite(descriptor, header, 0)
    os.pwrite(descriptor, table, CLUSTER)
    os.pwrite(descriptor, counts, 2 * CLUSTER)
    os.pwrite(descriptor, l1.tobytes(), snapshot_l1 * CLUSTER)
    os.pwrite(descriptor, l2.tobytes(), l2_at * CLUSTER)
    os.pwrite(descriptor, entry + b"\0" * (-len(entry) % 8), snapshots_at * CLUSTER)
    os.pwrite(descriptor, stream, first * CLUSTER)


def read_clusters(descriptor: int) -> Clusters:
    """Return which clusters the image behind `descriptor` maps, and where.

    Raises
    ------
    FormatError
        If the image is not of the one shape that `write_empty_image` makes, or a table points outside the file.
    """
    length = os.fstat(descriptor).st_size
    fields = c.HEADER.unpack(os.pread(descriptor, c.HEADER.size, 0))
    magic, version, _, _, bits, size, _, l1_entries, l1_at = fields[:9]
    if (magic, version, bits) != (c.MAGIC, 3, c.CLUSTER_BITS):
        raise FormatError("not our backup image", found=(hex(magic), version, bits))
    if l1_at + l1_entries * 8 > length:
        raise FormatError("L1 table outside the backup image", offset=l1_at, entries=l1_entries, found=length)
    l1 = np.frombuffer(os.pread(descriptor, l1_entries * 8, l1_at), ">u8").astype(np.uint64)
    indices: list[NDArray[np.int64]] = []
    entries: list[NDArray[np.uint64]] = []
    for number in np.flatnonzero(l1 & np.uint64(c.OFFSET_MASK)).tolist():
        at = int(l1[number]) & c.OFFSET_MASK
        if at + CLUSTER > length:
            raise FormatError("L2 table outside the backup image", offset=at, found=length)
        table = np.frombuffer(os.pread(descriptor, CLUSTER, at), ">u8").astype(np.uint64)
        used = np.flatnonzero(table)
        indices.append(used + number * c.ENTRIES)
        entries.append(table[used])
    index = np.concatenate(indices) if indices else np.zeros(0, np.int64)
    entry = np.concatenate(entries) if entries else np.zeros(0, np.uint64)
    inside = index < -(-size // CLUSTER)
    index, entry = index[inside].astype(np.int64), entry[inside]
    zero = (entry & np.uint64(c.ZERO)).astype(bool)
    offsets = (entry & np.uint64(c.OFFSET_MASK)).astype(np.int64)
    if len(offsets[~zero]) and int(offsets[~zero].max()) + 1 > length:
        raise FormatError("a cluster lies outside the backup image", found=int(offsets.max()), expected=length)
    return Clusters(index[~zero], offsets[~zero], index[zero])
