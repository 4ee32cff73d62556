"""Walk a whole case and name every damage: file, what is wrong with it, and the captures that suffer.

Refuses to stop at the first damage, to repair anything, and to trust what a store has cached: it reads the files
anew. A failing volume is an error, not a damage. Files that nobody refers to are no damage either, nor is what a prune
removed: where one was at work meanwhile, the case is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import DamagedError, FormatError, MissingError, StoreError
from workbench.model import CaptureId, CaptureRecord, CaptureRef, Damage, GuestId
from workbench.progress import Progress, ProgressEvent
from workbench.store.codec import block_ids
from workbench.store.documents import decode_case, decode_mark, decode_record, is_mark_name
from workbench.store.listing import capture_name
from workbench.store.livemap import LiveMap, sparse_digest
from workbench.store.maps import Maps, delta_name
from workbench.store.packs import SLOT_BITS, Pack, Packs, listed_packs, pack_name
from workbench.store.tombstones import decode_tombstones, is_tombstones_name
from workbench.store.types import U64, Bools

if TYPE_CHECKING:
    from workbench.store.case import CaseStore

__all__ = ["check_case"]

_BATCH_FRAMES = 32
_FRAME_CACHE = 256 << 20
_LOOKS = 4
_DENSE = 1 << 26
"""Blocks of a region up to which its map is laid out in full: 256 GiB of memory, 4 TiB of disk."""


def check_case(store: CaseStore, *, progress: Progress, deep: bool) -> list[Damage]:
    """Return everything that is wrong with a case, by file. See `CaseStore.check`.

    Raises
    ------
    StoreError
        If the volume fails.
    """
    for _ in range(_LOOKS):
        before = _prunes(store)
        check = _Check(store, progress)
        check.case()
        for guest in store.guest_ids():
            check.guest(guest)
        if deep:
            check.packs_content()
        damages = check.damages()
        if not damages or _prunes(store) == before:
            break
    return damages


def _prunes(store: CaseStore) -> list[tuple[str, list[str], int]]:
    """Return what changes while a prune is at work."""
    return [
        (store.turn(guest), sorted(store.backend.list(f"guests/{guest}/pruned")), _vanished(store, guest))
        for guest in store.guest_ids()
    ]


def _vanished(store: CaseStore, guest: GuestId) -> int:
    """Return how many captures with a tombstone are listed still."""
    names = filter(is_tombstones_name, store.backend.list(f"guests/{guest}/pruned"))
    if not any(names):
        return 0
    try:
        return len({ref.id for ref in store.captures(guest)} & set(store.pruned(guest)))
    except (DamagedError, FormatError):
        return 0


class _Check:
    """What was found so far, with readers of its own so that no cache hides a damage."""

    def __init__(self, store: CaseStore, progress: Progress) -> None:
        self._store = store
        self._backend = store.backend
        self._progress = progress
        self._packs = Packs(store.backend, _FRAME_CACHE)
        self._maps = Maps(store.backend, self._packs.table)
        self._found: dict[tuple[str, str], set[CaptureId]] = {}
        self._bad: dict[tuple[str, str], list[U64]] = {}
        self._missing: set[tuple[str, str]] = set()
        self._captures: dict[CaptureId, tuple[CaptureRef, CaptureRecord]] = {}
        self._listed: set[CaptureId] = set()
        self._pruned: dict[CaptureId | None, int] = {}  # depths, by tombstones
        self._used: dict[int, None] = {}  # pack numbers, in the order of the captures that first use them

    @contextmanager
    def _collect(self, path: str, *captures: CaptureId) -> Iterator[None]:
        """Note damage instead of raising it; `path` is the file meant where the error names none."""
        try:
            yield
        except (DamagedError, FormatError) as error:
            self._found.setdefault(_key(error, path), set()).update(captures)

    def damages(self) -> list[Damage]:
        """Return what was found, with the captures that need what is damaged."""
        for key, places in self._bad.items():
            # Whatever rests on a damaged block was read, could not be, and so stands among the places itself.
            bad = np.concatenate(places)
            touched = {record.id for _, record in self._captures.values() if self._needs(record, bad)}
            if touched or key not in self._missing:  # of a pruned capture, blocks may stay that rest on what went
                self._found.setdefault(key, set()).update(touched)
        order = sorted(self._found.items())
        return [Damage(path, what, tuple(sorted(touched, key=self._order))) for (path, what), touched in order]

    def _order(self, capture: CaptureId) -> CaptureRef:
        return self._captures[capture][0] if capture in self._captures else CaptureRef(0, capture)

    def case(self) -> None:
        """Check `case.json`."""
        with self._collect("case.json"):
            decode_case(self._backend.get("case.json"), "case.json")

    # Guests and captures.

    def guest(self, guest: GuestId) -> None:
        """Check a guest's file, marks and captures."""
        with self._collect(f"guests/{guest}/guest.json"):
            self._store.guest(guest)
        for mark in filter(is_mark_name, self._backend.list(f"guests/{guest}/marks")):
            name = f"guests/{guest}/marks/{mark}"
            with self._collect(name):
                decode_mark(self._backend.get(name), name)
        self._tombstones(guest)
        refs = self._store.captures(guest)
        self._listed = {ref.id for ref in refs}
        live: dict[str, LiveMap] = {}
        for number, ref in enumerate(refs):
            self._progress(ProgressEvent("check of captures", number, len(refs), "captures"))
            live = self._capture(guest, ref, live)

    def _tombstones(self, guest: GuestId) -> None:
        self._pruned = {}
        for each in filter(is_tombstones_name, self._backend.list(f"guests/{guest}/pruned")):
            name = f"guests/{guest}/pruned/{each}"
            with self._collect(name):
                stones = decode_tombstones(self._backend.get(name), guest, name)
                self._pruned.update((stone.id, stone.depth) for stone in stones)

    def _capture(self, guest: GuestId, ref: CaptureRef, live: dict[str, LiveMap]) -> dict[str, LiveMap]:
        """Check one capture, moving `live` onto it; return the maps to go on from."""
        name = f"guests/{guest}/captures/{capture_name(ref)}"
        moved: dict[str, LiveMap] = {}
        with self._collect(name, ref.id):
            record = decode_record(self._backend.get(name), ref, guest, name)
            self._captures[ref.id] = (ref, record)
            self._descent(record, name)
            moved.update(self._content(record, live))
        return moved

    def _descent(self, record: CaptureRecord, name: str) -> None:
        if (record.parent is None) != (record.depth == 0):
            raise DamagedError("only a root has depth 0 and no parent", path=name, depth=record.depth)
        pruned = record.parent in self._pruned
        if record.parent is not None and record.parent not in self._listed and not pruned:
            raise DamagedError("parent's record is missing", path=name, parent=record.parent)
        if record.parent in self._captures or pruned:
            there = self._captures.get(record.parent) if record.parent is not None else None
            expected = 1 + (self._pruned[record.parent] if there is None else there[1].depth)
            if record.depth != expected:
                found = record.depth
                raise DamagedError("depth is not one more than the parent's", path=name, expected=expected, found=found)
        depth = self._maps.delta(record.guest, record.id).depth
        if depth != record.depth:
            raise DamagedError(
                "delta is of another depth than its record",
                path=delta_name(record.guest, record.id),
                expected=record.depth,
                found=depth,
            )

    def _content(self, record: CaptureRecord, live: dict[str, LiveMap]) -> dict[str, LiveMap]:
        """Compare the ids of all blocks with what the record says."""
        maps: dict[str, LiveMap] = {}
        for region in record.regions:
            spec = region.spec
            target = self._maps.region(record.guest, record.id, spec)
            if spec.blocks > _DENSE:  # a claimed length must not cost memory
                found = sparse_digest(spec.blocks, target.index, self._packs.ids(target.place))
            else:
                maps[spec.name] = live[spec.name].reshaped(spec)[0] if spec.name in live else LiveMap(spec)
                changed = maps[spec.name].follow(target, self._packs)
                numbers = np.unique(maps[spec.name].place[changed] >> SLOT_BITS)
                self._used.update(dict.fromkeys(numbers.tolist()))
                found = maps[spec.name].digest
            if found != region.digest:
                raise DamagedError(
                    "region is not what its capture's record says",
                    path=delta_name(record.guest, record.id),
                    region=spec.name,
                    expected=region.digest,
                    found=found,
                )
        return maps

    # Packs.

    def packs_content(self) -> None:
        """Check every frame and every block of every pack."""
        # Blocks rest on blocks of captures shortly before: in that order the frames cached serve many packs.
        order = {number: place for place, number in enumerate(self._used)}
        numbers = sorted(
            map(self._packs.table.number, listed_packs(self._backend)), key=lambda number: order.get(number, len(order))
        )
        for done, number in enumerate(numbers):
            self._progress(ProgressEvent("check of packs", done, len(numbers), "packs"))
            try:
                pack = self._packs.pack(number)
            except MissingError as error:
                if number in self._used:  # else a prune took it since it was listed
                    self._note_bad(error, pack_name(self._packs.table.id(number)), _whole(number))
                continue
            except (DamagedError, FormatError) as error:
                self._note_bad(error, pack_name(self._packs.table.id(number)), _whole(number))
                continue
            self._pack(pack)

    def _pack(self, pack: Pack) -> None:
        frames = pack.frames
        for size in np.unique(frames.block_size).tolist():
            chosen = np.flatnonzero(frames.block_size == size)
            for part in np.array_split(chosen, -(-len(chosen) // _BATCH_FRAMES)):
                places = [self._places(pack, frame) for frame in part.tolist()]
                try:
                    self._blocks(pack, size, np.concatenate(places))
                except DamagedError:
                    for frame in part.tolist():
                        self._frame(pack, frame)

    @staticmethod
    def _places(pack: Pack, frame: int) -> U64:
        first, count = int(pack.frames.first[frame]), int(pack.frames.count[frame])
        return (np.uint64(pack.number) << SLOT_BITS) | np.arange(first, first + count, dtype=np.uint64)

    def _frame(self, pack: Pack, frame: int) -> None:
        """Find out what of a frame is damaged: its own bytes, or what its blocks rest on."""
        places = self._places(pack, frame)
        try:
            self._packs.frame(pack, frame)
        except DamagedError as error:
            self._note_bad(error, pack.name, places)
            return
        for place in places.tolist():
            self._block(pack, frame, place)

    def _blocks(self, pack: Pack, size: int, places: U64) -> None:
        """Decode blocks and compare them with their ids."""
        content = np.empty((len(places), size), np.uint8)
        self._packs.read(places, content)
        wrong = (block_ids(content) != self._packs.ids(places)).any(axis=1)
        if wrong.any():
            slots = (places[wrong] & np.uint64(0xFFFFFFFF)).tolist()
            error = DamagedError("blocks of a pack are not what their ids say", path=pack.name, slots=slots)
            self._note_bad(error, pack.name, places[wrong])

    def _block(self, pack: Pack, frame: int, place: int) -> None:
        """Check one block: which of a frame's cannot be read is asked only where something is damaged."""
        # The damage of a base is noted where that lies, and by the same words; here is noted what rests on it.
        try:
            self._blocks(pack, int(pack.frames.block_size[frame]), np.array([place], np.uint64))
        except DamagedError as error:
            self._note_bad(error, pack.name, np.array([place], np.uint64))

    def _note_bad(self, error: StoreError, path: str, places: U64) -> None:
        key = _key(error, path)
        self._bad.setdefault(key, []).append(places)
        if isinstance(error, MissingError):
            self._missing.add(key)

    # Who suffers.

    def _needs(self, record: CaptureRecord, bad: U64) -> bool:
        try:
            regions = [self._maps.region(record.guest, record.id, region.spec) for region in record.regions]
        except (DamagedError, FormatError):
            return False  # noted where its delta was read
        return any(bool(_among(region.place, bad).any()) for region in regions)


def _whole(number: int) -> U64:
    """Return what stands for every place of a pack whose slots are not known: the pack's highest."""
    return np.array([(number << 32) | 0xFFFFFFFF], np.uint64)


def _among(places: U64, bad: U64) -> Bools:
    """Return which places are bad, or lie in a pack of which all is."""
    return np.isin(places, bad) | np.isin(places | np.uint64(0xFFFFFFFF), bad)


def _key(error: StoreError, path: str) -> tuple[str, str]:
    """Return the file that an error is about, and what is wrong with it, without the cure."""
    told = "".join(f"; {name} {value!r}" for name, value in error.facts.items() if name != "path")
    return str(error.facts.get("path", path)), error.message + told
