"""Virtual memory of one address space, by its page tables alone: 4 or 5 levels, large pages, bounded.

Sources: Intel SDM volume 3, 4.5 (paging); Linux arch/x86/include/asm/pgtable-invert.h and pgtable_types.h for pages
that are in memory though no access is allowed (PROT_NONE: `present` is off, bit 8 on, the frame inverted).

Everything in a page table is the guest's claim. Refuses to give zeros for what is not mapped without saying so, and
to follow tables without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import UnreadableError
from workbench.memory.symbols.walk import Memory, translate
from workbench.model import PAGE
from workbench.store.lru import BoundedCache

__all__ = ["Padded", "Run", "VirtualMemory"]

_PRESENT, _LARGE, _PROTNONE = 1, 1 << 7, 1 << 8
_FRAME = 0x000F_FFFF_FFFF_F000
_CACHE = 16 << 20
"""Bytes of page tables that are kept."""
_MOST_TABLES = 1 << 17
"""Tables that one walk reads: those of 256 GiB in small pages. Tables that point at each other have no end."""
_MOST_READ = 1 << 30
_PIECE = 16 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """Virtual `[address, address + length)` is physical `[physical, physical + length)`."""

    address: int
    physical: int
    length: int


@dataclass(frozen=True, slots=True)
class Padded:
    """What a read gave, zeros where there was nothing.

    Attributes
    ----------
    data : bytes
    holes : tuple of (int, int)
        Offset in `data` and length of what is not in memory.
    """

    data: bytes
    holes: tuple[tuple[int, int], ...]

    @property
    def missing(self) -> int:
        """Number of bytes that are not in memory."""
        return sum(length for _, length in self.holes)


class VirtualMemory:
    """One address space.

    Parameters
    ----------
    memory : Memory
        Physical memory.
    root : int
        Physical address of its top page table (CR3, or `mm->pgd`).
    levels : {4, 5}

    Attributes
    ----------
    half : int
        Address past the lower half, which is a process's own.
    """

    def __init__(self, memory: Memory, root: int, levels: int) -> None:
        self._memory = memory
        self._root = root & _FRAME
        self._levels = levels
        self._bits = 12 + 9 * levels
        self.half = 1 << (self._bits - 1)
        self._tables: BoundedCache[int, NDArray[np.uint64]] = BoundedCache(_CACHE)

    def translate(self, address: int) -> int | None:
        """Return the physical address of a virtual one, None where nothing is mapped."""
        found = translate(self._memory, self._root, self._levels, address)
        if found is not None:
            return found
        page = address & -PAGE
        run = next(self.mapped_runs(page, page + PAGE), None)
        return None if run is None else run.physical + address - page

    def mapped_runs(self, start: int, end: int) -> Iterator[Run]:
        """Yield what is mapped in `[start, end)`, ascending; runs are as long as both addresses go on together.

        Raises
        ------
        UnreadableError
            If the tables go on beyond every sane number, or the range is not in one half of the address space.
        """
        if start >= end:
            return
        top, half = 1 << self._bits, self.half
        low, high = start % top, (end - 1) % top + 1
        if low > high or high - low != end - start or (low < half) != (high <= half):
            raise UnreadableError("not a range of virtual addresses", address=hex(start), end=hex(end))
        sign = start - low
        last: Run | None = None
        for address, physical, length in self._leaves(low, high):
            begin, stop = max(address, low), min(address + length, high)
            run = Run(begin + sign, physical + begin - address, stop - begin)
            if last is not None and _goes_on(last, run):
                run = Run(last.address, last.physical, last.length + run.length)
            elif last is not None:
                yield last
            last = run
        if last is not None:
            yield last

    def _leaves(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """Yield address, physical address and length of mappings that touch `[low, high)`, ascending."""
        stack = [_Step(self._levels, self._root, 0, leaf=False)]
        walked = 0
        while stack:
            step = stack.pop()
            shift = 12 + 9 * (step.level - 1)
            if step.leaf:
                yield step.base, step.frame & -(1 << shift), 1 << shift
                continue
            walked += 1
            if walked > _MOST_TABLES:
                raise UnreadableError("page tables without end", root=hex(self._root), tables=walked)
            first, last = max(0, (low - step.base) >> shift), min(511, (high - 1 - step.base) >> shift)
            entries = self._table(step.frame)[first : last + 1]
            if step.level == 1:
                yield from _small(entries, step.base + (first << shift))
            else:
                stack += reversed(list(_below(entries, step.level, step.base + (first << shift), shift)))

    def _table(self, address: int) -> NDArray[np.uint64]:
        """Return the entries of a page table; none where there is no memory."""
        found = self._tables.get(address)
        if found is None:
            try:
                found = np.frombuffer(self._memory.read(address, PAGE), "<u8")
            except UnreadableError:
                found = np.zeros(512, np.uint64)
            self._tables.put(address, found, PAGE)
        return found

    def pieces(self, start: int, end: int, *, most: int = _PIECE) -> Iterator[tuple[int, bytes]]:
        """Yield what is in memory of `[start, end)`: address and bytes, joined where addresses go on.

        Parameters
        ----------
        start, end : int
        most : int
            Bytes in a piece at most; the next begins where it ended.

        Raises
        ------
        UnreadableError
            If the tables have no end.
        StoreError
        """
        at, size, parts = start, 0, list[bytes]()
        for address, data in self._parts(start, end, most):
            if parts and (address != at + size or size + len(data) > most):
                yield at, b"".join(parts)
                parts, size = [], 0
            if not parts:
                at = address
            parts.append(data)
            size += len(data)
        if parts:
            yield at, b"".join(parts)

    def _parts(self, start: int, end: int, most: int) -> Iterator[tuple[int, bytes]]:
        for run in self.held_runs(start, end):
            for skip in range(0, run.length, most):
                yield run.address + skip, self._memory.read(run.physical + skip, min(most, run.length - skip))

    def held_runs(self, start: int, end: int) -> Iterator[Run]:
        """Yield what is mapped and in memory of `[start, end)`, ascending: a mapping may also be of a device.

        Raises
        ------
        UnreadableError
            As for `mapped_runs`.
        """
        for run in self.mapped_runs(start, end):
            if self._memory.holds(run.physical, run.length):
                yield run
                continue
            done = 0
            while done < run.length:
                count = min(PAGE - (run.address + done) % PAGE, run.length - done)
                if self._memory.holds(run.physical + done, count):
                    yield Run(run.address + done, run.physical + done, count)
                done += count

    def read(self, address: int, length: int) -> bytes:
        """Return bytes.

        Raises
        ------
        UnreadableError
            If part of them is not in memory, or they are more than 1 GiB.
        StoreError
        """
        found = self.read_padded(address, length)
        if found.holes:
            first = address + found.holes[0][0]
            raise UnreadableError(
                "not in memory at this virtual address",
                address=hex(first),
                missing=found.missing,
                cure="It may be swapped out, or not mapped: read with padding to see what is there.",
            )
        return found.data

    def read_padded(self, address: int, length: int) -> Padded:
        """Return bytes, and which of them are zeros because nothing is in memory there.

        Raises
        ------
        UnreadableError
            If they are more than 1 GiB, or no range of virtual addresses.
        StoreError
        """
        if not 0 <= length <= _MOST_READ:
            raise UnreadableError("a read of this length is refused", length=length, most=_MOST_READ)
        out = bytearray(length)
        holes, done = [], 0
        for at, data in self.pieces(address, address + length):
            offset = at - address
            if offset > done:
                holes.append((done, offset - done))
            out[offset : offset + len(data)] = data
            done = offset + len(data)
        if done < length:
            holes.append((done, length - done))
        return Padded(bytes(out), tuple(holes))


@dataclass(frozen=True, slots=True)
class _Step:
    """A table still to be read, or a large page: what the entry says, and the virtual address that it begins at."""

    level: int
    frame: int
    base: int
    leaf: bool


def _below(entries: NDArray[np.uint64], level: int, base: int, shift: int) -> Iterator[_Step]:
    for index in np.flatnonzero(entries).tolist():
        entry, address = int(entries[index]), base + (index << shift)
        if entry & _LARGE and level <= 3:
            if entry & (_PRESENT | _PROTNONE):
                yield _Step(level, (entry if entry & _PRESENT else ~entry) & _FRAME, address, leaf=True)
        elif entry & _PRESENT:
            yield _Step(level - 1, entry & _FRAME, address, leaf=False)


def _small(entries: NDArray[np.uint64], base: int) -> Iterator[tuple[int, int, int]]:
    """Yield the runs of small pages in a part of a table of the lowest level."""
    there = np.flatnonzero(entries & np.uint64(_PRESENT | _PROTNONE))
    if not len(there):
        return
    found = entries[there]
    frames = (np.where(found & np.uint64(_PRESENT), found, ~found) & np.uint64(_FRAME)).astype(np.int64)
    cuts = np.flatnonzero((np.diff(there) != 1) | (np.diff(frames) != PAGE)) + 1
    for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(there)], strict=True):
        yield base + int(there[begin]) * PAGE, int(frames[begin]), (end - begin) * PAGE


def _goes_on(last: Run, run: Run) -> bool:
    return last.address + last.length == run.address and last.physical + last.length == run.physical
