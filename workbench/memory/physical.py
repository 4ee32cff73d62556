"""Guest-physical memory of one capture, as the guest had it: holes, several blocks; no file is written.

The layout comes from the capture's `state:layout`, which a stranger may have written: ranges are held against the
regions that are there. Refuses to write, and to give bytes for an address where the guest has no memory.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from workbench.errors import FormatError, GuestError, UnreadableError
from workbench.guest.memory import MemoryMap, PhysicalRange
from workbench.model import PAGE
from workbench.store import CaptureView, RegionView
from workbench.store.lru import BoundedCache

__all__ = ["PhysicalMemory", "Place"]

_CACHE = 32 << 20
"""Bytes of pages kept for small reads."""
_RUN_BYTES = 16 << 20
_MOST = 1 << 52
"""Bytes of physical address space that x86-64 has at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a physical page is in the case: a region and the index of its page there."""

    region: str
    page: int


class PhysicalMemory:
    """Physical memory of one capture.

    Parameters
    ----------
    ranges : sequence of PhysicalRange
        The guest's view.
    view : CaptureView
        Its regions have the blocks' names.

    Attributes
    ----------
    ranges : tuple of PhysicalRange
        Those whose block the capture holds, by address, not overlapping.
    size : int
        Address past the last byte.

    Raises
    ------
    FormatError
        If ranges overlap, or lie outside of their region.
    """

    def __init__(self, ranges: Sequence[PhysicalRange], view: CaptureView) -> None:
        names = {region.spec.name for region in view.record.regions}
        self.ranges = tuple(sorted((each for each in ranges if each.block in names), key=lambda each: each.start))
        self._regions: dict[str, RegionView] = {name: view.region(name) for name in {r.block for r in self.ranges}}
        end = 0
        for each in self.ranges:
            length = self._regions[each.block].spec.length
            outside = each.offset < 0 or each.offset + each.length > -(-length // PAGE) * PAGE
            if each.length <= 0 or each.start < end or each.start + each.length > _MOST or outside:
                raise FormatError("a range of the guest's memory cannot be", range=str(each), capture=view.record.id)
            end = each.start + each.length
        self.size = end
        self._starts = [each.start for each in self.ranges]
        self._pages: BoundedCache[tuple[str, int], bytes] = BoundedCache(_CACHE)

    @classmethod
    def of_capture(cls, view: CaptureView) -> PhysicalMemory:
        """Open the physical memory of a capture by its own layout.

        Raises
        ------
        FormatError
            If the layout cannot be understood.
        StoreError
        """
        text = view.region("state:layout").read(0, 16 << 20)
        try:
            return cls(MemoryMap.from_json(json.loads(text)["memory"]).ranges, view)
        except (ValueError, KeyError, TypeError, GuestError) as error:
            raise FormatError(f"the capture's layout names no memory: {error}", capture=view.record.id) from error

    def _range(self, address: int) -> PhysicalRange | None:
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._starts[at] + self.ranges[at].length:
            return None
        return self.ranges[at]

    def holds(self, address: int, length: int = 1) -> bool:
        """Tell whether the guest has memory in all of `[address, address + length)`."""
        end = address + length
        while address < end:
            found = self._range(address)
            if found is None:
                return False
            address = found.start + found.length
        return True

    def place(self, address: int) -> Place | None:
        """Return where the page with `address` lies in the case; None where there is none."""
        found = self._range(address)
        return None if found is None else Place(found.block, (found.offset + address - found.start) // PAGE)

    def addresses(self, region: str, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lowest physical address at which each page of a region is in the guest's view, -1 for none."""
        found = np.full(len(pages), -1, np.int64)
        offsets = np.asarray(pages, np.int64) * PAGE
        for each in reversed(self.ranges):
            if each.block == region:
                inside = (offsets >= each.offset) & (offsets < each.offset + each.length)
                found[inside] = offsets[inside] - each.offset + each.start
        return found

    def read(self, address: int, length: int) -> bytes:
        """Return bytes of physical memory.

        Raises
        ------
        UnreadableError
            If the guest has no memory in part of it.
        StoreError
        """
        if length < 0:
            raise UnreadableError("a read of a negative length", address=address, length=length)
        parts = []
        while length:
            found = self._range(address)
            if found is None:
                raise UnreadableError("the guest has no memory at this physical address", address=hex(address))
            count = min(length, found.start + found.length - address)
            parts.append(self._read(found.block, found.offset + address - found.start, count))
            address, length = address + count, length - count
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_padded(self, address: int, length: int) -> bytes:
        """Return bytes of physical memory, zeros where the guest has none.

        Raises
        ------
        StoreError
        """
        out = bytearray(length)
        for each in self.ranges:
            start, end = max(address, each.start), min(address + length, each.start + each.length)
            if start < end:
                out[start - address : end - address] = self._read(
                    each.block, each.offset + start - each.start, end - start
                )
        return bytes(out)

    def _read(self, block: str, offset: int, length: int) -> bytes:
        first, skip = divmod(offset, PAGE)
        if skip + length <= PAGE:
            return self._page(block, first)[skip : skip + length]
        if length <= 16 * PAGE:
            pages = range(first, -(-(offset + length) // PAGE))
            return b"".join(self._page(block, page) for page in pages)[skip : skip + length]
        content = self._regions[block].read(offset, length)
        return content + bytes(length - len(content))  # a region's last page may be short

    def _page(self, block: str, page: int) -> bytes:
        key = (block, page)
        content = self._pages.get(key)
        if content is None:
            content = self._regions[block].read(page * PAGE, PAGE).ljust(PAGE, b"\0")
            self._pages.put(key, content, PAGE)
        return content

    def extents(self) -> list[tuple[int, int]]:
        """Return (address, length) of every run of pages that are not all zero, by address; nothing is read."""
        found: list[tuple[int, int]] = []
        for each in self.ranges:
            for first, last in self._cuts(self._present(each)):
                start, end = max(first * PAGE, each.offset), min((last + 1) * PAGE, each.offset + each.length)
                found.append((start - each.offset + each.start, end - start))
        return found

    def _present(self, each: PhysicalRange) -> NDArray[np.int64]:
        index = self._regions[each.block].nonzero()
        first, last = each.offset // PAGE, -(-(each.offset + each.length) // PAGE)
        return index[(index >= first) & (index < last)]

    @staticmethod
    def _cuts(index: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield the first and last of each run of consecutive numbers."""
        if len(index):
            cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
            yield from ((int(index[start]), int(index[end - 1])) for start, end in pairwise(cuts))

    def runs(self, *, most: int = _RUN_BYTES) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the runs of pages that are not all zero, by physical address.

        Parameters
        ----------
        most : int
            Bytes in a run at most; a longer one is cut, and the next begins where it ended.

        Yields
        ------
        address : int
        content : (n,) uint8

        Raises
        ------
        StoreError
        """
        for each in self.ranges:
            region, index = self._regions[each.block], self._present(each)
            for begin in range(0, len(index), most // PAGE):
                yield from self._cut(each, region, index[begin : begin + most // PAGE])

    @staticmethod
    def _cut(
        each: PhysicalRange, region: RegionView, index: NDArray[np.int64]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        content = region.read_blocks(index)
        cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
        for start, end in pairwise(cuts):
            offset = int(index[start]) * PAGE
            bytes_ = content[start:end].reshape(-1)
            skip = max(0, each.offset - offset)
            length = min(len(bytes_), each.offset + each.length - offset)
            yield each.start + offset + skip - each.offset, bytes_[skip:length]

    def forget(self) -> None:
        """Drop the pages kept for small reads."""
        self._pages.clear()
