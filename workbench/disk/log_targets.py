"""What a journal of ext3 or ext4 would write if it were replayed, block by block: read from its descriptors.

Nothing is replayed: transactions that were not committed, and revoked blocks, are told as such. Format: Linux
`include/linux/jbd2.h` (journal_header_t, journal_superblock_t, journal_block_tag_t, journal_block_tag3_t; all
big-endian) and Documentation/filesystems/ext4/journal.rst. Refuses to answer for journals it does not know (fast
commits, on another disk): then nobody can say what is untouched.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from workbench.errors import DiskError

__all__ = ["Log", "needs_recovery", "read_log"]

_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _SUPER_2, _REVOKE = 1, 2, 4, 5
_REVOKES, _64BIT, _ASYNC, _CSUM2, _CSUM3 = 1, 2, 4, 8, 16
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_RECOVER = 4
_MOST = 1 << 20
"""Blocks that are looked at in a journal at most."""


@dataclass(slots=True)
class Log:
    """What lies between a journal's tail and its end.

    Attributes
    ----------
    journal : RawIOBase
    block : int
        Bytes of a block.
    copies : dict of int to list of (int, int, bool)
        Blocks of the file system: for each the transactions that have it, where in the journal the copy is, and
        whether its first bytes are replaced there (they are the journal's magic number).
    revoked : dict of int to list of int
        Blocks, each with the transactions that revoke it.
    committed : set of int
        Transactions that were.
    """

    journal: io.RawIOBase
    block: int
    copies: dict[int, list[tuple[int, int, bool]]] = field(default_factory=dict)
    revoked: dict[int, list[int]] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)

    def fingerprint(self, ranges: Mapping[int, Sequence[tuple[int, int]]]) -> bytes:
        """Return what a replay does to bytes of blocks as a digest: the same digest, the same doing.

        Parameters
        ----------
        ranges : mapping of int to sequence of (int, int)
            Blocks of the file system, and from where to where in each.

        Raises
        ------
        DiskError, StoreError
        """
        digest = blake3()
        for each, spans in sorted(ranges.items()):
            for sequence, at, escaped in self.copies.get(each, ()):
                copy = _at(self.journal, at * self.block, self.block)
                told = b"".join(copy[begin:end] for begin, end in spans)
                digest.update(f"{each} {sequence} {sequence in self.committed} {escaped} {len(told)} ".encode() + told)
            for sequence in self.revoked.get(each, ()):
                digest.update(f"revoked {each} {sequence} {sequence in self.committed} ".encode())
        return digest.digest()


def needs_recovery(superblock: bytes) -> bool:
    """Tell whether an ext superblock (1024 bytes) says that its journal has to be replayed."""
    return len(superblock) >= 1024 and bool(struct.unpack_from("<I", superblock, 0x60)[0] & _RECOVER)


def read_log(journal: io.RawIOBase) -> Log | None:
    """Go through a log from its tail, from descriptor to descriptor.

    Parameters
    ----------
    journal : RawIOBase
        The journal as it was captured.

    Returns
    -------
    Log or None
        None if it is of a kind that is not known here.

    Raises
    ------
    StoreError
    """
    try:
        head = _at(journal, 0, 1024)
        magic, kind = struct.unpack_from(">II", head, 0)
        block, last, first, sequence, start = struct.unpack_from(">IIIII", head, 12)
        features = struct.unpack_from(">I", head, 40)[0] if kind == _SUPER_2 else 0
        unknown = features & ~(_REVOKES | _64BIT | _ASYNC | _CSUM2 | _CSUM3)
        if magic != _MAGIC or unknown or not 1024 <= block <= 65536 or last <= first:
            return None
        log = Log(journal, block)
        return log if _follow(log, features, (first, last), sequence, start) else None
    except DiskError:
        return None


def _follow(log: Log, features: int, bounds: tuple[int, int], sequence: int, at: int) -> bool:
    first, last = bounds
    for _ in range(_MOST):
        raw = _at(log.journal, at * log.block, log.block) if at else b""
        magic, kind, number = struct.unpack_from(">III", raw, 0) if raw else (0, 0, 0)
        if magic != _MAGIC or number != sequence or kind not in {_DESCRIPTOR, _COMMIT, _REVOKE}:
            return True
        targets = _tags(raw, features) if kind == _DESCRIPTOR else []
        for nth, (target, escaped) in enumerate(targets):
            log.copies.setdefault(target, []).append((sequence, _wrapped(at + 1 + nth, first, last), escaped))
        for target in _revokes(raw, features) if kind == _REVOKE else ():
            log.revoked.setdefault(target, []).append(sequence)
        if kind == _COMMIT:
            log.committed.add(sequence)
            sequence = (sequence + 1) & 0xFFFFFFFF
        at = _wrapped(at + 1 + len(targets), first, last)
    return False


def _wrapped(at: int, first: int, last: int) -> int:
    return at if at < last else first + (at - last) % (last - first)


def _revokes(raw: bytes, features: int) -> list[int]:
    """Return the blocks that a revoke record names (`jbd2_journal_revoke_header_t`)."""
    size = 8 if features & _64BIT else 4
    end = min(struct.unpack_from(">I", raw, 12)[0], len(raw))
    return [int.from_bytes(raw[at : at + size], "big") for at in range(16, end - size + 1, size)]


def _tags(raw: bytes, features: int) -> list[tuple[int, bool]]:
    """Return the blocks that a descriptor names, and whether their copies are escaped."""
    end = len(raw) - (4 if features & (_CSUM2 | _CSUM3) else 0)
    size = 16 if features & _CSUM3 else (12 if features & _64BIT else 8) + (2 if features & _CSUM2 else 0)
    found: list[tuple[int, bool]] = []
    at = 12
    while at + size <= end:
        low = struct.unpack_from(">I", raw, at)[0]
        flags = struct.unpack_from(">I" if features & _CSUM3 else ">H", raw, at + (4 if features & _CSUM3 else 6))[0]
        high = struct.unpack_from(">I", raw, at + 8)[0] if features & _64BIT else 0
        found.append((high << 32 | low, bool(flags & _ESCAPED)))
        at += size + (0 if flags & _SAME_UUID else 16)
        if flags & _LAST:
            break
    return found


def _at(journal: io.RawIOBase, offset: int, length: int) -> bytes:
    journal.seek(offset)
    raw = journal.read(length) or b""
    if len(raw) < length:
        raise DiskError("the journal ends before it says", offset=offset)
    return raw
