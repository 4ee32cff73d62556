"""What is done to blocks: hashing, zero detection, XOR against a base, compression; all vectorised but the hash call.

Refuses to know where blocks come from or go to. Compressors are kept per thread: zstd's contexts cannot be shared.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import zstandard
from blake3 import blake3

from workbench.errors import DamagedError
from workbench.store.format import ID_BYTES
from workbench.store.types import U8, U64, Bools

__all__ = [
    "block_ids",
    "choose_xor",
    "compress",
    "compressors",
    "decompress",
    "differ",
    "digest_of",
    "nonzero_rows",
    "pool",
    "prefixes",
    "words",
]

LEVEL = 3
_local = threading.local()


_GIVE_WAY = 10
"""Niceness of what compresses: it is in no hurry, and guests on the same processors are."""


@cache
def pool() -> ThreadPoolExecutor:
    """Return the threads that decompress: zstd lets go of the interpreter meanwhile."""
    return ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 1)), thread_name_prefix="unzstd")


@cache
def compressors() -> ThreadPoolExecutor:
    """Return the threads that compress, while the guest runs: one processor is left to it, and they give way."""
    threads = max(1, min(3, (os.cpu_count() or 1) - 1))
    return ThreadPoolExecutor(threads, thread_name_prefix="zstd", initializer=_give_way)


def _give_way() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _GIVE_WAY)  # of this thread alone, on Linux


def _forget_threads() -> None:
    """Forget threads that a forked child has none of."""
    pool.cache_clear()
    compressors.cache_clear()


os.register_at_fork(after_in_child=_forget_threads)


def words(blocks: U8) -> U64:
    """Return (n, size) bytes as (n, size / 8) words: eight times fewer elements to compare."""
    return blocks.view(np.uint64)


def nonzero_rows(blocks: U8) -> Bools:
    """Return, per block, whether any of its bytes is not zero."""
    # max() runs with SIMD and without a temporary array; any() over words makes one of booleans first.
    return words(blocks).max(axis=1) != 0 if len(blocks) else np.zeros(0, np.bool_)


def differ(a: U8, b: U8) -> Bools:
    """Return, per block, whether `a` and `b` differ."""
    result: Bools = (words(a) != words(b)).any(axis=1)
    return result


def prefixes(ids: U8) -> U64:
    """Return the first eight bytes of each id as a number: a key for look-ups that are verified afterwards."""
    return np.ascontiguousarray(ids[:, :8]).view(np.uint64).reshape(len(ids))


def block_ids(blocks: U8) -> U8:
    """Return the ids of blocks, (n, 32): BLAKE3-256 of each, zeros for a block of zeros."""
    ids = np.zeros((len(blocks), ID_BYTES), np.uint8)
    rows = np.flatnonzero(nonzero_rows(blocks))
    if len(rows):
        joined = b"".join([blake3(blocks[row]).digest() for row in rows.tolist()])
        ids[rows] = np.frombuffer(joined, np.uint8).reshape(-1, ID_BYTES)
    return ids


def choose_xor(blocks: U8, bases: U8) -> tuple[U8, Bools]:
    """Return XOR of blocks and bases, and for which rows it leaves less than half of the block's non-zero bytes.

    Half, because the XOR of two unlike contents is noise: a few bytes fewer of that compress worse than the block.
    """
    mixed = (words(blocks) ^ words(bases)).view(np.uint8)
    return mixed, 2 * np.count_nonzero(mixed, axis=1) < np.count_nonzero(blocks, axis=1)


def digest_of(data: bytes) -> bytes:
    """Return BLAKE3-256 of `data`."""
    return blake3(data).digest()


def compress(data: U8) -> tuple[bytes, bytes]:
    """Return `data` compressed, and the digest of that; for a thread of the pool."""
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=LEVEL)
    packed: bytes = compressor.compress(data.data)
    return packed, blake3(packed).digest()


def decompress(data: bytes, plain: int, name: str, offset: int) -> bytes:
    """Return `plain` bytes decompressed from one frame; for a thread of the pool.

    Raises
    ------
    DamagedError
        If it holds another amount, or does not decompress.
    """
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        stated = zstandard.frame_content_size(data)
        if stated != plain:
            raise DamagedError("frame states a wrong size", path=name, offset=offset, expected=plain, found=stated)
        content: bytes = decompressor.decompress(data, max_output_size=plain)
    except zstandard.ZstdError as error:
        raise DamagedError(f"frame does not decompress: {error}", path=name, offset=offset) from error
    return content
