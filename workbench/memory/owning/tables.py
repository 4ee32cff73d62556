"""x86-64 page tables of many address spaces at once: every page that they map in a span of virtual addresses.

Source: Intel SDM volume 3, 4.5; Linux arch/x86/include/asm/pgtable_types.h and pgtable-invert.h for pages that a
process has made inaccessible. Executable and writable are as the last level says: kernels that keep user and kernel
tables apart forbid execution in the topmost level of their own copy.

Refuses to read more tables than there are frames, or to return more pages than `most`: tables are the guest's, and may
point at each other. What was cut is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.memory.owning.frames import I64, U64, Frames

__all__ = ["EXECUTABLE", "MOST", "WRITABLE", "Pages", "walk"]

MOST = 1 << 22
"""Pages that are returned at most, over all address spaces."""
_CHUNK = 2048
"""Tables read at once: 8 MiB."""
_FRAME = np.uint64(0x000F_FFFF_FFFF_F000)
_PRESENT, _LARGE, _WRITE = np.uint64(1), np.uint64(1 << 7), np.uint64(1 << 1)
_NO_ACCESS, _NO_EXECUTE = np.uint64(1 << 8), np.uint64(1 << 63)
WRITABLE, EXECUTABLE = 1, 2
_PAGE_BITS = np.uint64(12)


@dataclass(slots=True)
class Pages:
    """What tables map, in pages of 4 KiB.

    Attributes
    ----------
    space : (n,) int64
        Which of the address spaces.
    virtual : (n,) uint64
    frame : (n,) int64
    bits : (n,) int64
        `WRITABLE` and `EXECUTABLE`.
    tables : (m,) int64
        Frames that are page tables, ascending.
    error : str
        What was cut, and where.
    """

    space: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    virtual: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    frame: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    bits: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    tables: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    error: str = ""

    @classmethod
    def joined(cls, parts: Sequence[Pages], tables: I64, error: str) -> Pages:
        """Return the pages of several walks as one."""
        every = [cls(), *parts]
        return cls(
            np.concatenate([each.space for each in every]),
            np.concatenate([each.virtual for each in every]),
            np.concatenate([each.frame for each in every]),
            np.concatenate([each.bits for each in every]),
            tables,
            error,
        )


@dataclass(slots=True)
class _Entries:
    """Entries of one level: whose, what they map from where on, and themselves."""

    space: I64
    virtual: U64
    entry: U64

    def where(self, mask: Any) -> _Entries:
        return _Entries(self.space[mask], self.virtual[mask], self.entry[mask])


def walk(frames: Frames, roots: I64, levels: int, low: int, high: int, most: int = MOST) -> Pages:
    """Return what page tables map in `[low, high)`.

    Parameters
    ----------
    roots : (n,) int64
        Physical addresses of the topmost tables; each is one address space.
    levels : {4, 5}
    low, high : int
        Canonical virtual addresses.
    most : int
        Pages to return at most.

    Raises
    ------
    StoreError
    """
    tables = _Entries(np.arange(len(roots)), np.zeros(len(roots), np.uint64), np.asarray(roots).astype(np.uint64))
    seen: list[U64] = []
    leaves: list[Pages] = []
    budget, error = most, ""
    left = len(frames.numbers)
    for level in range(levels, 0, -1):
        if len(tables.entry) > left:
            error = f"more page tables than memory has pages: cut at level {level}"
            tables = tables.where(slice(0, left))
        left -= len(tables.entry)
        seen.append((tables.entry & _FRAME) >> _PAGE_BITS)
        below = []
        for entries in _read(frames, tables, level, levels, low, high):
            is_leaf = (entries.entry & _LARGE != 0) & (level <= 3) if level > 1 else np.ones(len(entries.entry), bool)
            if is_leaf.any():
                found = _expand(frames, entries.where(is_leaf), level, budget)
                error = found.error or error
                budget -= len(found.frame)
                leaves.append(found)
            below.append(entries.where(~is_leaf))
        tables = _joined(below)
    known = np.unique(np.concatenate(seen)).astype(np.int64)
    return Pages.joined(leaves, known[frames.holds(known)], error)


def _joined(parts: list[_Entries]) -> _Entries:
    empty = _Entries(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    every = [empty, *parts]
    return _Entries(
        *(np.concatenate([getattr(each, name) for each in every]) for name in ("space", "virtual", "entry"))
    )


def _read(frames: Frames, tables: _Entries, level: int, levels: int, low: int, high: int) -> Iterator[_Entries]:
    """Yield the present entries of tables that map something in the span."""
    shift = np.uint64(12 + 9 * (level - 1))
    for begin in range(0, len(tables.entry), _CHUNK):
        part = tables.where(slice(begin, begin + _CHUNK))
        content, _ = frames.take(((part.entry & _FRAME) >> _PAGE_BITS).astype(np.int64))
        entries = content.view("<u8")
        rows, slots = np.nonzero(entries & (_PRESENT | (_NO_ACCESS if level == 1 else _PRESENT)))
        virtual = part.virtual[rows] | (slots.astype(np.uint64) << shift)
        if level == levels:  # canonical addresses: the upper half has all upper bits set
            virtual[slots >= 256] |= ~np.uint64((1 << (12 + 9 * levels)) - 1)
        last = virtual | ((np.uint64(1) << shift) - np.uint64(1))
        inside = (last >= np.uint64(low)) & (virtual <= np.uint64(high - 1))
        yield _Entries(part.space[rows[inside]], virtual[inside], entries[rows[inside], slots[inside]])


def _expand(frames: Frames, leaves: _Entries, level: int, budget: int) -> Pages:
    """Return leaves as pages of 4 KiB, those where the guest has memory."""
    size = 1 << (9 * (level - 1))
    error = ""
    if len(leaves.entry) * size > budget:
        error = "more pages mapped than are looked at: some mappings are missing"
        leaves = leaves.where(slice(0, budget // size))
    entry = leaves.entry
    # The frame of an entry that is not present is inverted (L1TF).
    place = np.where(entry & _PRESENT != 0, entry, ~entry) & _FRAME
    first = (place >> _PAGE_BITS).astype(np.int64) & ~(size - 1)
    bits = (entry & _WRITE != 0) * WRITABLE + (entry & _NO_EXECUTE == 0) * EXECUTABLE
    steps = np.tile(np.arange(size), len(entry))
    frame = np.repeat(first, size) + steps
    virtual = np.repeat(leaves.virtual, size) + (steps.astype(np.uint64) << _PAGE_BITS)
    kept = frames.holds(frame)
    space, bits = np.repeat(leaves.space, size)[kept], np.repeat(bits, size)[kept]
    return Pages(space, virtual[kept], frame[kept], bits.astype(np.int64), error=error)
