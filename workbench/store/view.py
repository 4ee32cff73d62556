"""Read one capture: its regions as bytes, blocks, ids, runs, a seekable file or a sparse file.

Refuses to write into a case. Every read is verified against the digests of the frames it comes from; what cannot be
verified raises `DamagedError` and returns nothing. A view stays valid while a writer commits, and while a prune moves
blocks: it then looks again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from workbench.errors import DamagedError, MissingError, StoreError, UsageError
from workbench.model import CaptureRecord, RegionSpec
from workbench.store.format import ID_BYTES
from workbench.store.livemap import sparse_digest
from workbench.store.local import os_errors
from workbench.store.maps import RegionMap
from workbench.store.seekable import SeekableFile
from workbench.store.types import I64, U8

if TYPE_CHECKING:
    from workbench.store.maps import Maps
    from workbench.store.packs import Packs

__all__ = ["CaptureView", "RegionFile", "RegionView"]

_RUN_BYTES = 32 << 20
T = TypeVar("T")


class Telling(Protocol):
    """Does what reads a capture, and says so where it fails because the capture was pruned."""

    def __call__(self, act: Callable[[], T], /) -> T:
        """Return what `act` does."""


class CaptureView:
    """One capture, to be read.

    Attributes
    ----------
    record : CaptureRecord
    """

    def __init__(self, record: CaptureRecord, maps: Maps, packs: Packs, told: Telling | None = None) -> None:
        self.record = record
        self.told: Telling = told or (lambda act: act())
        """Does what reads, and says so where the capture was pruned."""
        self._maps = maps
        self._packs = packs
        self._regions: dict[str, RegionView] = {}

    def region(self, name: str) -> RegionView:
        """Return the region called `name`.

        Raises
        ------
        UsageError
            If the capture has no such region.
        """
        if name not in self._regions:
            try:
                region = self.record.region(name)
            except KeyError:
                names = ", ".join(region.spec.name for region in self.record.regions)
                raise UsageError("capture has no such region", region=name, cure=f"It has: {names}.") from None
            self._regions[name] = RegionView(self, self._maps, self._packs, region.spec, region.digest)
        return self._regions[name]

    @property
    def regions(self) -> list[RegionView]:
        """All regions, in the record's order."""
        return [self.region(region.spec.name) for region in self.record.regions]


class RegionView:
    """One region of one capture, to be read.

    Attributes
    ----------
    spec : RegionSpec
    digest : str
        Of the whole content, as the capture's record states it.
    """

    def __init__(self, view: CaptureView, maps: Maps, packs: Packs, spec: RegionSpec, digest: str) -> None:
        self.spec = spec
        self.digest = digest
        self._view = view
        self._maps = maps
        self._packs = packs

    @cached_property
    def _map(self) -> RegionMap:
        return self._maps.region(self._view.record.guest, self._view.record.id, self.spec)

    def _sure(self, act: Callable[[], T]) -> T:
        """Do what reads; where a file is missing, again by the map as it is now: a prune may have moved the blocks."""
        try:
            return act()
        except MissingError:
            self._maps.forget()
            self.__dict__.pop("_map", None)
            return self._view.told(act)

    def nonzero(self) -> I64:
        """Return the indices of blocks that are not all zero, ascending, (n,) int64.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        return self._sure(lambda: self._map.index.astype(np.int64))

    def _checked(self, indices: I64) -> I64:
        indices = np.asarray(indices, np.int64)
        if indices.ndim != 1 or (len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.spec.blocks):
            raise UsageError(
                "region has no such blocks",
                region=self.spec.name,
                blocks=self.spec.blocks,
                cure="Ask for blocks below that.",
            )
        return indices

    def ids(self, indices: I64 | None = None) -> U8:
        """Return the ids of blocks (all of them by default), (n, 32) uint8.

        Raises
        ------
        UsageError
            If the region has no such block.
        MissingError, DamagedError, StoreError
        """
        if indices is not None:
            wanted = self._checked(indices)
            return self._sure(lambda: self._packs.ids(self._map.places(wanted)))
        ids = np.zeros((self.spec.blocks, ID_BYTES), np.uint8)
        ids[self._map.index] = self._sure(lambda: self._packs.ids(self._map.place))
        return ids

    def verify(self) -> None:
        """See that the region's map is what the capture's record says: the ids of all blocks against its digest.

        Raises
        ------
        DamagedError
            If it is not. Content is verified as it is read.
        """
        ids = self._sure(lambda: self._packs.ids(self._map.place))
        found = sparse_digest(self.spec.blocks, self._map.index, ids)
        if found != self.digest:
            raise DamagedError(
                "region is not what its capture's record says",
                region=self.spec.name,
                capture=self._view.record.id,
                expected=self.digest,
                found=found,
            )

    def read_blocks(self, indices: I64) -> U8:
        """Return blocks in the order asked, (n, block_size) uint8; the last one of a region is padded with zeros.

        Raises
        ------
        UsageError
            If the region has no such block.
        MissingError, DamagedError, StoreError
        """
        indices = self._checked(indices)
        out = np.empty((len(indices), self.spec.block_size), np.uint8)
        self._sure(lambda: self._packs.read(self._map.places(indices), out))
        return out

    def read_into(self, out: U8) -> None:
        """Fill `out`, (blocks, block_size) uint8 and all zeros so far, with the whole region: the fastest way.

        Blocks are read in the order they are stored in; zero blocks are not touched.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        self._sure(lambda: self._packs.read(self._map.place, out, self._map.index.astype(np.int64)))

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset`, at most `length`, fewer only at the end of the region.

        Raises
        ------
        UsageError
            If offset or length are negative.
        MissingError, DamagedError, StoreError
        """
        if offset < 0 or length < 0:
            raise UsageError(
                "offset and length must not be negative", offset=offset, length=length, cure="Ask for what exists."
            )
        length = min(length, max(0, self.spec.length - offset))
        size = self.spec.block_size
        first, skip = divmod(offset, size)
        if length == 0:
            return b""
        if skip + length <= size:
            block = self._sure(lambda: self._packs.block(self._place(first), size))
            return block[skip : skip + length].tobytes()
        blocks = self.read_blocks(np.arange(first, -(-(offset + length) // size)))
        return blocks.reshape(-1)[skip : skip + length].tobytes()

    def _place(self, block: int) -> int:
        index = self._map.index
        at = int(index.searchsorted(block))
        return int(self._map.place[at]) if at < len(index) and index[at] == block else 0

    def stored_runs(self, max_bytes: int = _RUN_BYTES) -> Iterator[tuple[int, U8]]:
        """Yield the runs of non-zero blocks in order: index of the first block, and the blocks, (n, block_size).

        A run is cut at `max_bytes`, so that memory is bounded.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        index, step = self.nonzero(), max(1, max_bytes // self.spec.block_size)
        for begin in range(0, len(index), step):
            part = index[begin : begin + step]
            content = self.read_blocks(part)
            cuts = [0, *(np.flatnonzero(np.diff(part) != 1) + 1).tolist(), len(part)]
            for start, end in pairwise(cuts):
                yield int(part[start]), content[start:end]

    def write_sparse(self, target: int | Path) -> None:
        """Write the region into a file so that zero runs become holes, and give the file the region's length.

        Parameters
        ----------
        target : int or Path
            A file descriptor of an empty regular file, or a path that must not exist. It is not flushed to the device.

        Raises
        ------
        UsageError
            If the path exists.
        StoreFullError, StoreError
            If the file cannot be written.
        MissingError, DamagedError
        """
        if isinstance(target, int):
            self._write_sparse(target)
            return
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise UsageError("file exists", path=str(target), cure="Name one that does not.") from error
        except OSError as error:
            raise StoreError(
                f"cannot create a file: {error.strerror}", path=str(target), cure="Look after its directory."
            ) from error
        try:
            self._write_sparse(handle)
        finally:
            os.close(handle)

    def _write_sparse(self, handle: int) -> None:
        with os_errors("the file that a region is written to", "write"):
            os.ftruncate(handle, self.spec.length)
            for first, blocks in self.stored_runs():
                offset = first * self.spec.block_size
                view = blocks.reshape(-1).data[: self.spec.length - offset]
                while view:
                    written = os.pwrite(handle, view, offset)
                    view, offset = view[written:], offset + written

    def open(self) -> RegionFile:
        """Return the region as a read-only, seekable, binary file."""
        return RegionFile(self)


class RegionFile(SeekableFile):
    """A region as a file. It has no descriptor; wrap it into `io.BufferedReader` for many small reads."""

    def __init__(self, region: RegionView) -> None:
        super().__init__(region.spec.length)
        self._region = region

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` from the position on; return how many bytes, 0 at the end.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._region.read(self._at, min(len(view), _RUN_BYTES))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
