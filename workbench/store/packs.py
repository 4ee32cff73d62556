"""Read blocks out of packs: footers and frames, verified, cached within bounds, many blocks at a time.

Refuses to return a block from a frame whose digest does not fit, to follow a chain of XORs that does not get
strictly shorter, and to decode more than a frame's bound. It never writes.

A *place* is where a block lies, as one 64-bit number: the pack's number in this process (from 1) in the upper half,
the slot in the lower. Place 0 is the block of zeros. Equal places hold equal content; the reverse need not hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import numpy as np

from workbench.errors import DamagedError
from workbench.store.backend import Backend
from workbench.store.codec import decompress, digest_of, pool
from workbench.store.documents import is_hex
from workbench.store.format import (
    ID_BYTES,
    MAX_CHAIN,
    PACK_ID_BYTES,
    PACK_MAGIC,
    TRAILER,
    FrameColumns,
    check_magic,
    decode_footer,
    decode_trailer,
)
from workbench.store.lru import BoundedCache
from workbench.store.types import I64, U8, U32, U64

__all__ = ["SLOT_BITS", "Pack", "PackTable", "Packs", "listed_packs", "pack_name"]

SLOT_BITS = np.uint64(32)
_SLOT_MASK = np.uint64(0xFFFFFFFF)
_FRAME_CACHE = 32 << 20
_FOOTER_CACHE = 48 << 20
_TAIL = 64 << 10
_WINDOW = 8  # frames being decoded ahead of whoever scatters them


def pack_name(pack: bytes) -> str:
    """Return the file name of a pack."""
    text = pack.hex()
    return f"packs/{text[:2]}/{text}.pack"


def listed_packs(backend: Backend) -> list[bytes]:
    """Return the ids of the packs that have a file, of all guests, ascending.

    Raises
    ------
    StoreError
    """
    found = []
    for prefix in filter(is_hex, backend.list("packs")):
        for name in backend.list(f"packs/{prefix}"):
            stem, _, suffix = name.partition(".")
            if suffix == "pack" and len(stem) == 2 * PACK_ID_BYTES and is_hex(stem):
                found.append(bytes.fromhex(stem))
    return sorted(found)


class PackTable:
    """Numbers for pack ids, so that a place is one integer. A number may be reserved before its id is known."""

    def __init__(self) -> None:
        self._ids: list[bytes | None] = [None]
        self._numbers: dict[bytes, int] = {}
        self._lock = Lock()

    def number(self, pack: bytes) -> int:
        """Return the number of `pack`, a new one if it is not known yet."""
        with self._lock:
            number = self._numbers.get(pack)
            if number is None:
                number = self._numbers[pack] = len(self._ids)
                self._ids.append(pack)
            return number

    def reserve(self) -> int:
        """Return a number for a pack that is still being written."""
        with self._lock:
            self._ids.append(None)
            return len(self._ids) - 1

    def bind(self, number: int, pack: bytes) -> None:
        """Say which pack a reserved number means. A pack may so have two numbers; places then differ, ids do not."""
        with self._lock:
            self._ids[number] = pack
            self._numbers.setdefault(pack, number)

    def id(self, number: int) -> bytes:
        """Return the pack that `number` means."""
        pack = self._ids[number]
        assert pack is not None, "a pack that is being written cannot be read"
        return pack

    def places(self, packs: tuple[bytes, ...], column: U32, slot: U32) -> U64:
        """Return places from a file's table, a column of indices into it plus one, and slots."""
        numbers = np.array([0, *(self.number(pack) for pack in packs)], np.uint64)
        return (numbers[column] << SLOT_BITS) | np.where(column > 0, slot, np.uint32(0))

    def table(self, places: U64) -> tuple[tuple[bytes, ...], U32, U32]:
        """Return what `places` takes: a table of packs, a column of indices plus one, and slots."""
        numbers, inverse = np.unique(places >> SLOT_BITS, return_inverse=True)
        shift = 1 if len(numbers) == 0 or numbers[0] != 0 else 0
        packs = tuple(self.id(int(number)) for number in numbers if number)
        return packs, (inverse + shift).astype(np.uint32), (places & _SLOT_MASK).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack's footer, ready to be read by.

    Attributes
    ----------
    base : (slots,) uint64
        Place of the block that each slot is XORed against, 0 for none.
    """

    name: str
    number: int
    guest: bytes
    frames: FrameColumns
    ids: U8
    depth: U8
    base: U64

    def frame_of(self, slots: U64) -> I64:
        """Return the frame of each slot.

        Raises
        ------
        DamagedError
            If the pack has no such slot.
        """
        frames = np.searchsorted(self.frames.first, slots, "right") - 1
        sound = frames >= 0
        offset = slots - self.frames.first[np.maximum(frames, 0)]
        sound &= offset < self.frames.count[np.maximum(frames, 0)]
        if not sound.all():
            raise DamagedError(
                "map names a slot that the pack does not have", path=self.name, slot=int(slots[~sound][0])
            )
        return frames

    def slots(self) -> U64:
        """Return the slots that hold a block."""
        parts = [
            np.arange(first, first + count)
            for first, count in zip(self.frames.first.tolist(), self.frames.count.tolist(), strict=True)
        ]
        return np.concatenate(parts).astype(np.uint64) if parts else np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True)
class _Job:
    """A frame to decode and what is wanted of it."""

    pack: Pack
    frame: int
    rows: slice  # of the pass
    slots: U64


class Packs:
    """All packs of a case.

    Parameters
    ----------
    backend : Backend
    cache : int
        Bytes of decoded frames kept at most.
    """

    def __init__(self, backend: Backend, cache: int = _FRAME_CACHE) -> None:
        self.backend = backend
        self.table = PackTable()
        self._packs: BoundedCache[int, Pack] = BoundedCache(_FOOTER_CACHE)
        self._frames: BoundedCache[tuple[int, int], U8] = BoundedCache(cache)

    def forget(self) -> None:
        """Drop what is cached: the next read sees the files."""
        self._packs.clear()
        self._frames.clear()

    def bound(self, frames: int, footers: int) -> None:
        """Cache no more than so many bytes of each from now on."""
        self._frames.bound(frames)
        self._packs.bound(footers)

    def pack(self, number: int) -> Pack:
        """Return a pack's footer.

        Raises
        ------
        MissingError, DamagedError, FormatError, StoreError
        """
        pack = self._packs.get(number)
        if pack is None:
            pack = self._load(number)
            self._packs.put(number, pack, 42 * len(pack.depth) + 1024)
        return pack

    def _load(self, number: int) -> Pack:
        identity = self.table.id(number)
        name = pack_name(identity)
        size = self.backend.size(name)
        least = len(PACK_MAGIC) + TRAILER.size
        if size < least:
            raise DamagedError("pack is too short", path=name, expected=least, found=size)
        start = max(0, size - _TAIL)
        tail = self.backend.get(name, start, size - start)
        check_magic(tail if start == 0 else self.backend.get(name, 0, len(PACK_MAGIC)), PACK_MAGIC, name)
        offset, length, digest = decode_trailer(tail[-TRAILER.size :], size, identity, name)
        data = (
            tail[offset - start : offset - start + length]
            if offset >= start
            else self.backend.get(name, offset, length)
        )
        footer = decode_footer(data, offset, digest, name)
        slots = footer.slots
        base = self.table.places(footer.packs, slots.base_pack, slots.base_slot)
        return Pack(name, number, footer.guest, footer.frames, slots.id, slots.depth, base)

    def frame(self, pack: Pack, frame: int) -> U8:
        """Return the content of a frame, (count, block_size), read-only.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        key = (pack.number, frame)
        content = self._frames.get(key)
        if content is None:
            columns = pack.frames
            offset, count, size = int(columns.offset[frame]), int(columns.count[frame]), int(columns.block_size[frame])
            data = self.backend.get(pack.name, offset, int(columns.length[frame]))
            expected, found = columns.digest[frame].tobytes(), digest_of(data)
            if expected != found:
                raise DamagedError(
                    "frame of a pack is damaged",
                    path=pack.name,
                    offset=offset,
                    expected=expected.hex(),
                    found=found.hex(),
                )
            plain = decompress(data, count * size, pack.name, offset)
            content = np.frombuffer(plain, np.uint8).reshape(count, size)
            self._frames.put(key, content, content.nbytes)
        return content

    # Ids and depths.

    def ids(self, places: U64) -> U8:
        """Return the ids of the blocks at `places`, (n, 32).

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        ids = np.zeros((len(places), ID_BYTES), np.uint8)
        for pack, rows, slots in self._by_pack(places):
            pack.frame_of(slots)
            ids[rows] = pack.ids[slots]
        return ids

    def depths(self, places: U64) -> U8:
        """Return the XOR steps of the blocks at `places`, (n,).

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        depths = np.zeros(len(places), np.uint8)
        for pack, rows, slots in self._by_pack(places):
            pack.frame_of(slots)
            depths[rows] = pack.depth[slots]
        return depths

    def _by_pack(self, places: U64) -> Iterator[tuple[Pack, I64, U64]]:
        """Yield, pack by pack, which of `places` lie in it and in which slots, ascending; zero blocks are left out."""
        rows = np.flatnonzero(places)
        rows = rows[np.argsort(places[rows], kind="stable")]
        numbers = places[rows] >> SLOT_BITS
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        for part in np.split(rows, cuts) if len(rows) else ():
            yield self.pack(int(places[part[0]] >> SLOT_BITS)), part, places[part] & _SLOT_MASK

    # Content.

    def read(self, places: U64, out: U8, rows: I64 | None = None) -> None:
        """Fill `out[rows]` (all rows if None) with the blocks at `places`; rows must not repeat.

        Parameters
        ----------
        places : (n,) uint64
        out : (m, block_size) uint8
        rows : (n,) int64

        Raises
        ------
        MissingError, DamagedError, StoreError
            `out` then holds nothing that may be used.
        """
        rows = np.arange(len(places)) if rows is None else rows
        out[rows[places == 0]] = 0
        wanted = places != 0
        rows, places = rows[wanted], places[wanted]
        depth: U8 | None = None
        for step in range(MAX_CHAIN + 2):
            if not len(rows):
                return
            rows, places, depth = self._pass(places, out, rows, depth, first=step == 0)
        raise DamagedError("chain of blocks is too long", expected=MAX_CHAIN)

    def _pass(self, places: U64, out: U8, rows: I64, limit: U8 | None, *, first: bool) -> tuple[I64, U64, U8]:
        """Lay one step of every chain into `out`; return rows, places and depths of the bases still to come."""
        left_rows, left_places, left_depth = [], [], []
        jobs: list[_Job] = []
        order = np.argsort(places, kind="stable")
        places, rows = places[order], rows[order]
        limit = None if limit is None else limit[order]
        for pack, part, slots in self._by_pack(places):
            frames = pack.frame_of(slots)  # before anything is looked up by slot
            depth = pack.depth[slots]
            if limit is not None and (depth >= limit[part]).any():
                raise DamagedError("chain of blocks does not get shorter", path=pack.name)
            jobs += self._jobs(pack, int(part[0]), slots, frames, out.shape[1])
            chained = depth > 0
            left_rows.append(rows[part[chained]])
            left_places.append(pack.base[slots[chained]])
            left_depth.append(depth[chained])
        for job, content in self._decoded(jobs):
            target, blocks = rows[job.rows], content[job.slots - job.pack.frames.first[job.frame]]
            out[target] = blocks if first else out[target] ^ blocks
        return np.concatenate(left_rows), np.concatenate(left_places), np.concatenate(left_depth)

    @staticmethod
    def _jobs(pack: Pack, start: int, slots: U64, frames: I64, block_size: int) -> Iterator[_Job]:
        cuts = [0, *(np.flatnonzero(np.diff(frames)) + 1).tolist(), len(slots)]
        for begin, end in pairwise(cuts):
            frame = int(frames[begin])
            if pack.frames.block_size[frame] != block_size:
                found = int(pack.frames.block_size[frame])
                raise DamagedError(
                    "blocks have another size", path=pack.name, frame=frame, expected=block_size, found=found
                )
            yield _Job(pack, frame, slice(start + begin, start + end), slots[begin:end])

    def _decoded(self, jobs: list[_Job]) -> Iterator[tuple[_Job, U8]]:
        """Yield every job with its frame, a few frames being decoded ahead by other threads."""
        if len(jobs) <= 2:
            yield from ((job, self.frame(job.pack, job.frame)) for job in jobs)
            return
        ahead: deque[tuple[_Job, Future[U8]]] = deque()
        for job in jobs:
            known = self._frames.get((job.pack.number, job.frame))
            if known is not None:
                yield job, known
                continue
            ahead.append((job, pool().submit(self.frame, job.pack, job.frame)))
            if len(ahead) > _WINDOW:
                ready, future = ahead.popleft()
                yield ready, future.result()
        for ready, future in ahead:
            yield ready, future.result()

    def block(self, place: int, block_size: int) -> U8:
        """Return one block, (block_size,): the short way for a single random read.

        Raises
        ------
        MissingError, DamagedError, StoreError
        """
        result: U8 | None = None
        limit = MAX_CHAIN + 1
        while place:
            pack, slot = self.pack(place >> 32), place & 0xFFFFFFFF
            frame = int(pack.frames.first.searchsorted(slot, "right")) - 1
            row = slot - int(pack.frames.first[frame])
            if frame < 0 or row >= pack.frames.count[frame] or pack.frames.block_size[frame] != block_size:
                raise DamagedError("map names a slot that the pack does not have", path=pack.name, slot=slot)
            depth = int(pack.depth[slot])
            if depth >= limit:
                raise DamagedError("chain of blocks does not get shorter", path=pack.name, slot=slot)
            limit, place = depth, int(pack.base[slot])
            content = self.frame(pack, frame)[row]
            result = content if result is None else result ^ content
        return np.zeros(block_size, np.uint8) if result is None else result
