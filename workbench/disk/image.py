"""A disk of a capture as bytes: an image, pieces of it, and an overlay that takes writes in memory.

Clusters that are all zero cost nothing; sequential reads are batched and read ahead. Refuses to write into a capture:
what a journal's replay changes lives in an `Overlay`, which never grows past its bound.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from blake3 import blake3

from workbench.errors import DiskError
from workbench.store import CaptureView
from workbench.store.lru import BoundedCache

__all__ = ["Bytes", "Image", "Overlay", "Piece", "Slice", "SparseBytes", "joined_ranges"]

_CACHE = 32 << 20
"""Bytes of clusters kept."""
_AHEAD = 64
"""Clusters read ahead at most."""
_SMALL = 256 << 10
_BULK = 16 << 20
_OVERLAY = 1 << 30
"""Bytes that an overlay holds at most."""


class Bytes(Protocol):
    """Something of a known length that gives bytes.

    Attributes
    ----------
    size : int
        Bytes.
    """

    @property
    def size(self) -> int: ...  # noqa: D102

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end.

        Raises
        ------
        DiskError
            If offset or length are negative.
        StoreError
        """


class SparseBytes(Bytes, Protocol):
    """Bytes that know where they are zero."""

    def stretches(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of what may be other than zero in a range, ascending, not overlapping."""


def _clip(offset: int, length: int, size: int) -> int:
    """Return how many bytes of a range there are."""
    if offset < 0 or length < 0:
        raise DiskError("offset and length must not be negative", offset=offset, length=length)
    return min(length, max(0, size - offset))


class Image:
    """A disk region of a capture.

    Parameters
    ----------
    view : CaptureView
    region : str
        For example "disk:vda".

    Attributes
    ----------
    name : str
        The disk's name: the region's without "disk:".
    size : int
        Bytes.
    cluster : int
        Bytes of a cluster of the store.

    Raises
    ------
    UsageError
        If the capture has no such region.
    StoreError
    """

    def __init__(self, view: CaptureView, region: str, *, cache: int = _CACHE) -> None:
        self._region = view.region(region)
        self.name = region.removeprefix("disk:")
        self.size = self._region.spec.length
        self.cluster = self._region.spec.block_size
        self._nonzero = self._region.nonzero()
        self._cache: BoundedCache[int, bytes] = BoundedCache(cache)
        self._zero = bytes(self.cluster)
        self._next = -1
        self._ahead = 1

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end.

        Raises
        ------
        DiskError
            If offset or length are negative.
        StoreError
        """
        length = _clip(offset, length, self.size)
        first, skip = divmod(offset, self.cluster)
        if skip + length <= self.cluster:
            return self._cluster(first)[skip : skip + length] if length else b""
        if length <= _SMALL:
            last = (offset + length - 1) // self.cluster
            return b"".join(self._cluster(each) for each in range(first, last + 1))[skip : skip + length]
        if length <= _BULK:
            return self._bulk(offset, length)
        steps = range(offset, offset + length, _BULK)
        return b"".join(self._bulk(at, min(_BULK, offset + length - at)) for at in steps)

    def _bulk(self, offset: int, length: int) -> bytes:
        """Read past the cache: only the clusters that hold something."""
        first, last = offset // self.cluster, (offset + length - 1) // self.cluster
        index = self._stored(first, last)
        if not len(index):
            return bytes(length)
        if len(index) == last - first + 1:
            return self._region.read(offset, length)
        out = np.zeros((last - first + 1, self.cluster), np.uint8)
        out[index - first] = self._region.read_blocks(index)
        skip = offset - first * self.cluster
        return out.reshape(-1)[skip : skip + length].tobytes()

    def _stored(self, first: int, last: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        start, end = self._nonzero.searchsorted([first, last + 1])
        return self._nonzero[start:end]

    def _cluster(self, index: int) -> bytes:
        content = self._cache.get(index)
        if content is None:
            content = self._load(index)
        return content

    def _load(self, index: int) -> bytes:
        """Read a cluster, and the more of those after it the longer reads go on in sequence."""
        self._ahead = min(2 * self._ahead, _AHEAD) if index == self._next else 1
        self._next = index + self._ahead
        stored = self._stored(index, self._next - 1)
        if not len(stored):
            return self._zero
        blocks = self._region.read_blocks(stored)
        for number, block in zip(stored.tolist(), blocks, strict=True):
            self._cache.put(number, block.tobytes(), self.cluster)
        return blocks[0].tobytes() if stored[0] == index else self._zero

    def stretches(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of what may be other than zero in a range; nothing is read."""
        end = offset + _clip(offset, length, self.size)
        if end <= offset:
            return
        index = self._stored(offset // self.cluster, (end - 1) // self.cluster)
        if not len(index):
            return
        cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
        for start, stop in pairwise(cuts):
            begin = max(offset, int(index[start]) * self.cluster)
            yield begin, min(end, (int(index[stop - 1]) + 1) * self.cluster) - begin


class Overlay:
    """Bytes with changes over them, in memory; what lies beneath is never written.

    Parameters
    ----------
    under : SparseBytes
    cluster : int
        Bytes of the unit in which changes are kept.
    most : int
        Bytes that it holds at most.
    """

    def __init__(self, under: SparseBytes, *, cluster: int = 4096, most: int = _OVERLAY) -> None:
        self.under = under
        self.size = under.size
        self.cluster = cluster
        self._most = most
        self._changed: dict[int, bytes] = {}

    @property
    def changed(self) -> list[int]:
        """Indices of the clusters written, ascending."""
        return sorted(self._changed)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes over what is there.

        Raises
        ------
        DiskError
            If they do not lie inside, or the overlay would hold more than it may.
        StoreError
        """
        if offset < 0 or offset + len(data) > self.size:
            raise DiskError("a write outside of the image", offset=offset, length=len(data), size=self.size)
        at = 0
        while at < len(data):
            index, skip = divmod(offset + at, self.cluster)
            part = data[at : at + self.cluster - skip]
            self._put(index, skip, part)
            at += len(part)

    def _put(self, index: int, skip: int, part: bytes) -> None:
        if index not in self._changed and (len(self._changed) + 1) * self.cluster > self._most:
            raise DiskError("an overlay would hold more than it may", most=self._most)
        if len(part) < self.cluster:
            old = self.read(index * self.cluster, self.cluster)
            part = old[:skip] + part + old[skip + len(part) :]
        self._changed[index] = part

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end.

        Raises
        ------
        DiskError
            If offset or length are negative.
        StoreError
        """
        length = _clip(offset, length, self.size)
        content = self.under.read(offset, length)
        touched = self._touched(offset, length)
        if not touched:
            return content
        out = bytearray(content)
        for index in touched:
            begin = index * self.cluster - offset
            part = self._changed[index][max(0, -begin) : length - begin]
            out[max(0, begin) : max(0, begin) + len(part)] = part
        return bytes(out)

    def _touched(self, offset: int, length: int) -> list[int]:
        if not length or not self._changed:
            return []
        span = range(offset // self.cluster, (offset + length - 1) // self.cluster + 1)
        if len(span) <= len(self._changed):
            return [index for index in span if index in self._changed]
        return sorted(index for index in self._changed if index in span)

    def stretches(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of what may be other than zero in a range."""
        end = offset + _clip(offset, length, self.size)
        found = list(self.under.stretches(offset, length))
        for index in self._touched(offset, end - offset):
            begin = max(offset, index * self.cluster)
            found.append((begin, min(end, (index + 1) * self.cluster) - begin))
        yield from joined_ranges(found)

    def digest(self) -> str:
        """Return the BLAKE3 (hex) of the changed clusters: for each the number (8 bytes, little) and its content."""
        return self._digest(lambda index: self._changed[index])

    def digest_under(self) -> str:
        """Return the same of what lies beneath the changed clusters: the state before.

        Raises
        ------
        StoreError
        """
        return self._digest(lambda index: self.under.read(index * self.cluster, self.cluster))

    def _digest(self, content: Callable[[int], bytes]) -> str:
        digest = blake3()
        for index in self.changed:
            digest.update(index.to_bytes(8, "little"))
            digest.update(content(index))
        return digest.hexdigest()


def joined_ranges(found: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ranges in order, those that touch or overlap as one."""
    start = end = -1
    for begin, length in sorted(found):
        if begin > end:
            if end > start:
                yield start, end - start
            start, end = begin, begin + length
        else:
            end = max(end, begin + length)
    if end > start:
        yield start, end - start


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a volume that lie one after the other on its disk.

    Attributes
    ----------
    offset : int
        Bytes from the volume's beginning.
    disk : int
        Bytes from the disk's beginning.
    length : int
        Bytes.
    """

    offset: int
    disk: int
    length: int


class Slice:
    """A volume: pieces of a disk, one after the other.

    Parameters
    ----------
    under : SparseBytes
        The disk, perhaps with an overlay.
    pieces : sequence of Piece
        By offset; what lies between two reads as zeros.

    Attributes
    ----------
    size : int
        Bytes.

    Raises
    ------
    DiskError
        If pieces overlap in the volume, or one does not lie on the disk.
    """

    def __init__(self, under: SparseBytes, pieces: Sequence[Piece]) -> None:
        self.under = under
        self.pieces = tuple(sorted(pieces, key=lambda each: each.offset))
        end = 0
        for each in self.pieces:
            if each.offset < end or each.length <= 0 or each.disk < 0 or each.disk + each.length > under.size:
                raise DiskError("a piece of a volume cannot be", piece=str(each), size=under.size)
            end = each.offset + each.length
        self.size = end
        self._starts = [each.offset for each in self.pieces]

    @classmethod
    def of(cls, under: SparseBytes, offset: int, length: int) -> Slice:
        """Return one stretch of a disk, cut at the disk's end.

        Raises
        ------
        DiskError
            If it does not begin on the disk.
        """
        return cls(under, [Piece(0, offset, min(length, under.size - offset))])

    def over(self, under: SparseBytes) -> Slice:
        """Return the same volume of another disk, such as an overlay of this one."""
        return Slice(under, self.pieces)

    def patch(self, overlay: Overlay, offset: int, data: bytes) -> None:
        """Write bytes of the volume into an overlay of its disk.

        Raises
        ------
        DiskError
            If part of them lies in no piece, or the overlay would hold more than it may.
        StoreError
        """
        for at, disk, count in self.places(offset, len(data)):
            if disk < 0:
                raise DiskError("a write where the volume has no place on its disk", offset=at)
            overlay.write(disk, data[at - offset : at - offset + count])

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield (offset, disk offset, length) of a range; the disk offset is -1 where there is no piece."""
        end = offset + _clip(offset, length, self.size)
        while offset < end:
            at = bisect_right(self._starts, offset) - 1
            piece = self.pieces[at] if at >= 0 else None
            if piece is not None and offset < piece.offset + piece.length:
                count = min(end, piece.offset + piece.length) - offset
                yield offset, piece.disk + offset - piece.offset, count
            else:
                following = self._starts[at + 1] if at + 1 < len(self._starts) else end
                count = min(end, following) - offset
                yield offset, -1, count
            offset += count

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end.

        Raises
        ------
        DiskError
            If offset or length are negative.
        StoreError
        """
        parts = [
            self.under.read(disk, count) if disk >= 0 else bytes(count)
            for _, disk, count in self.places(offset, length)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def stretches(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) of what may be other than zero in a range."""
        found = []
        for at, disk, count in self.places(offset, length):
            if disk >= 0:
                found += [(at + begin - disk, size) for begin, size in self.under.stretches(disk, count)]
        yield from joined_ranges(found)
