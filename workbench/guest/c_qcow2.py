"""Byte layout of qcow2, version 3, as far as we write and read it.

Source: QEMU `docs/interop/qcow2.txt`. Integers are big-endian. Refuses to do anything: only layouts.
"""

from __future__ import annotations

import struct

__all__ = [
    "CLUSTER_BITS",
    "COPIED",
    "ENTRIES",
    "HEADER",
    "L2_SPAN",
    "MAGIC",
    "OFFSET_MASK",
    "REFCOUNT_ENTRIES",
    "SNAPSHOT",
    "SNAPSHOT_EXTRA",
    "ZERO",
]

MAGIC = 0x514649FB
CLUSTER_BITS = 16
ENTRIES = 1 << (CLUSTER_BITS - 3)
"""Entries of 8 bytes in one table cluster."""

L2_SPAN = ENTRIES << CLUSTER_BITS
"""Bytes of virtual disk under one L2 table: 512 MiB."""

REFCOUNT_ENTRIES = 1 << (CLUSTER_BITS - 1)
"""Refcounts of 16 bits in one refcount block."""

OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
COPIED = 1 << 63
ZERO = 1

HEADER = struct.Struct(">IIQIIQIIQQIIQQQQII")
"""magic, version, backing offset, backing size, cluster bits, size, crypt, L1 size, L1 offset, refcount table offset,
refcount table clusters, snapshots, snapshots offset, incompatible, compatible, autoclear, refcount order, header
length"""

SNAPSHOT = struct.Struct(">QIHHIIQII")
"""L1 offset, L1 entries, id length, name length, seconds, nanoseconds, vm clock, vm state size (32 bit), extra size"""

SNAPSHOT_EXTRA = struct.Struct(">QQ")
"""vm state size, disk size"""
