"""Pages of memory laid out for a scan: stretches of neighbours, joined into few buffers, and the way back.

Pages that follow each other in the guest's physical memory are one stretch; one that the guest does not see (a ROM, a
video card's) follows its neighbour in its region. A stretch has an edge of the pages before and after it, so that what
crosses its border is found. Refuses pages that are all zero: they hold nothing, and they end a stretch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.memory.physical import PhysicalMemory, Place
from workbench.model import PAGE
from workbench.store import CaptureView

__all__ = ["EDGE", "Buffer", "Spot", "Stretches"]

EDGE = 512
"""Bytes of the neighbouring pages on either side of a stretch."""
_GAP = b"\n\0" * 16
"""Between stretches: most of what repeats without end stops at a line feed."""
_OUTSIDE = 1 << 42
"""Positions (pages) from here on are of regions, each of this many, and not of physical memory: that has 1 << 40."""

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a byte is: physical address (None where the guest does not see it), region and offset there."""

    address: int | None
    region: str
    offset: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """Several stretches in one piece.

    Attributes
    ----------
    data : bytes
    start, first, last, end : (n,) int64
        Of each stretch: where it starts in `data`, where its own pages start and end, and where it ends.
    position : (n,) int64
        Page number of the first of its own pages.
    """

    data: bytes
    start: I64
    first: I64
    last: I64
    end: I64
    position: I64

    def stretch(self, offset: int) -> int:
        """Return which stretch an offset lies in, or the one before the gap that it lies in."""
        return int(self.start.searchsorted(offset, "right")) - 1

    def alone(self, index: int) -> Buffer:
        """Return one stretch by itself."""
        start, end = int(self.start[index]), int(self.end[index])
        one = slice(index, index + 1)
        return Buffer(
            self.data[start:end],
            self.start[one] - start,
            self.first[one] - start,
            self.last[one] - start,
            self.end[one] - start,
            self.position[one],
        )


class Stretches:
    """Pages of one capture, as buffers.

    Parameters
    ----------
    view : CaptureView
    memory : PhysicalMemory
        Of the same capture.
    pages : mapping of str to (n,) int64
        Wanted pages of each region, ascending; those that are all zero are left out.
    most : int
        Bytes of pages in one buffer.
    """

    def __init__(self, view: CaptureView, memory: PhysicalMemory, pages: Mapping[str, I64], most: int) -> None:
        self._view = view
        self._memory = memory
        self._names = sorted(pages)
        self._most = max(1, most // PAGE)
        parts = [self._positions(number, pages[name]) for number, name in enumerate(self._names)]
        self._position = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
        self._page = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
        self._region = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        order = np.argsort(self._position, kind="stable")
        self._position, self._page, self._region = self._position[order], self._page[order], self._region[order]

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self._position)

    def _positions(self, number: int, wanted: I64) -> tuple[I64, I64]:
        name = self._names[number]
        present = np.intersect1d(wanted, self._view.region(name).nonzero(), assume_unique=True)
        addresses = self._memory.addresses(name, present)
        return np.where(addresses >= 0, addresses // PAGE, _OUTSIDE * (1 + number) + present), present

    def buffers(self) -> Iterator[Buffer]:
        """Yield all pages, by position.

        Raises
        ------
        StoreError
        """
        for begin in range(0, len(self), self._most):
            yield self._buffer(slice(begin, begin + self._most))

    def _buffer(self, part: slice) -> Buffer:
        position = self._position[part]
        content = self._read(self._region[part], self._page[part])
        begins = np.concatenate([[0], np.flatnonzero(np.diff(position) != 1) + 1]).astype(np.int64)
        ends = np.append(begins[1:], len(position))
        edges = self._neighbours(np.concatenate([position[begins] - 1, position[ends - 1] + 1]), len(begins))
        pieces: list[Any] = []
        for index, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            pieces += (edges[index], content[begin:end].reshape(-1), edges[len(begins) + index], _GAP)
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        bounds = np.cumsum(lengths).reshape(-1, 4)
        first, last, end = bounds[:, 0], bounds[:, 1], bounds[:, 2]
        return Buffer(b"".join(pieces), first - lengths[::4], first, last, end, position[begins])

    def _read(self, regions: NDArray[np.int64], pages: I64) -> NDArray[np.uint8]:
        content = np.empty((len(pages), PAGE), np.uint8)
        for number in np.unique(regions):
            mine = regions == number
            content[mine] = self._view.region(self._names[number]).read_blocks(pages[mine])
        return content

    def _neighbours(self, positions: I64, before: int) -> list[bytes]:
        """Return the end of each of the first `before` pages, the beginning of the others; nothing where there is none.

        One read per region: pages before and behind a stretch are mostly in one frame of the store.
        """
        found = [b""] * len(positions)
        places: dict[str, list[tuple[int, int]]] = {}
        for index, position in enumerate(positions.tolist()):
            place = self._place(position)
            if place is not None:
                places.setdefault(place.region, []).append((index, place.page))
        for name, wanted in places.items():
            content = self._view.region(name).read_blocks(np.array([page for _, page in wanted], np.int64))
            for (index, _), page in zip(wanted, content, strict=True):
                found[index] = (page[-EDGE:] if index < before else page[:EDGE]).tobytes()
        return found

    def _place(self, position: int) -> Place | None:
        """Return where a page is; None where there is none."""
        if position < _OUTSIDE - 1:
            return self._memory.place(position * PAGE) if position >= 0 else None
        number, page = divmod(position, _OUTSIDE)
        name = self._names[number - 1] if 1 <= number <= len(self._names) else None
        if name is None or page >= self._view.region(name).spec.blocks:
            return None
        return Place(name, page)

    def spot(self, buffer: Buffer, index: int, offset: int) -> Spot:
        """Return where a byte of a stretch is in the guest and in the case."""
        byte = int(buffer.position[index]) * PAGE + offset - int(buffer.first[index])
        place = self._place(byte // PAGE)
        assert place is not None  # an edge is only there where a page is
        address = byte if byte // PAGE < _OUTSIDE - 1 else None
        return Spot(address, place.region, place.page * PAGE + byte % PAGE)
