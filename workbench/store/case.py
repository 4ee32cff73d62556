"""A case: guests, captures, marks, and the way to read and write them. The store's front door.

Refuses to know what a guest is beyond its identity and name, and to open what is not a case of a format it knows.
Readers take no lock; one writer per guest holds one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.errors import DamagedError, FormatError, MissingError, UsageError
from workbench.model import (
    CaptureId,
    CaptureRecord,
    CaptureRef,
    Damage,
    GuestId,
    GuestRecord,
    Mark,
    RegionRecord,
    RegionSpec,
)
from workbench.progress import Progress, silent
from workbench.store.backend import Backend
from workbench.store.documents import (
    decode_case,
    decode_guest,
    decode_mark,
    decode_record,
    encode_case,
    encode_guest,
    encode_mark,
    guest_id,
    is_mark_name,
    mark_name,
)
from workbench.store.listing import Listing, capture_name
from workbench.store.local import LocalBackend
from workbench.store.lru import BoundedCache
from workbench.store.maps import Delta, Maps
from workbench.store.packs import Packs
from workbench.store.tombstones import Tombstone, Tombstones
from workbench.store.view import CaptureView
from workbench.store.writer import Writer

__all__ = ["CaseStore"]

_RECORDS = 64 << 20
TURN_BYTES = 32
T = TypeVar("T")


class CaseStore:
    """A case, open for reading; `writer` opens one guest's history for writing.

    Attributes
    ----------
    path : Path
        The case's directory.
    id : str
        The case's UUID.
    """

    def __init__(self, backend: Backend, path: Path, identity: str) -> None:
        self.backend = backend
        self.path = path
        self.id = identity
        self.packs = Packs(backend)
        self.maps = Maps(backend, self.packs.table)
        self._listed: dict[GuestId, Listing] = {}
        self._learnt: dict[GuestId, dict[CaptureId, CaptureRef]] = {}  # committed since
        self._records: BoundedCache[CaptureId, CaptureRecord] = BoundedCache(_RECORDS)
        self._tombstones: dict[GuestId, Tombstones] = {}

    @classmethod
    def create(cls, path: Path) -> CaseStore:
        """Make a new case in `path`, which must not exist or be empty.

        Raises
        ------
        UsageError
            If something is there.
        StoreFullError, StoreError
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                "cannot make a case here: the path is in use", path=str(path), cure="Name a new or empty directory."
            )
        return cls.create_on(LocalBackend(path), path)

    @classmethod
    def create_on(cls, backend: Backend, path: Path) -> CaseStore:
        """Make a new case on a backend that is empty.

        Raises
        ------
        UsageError
            If it holds a case.
        StoreFullError, StoreError
        """
        identity = str(uuid.uuid4())
        if not backend.put("case.json", encode_case(identity)):
            raise UsageError("a case is here already", path=str(path), cure="Open it, or name another place.")
        return cls(backend, path, identity)

    @classmethod
    def open(cls, path: Path) -> CaseStore:
        """Open a case.

        Raises
        ------
        UsageError
            If nothing is there.
        FormatError
            If it is not a case, or of a format that is not known.
        DamagedError, StoreError
        """
        path = Path(path)
        if not path.exists():
            raise UsageError(
                "no case is here: the path does not exist",
                path=str(path),
                cure="Name the directory of a case, or create one.",
            )
        if not path.is_dir():
            raise FormatError("not a case: not a directory", path=str(path), cure="Name the directory of a case.")
        return cls.open_on(LocalBackend(path), path)

    @classmethod
    def open_on(cls, backend: Backend, path: Path) -> CaseStore:
        """Open the case on a backend.

        Raises
        ------
        FormatError, DamagedError, StoreError
        """
        try:
            identity = decode_case(backend.get("case.json"), "case.json")
        except MissingError as error:
            raise FormatError(
                "not a case: no case.json", path=str(path), cure="Name the directory of a case."
            ) from error
        return cls(backend, path, identity)

    # Guests.

    def guests(self) -> list[GuestRecord]:
        """Return the guests of the case, by name.

        Raises
        ------
        DamagedError, FormatError, StoreError
        """
        return sorted((self.guest(guest) for guest in self.guest_ids()), key=lambda guest: (guest.name, guest.id))

    def guest_ids(self) -> list[GuestId]:
        """Return what guests have a directory, in order.

        Raises
        ------
        StoreError
        """
        found = []
        for name in self.backend.list("guests"):
            try:
                found.append(guest_id(name))
            except UsageError:
                continue
        return sorted(found)

    def guest(self, guest: GuestId) -> GuestRecord:
        """Return a guest's record.

        Raises
        ------
        UsageError
            If the case does not have it.
        DamagedError, FormatError, StoreError
        """
        name = f"guests/{guest_id(guest)}/guest.json"
        try:
            return decode_guest(self.backend.get(name), guest, name)
        except MissingError:
            raise UsageError("the case has no such guest", guest=guest, cure="See the guests of the case.") from None

    def add_guest(self, guest: GuestId, name: str) -> GuestRecord:
        """Make a guest known; one that is known keeps the name it has.

        Raises
        ------
        UsageError
            If `guest` is no UUID.
        DamagedError, StoreFullError, StoreError
        """
        self.backend.put(f"guests/{guest_id(guest)}/guest.json", encode_guest(GuestRecord(guest, name)))
        return self.guest(guest)

    # Captures.

    def captures(self, guest: GuestId) -> Sequence[CaptureRef]:
        """Return the captures of a guest by time, from a listing alone; each is made when it is looked at.

        Raises
        ------
        UsageError
            If `guest` is no UUID.
        StoreError
        """
        listing = self._listed[guest] = Listing(self._names(guest))
        self._learnt.pop(guest, None)
        return listing

    def find(self, capture: CaptureId) -> tuple[GuestId, CaptureRef]:
        """Return whose capture this is and what its file is called by.

        Raises
        ------
        UsageError
            If the case does not have it.
        StoreError
        """
        found = self._known(capture)
        if found is None:
            for guest in self.guest_ids():
                self.captures(guest)
            found = self._known(capture)
        if found is None and any(capture in self.pruned(guest) for guest in self.guest_ids()):
            raise UsageError("the capture was pruned", capture=capture, cure="Choose one that the timeline lists.")
        if found is None:
            raise UsageError("the case has no such capture", capture=capture, cure="See the captures of its guest.")
        return found

    def _known(self, capture: CaptureId) -> tuple[GuestId, CaptureRef] | None:
        for guest, listing in self._listed.items():
            ref = listing.find(capture)
            if ref is not None:
                return guest, ref
        for guest, refs in self._learnt.items():
            if capture in refs:
                return guest, refs[capture]
        return None

    def record(self, capture: CaptureId) -> CaptureRecord:
        """Return a capture's record, verified against its id.

        Raises
        ------
        UsageError
            If the case does not have it.
        DamagedError, FormatError, StoreError
        """
        record = self._records.get(capture)
        if record is None:
            guest, ref = self.find(capture)
            name = f"guests/{guest}/captures/{capture_name(ref)}"
            data = self._of(guest, capture, partial(self.backend.get, name))
            record = decode_record(data, ref, guest, name)
            self._records.put(capture, record, 4 * len(data))
        return record

    @staticmethod
    def record_name(record: CaptureRecord) -> str:
        """Return the name of a record's file."""
        return f"guests/{record.guest}/captures/{capture_name(CaptureRef(record.time_ns, record.id))}"

    def learn(self, record: CaptureRecord, delta: Delta) -> None:
        """Take note of a capture just committed, so that it need not be read. For the writer only."""
        self._learnt.setdefault(record.guest, {})[record.id] = CaptureRef(record.time_ns, record.id)
        self._records.put(record.id, record, 4096)
        self.maps.learn(record.id, delta)

    # What was pruned.

    def pruned(self, guest: GuestId) -> Mapping[CaptureId, Tombstone]:
        """Return the tombstones of a guest: captures that were pruned on purpose.

        Raises
        ------
        DamagedError, FormatError, StoreError
        """
        if guest not in self._tombstones:
            self._tombstones[guest] = Tombstones(self.backend, guest_id(guest))
        return self._tombstones[guest].all()

    def turn(self, guest: GuestId) -> str:
        """Return the word that changes whenever a prune has moved blocks of a guest's captures.

        Raises
        ------
        StoreError
        """
        try:
            return self.backend.get(f"guests/{guest_id(guest)}/turn", 0, TURN_BYTES).decode("ascii", "replace")
        except DamagedError:
            return "-"  # there was none yet, or nothing that a prune wrote

    def bound(self, caches: int) -> None:
        """Cache no more than `caches` bytes from now on: for who writes for weeks and reads little."""
        self.packs.bound(frames=caches // 4, footers=caches // 4)
        self.maps.bound(deltas=caches // 4, maps=caches // 8)
        self._records.bound(caches // 8)

    def forget(self) -> None:
        """Drop what is cached of captures: the next read sees the files."""
        self.maps.forget()
        self._records.clear()
        for guest in self.guest_ids():
            self.captures(guest)

    def _of(self, guest: GuestId, capture: CaptureId, act: Callable[[], T]) -> T:
        """Do what reads a capture, saying so where a file is missing because the capture was pruned."""
        try:
            return act()
        except MissingError as error:
            if capture in self.pruned(guest) and Listing(self._names(guest)).find(capture) is None:
                raise MissingError(
                    "the capture was pruned", capture=capture, cure="Choose one that the timeline lists."
                ) from error
            raise

    def _names(self, guest: GuestId) -> list[str]:
        return self.backend.list(f"guests/{guest_id(guest)}/captures")

    def parent(self, record: CaptureRecord) -> CaptureRecord | None:
        """Return the nearest ancestor of a capture that was not pruned; None where there is none.

        Raises
        ------
        UsageError
            If an ancestor is neither there nor was it pruned.
        DamagedError, FormatError, StoreError
        """
        here, depth = record.parent, record.depth
        while here is not None:
            stone = None if self._has(record.guest, here) else self.pruned(record.guest).get(here)
            above = stone or self.record(here)
            if above.depth >= depth:  # or a stranger's tombstones lead us round for ever
                raise DamagedError("chain of captures does not get nearer to its root", path=self.record_name(record))
            if isinstance(above, CaptureRecord):
                return above
            here, depth = above.parent, above.depth
        return None

    def _has(self, guest: GuestId, capture: CaptureId) -> bool:
        if guest not in self._listed:
            self.captures(guest)
        return self._known(capture) is not None

    def ancestor(self, capture: CaptureId, depth: int) -> CaptureId:
        """Return the ancestor of `capture` at `depth` (itself at its own), by skips where deltas allow it.

        Raises
        ------
        UsageError
            If it has none there, or that one was pruned.
        DamagedError, FormatError, StoreError
        """
        record = self.record(capture)
        if not 0 <= depth <= record.depth:
            raise UsageError(
                "capture has no ancestor at this depth",
                capture=capture,
                depth=depth,
                own=record.depth,
                cure="Ask between 0 and its own.",
            )
        while record.depth > depth:
            base = self.maps.delta(record.guest, record.id).base
            above = self.record(base) if base is not None and self._has(record.guest, base) else None
            if above is None or above.depth < depth:
                above = self.parent(record)
            if above is None or above.depth < depth:
                cure = "Choose one that the timeline lists."
                raise UsageError("the ancestor at this depth was pruned", capture=capture, depth=depth, cure=cure)
            if above.depth >= record.depth:
                raise DamagedError("chain of captures does not get nearer to its root", path=self.record_name(record))
            record = above
        return record.id

    def view(self, capture: CaptureId) -> CaptureView:
        """Return a capture to be read.

        Raises
        ------
        UsageError
            If the case does not have it.
        DamagedError, FormatError, StoreError
        """
        record = self.record(capture)
        return CaptureView(record, self.maps, self.packs, partial(self._of, record.guest, capture))

    def diff(self, a: CaptureId, b: CaptureId) -> dict[str, NDArray[np.int64]]:
        """Return which blocks differ in content between two captures.

        Costs the number of blocks written between them, not the size of the regions; of two guests (a clone and what it
        is a clone of) as much as both hold.

        Returns
        -------
        dict of str to (n,) int64, ascending
            Every region of either. A region that only one has, or whose block size differs: its non-zero blocks.

        Raises
        ------
        MissingError, DamagedError, FormatError, StoreError
        """
        first, second = self.record(a), self.record(b)
        reading = partial(self._diff, first, second)
        try:
            return reading()
        except MissingError:
            self.maps.forget()  # a prune may have moved what the maps name
            return self._of(first.guest, a, partial(self._of, second.guest, b, reading))

    def _diff(self, first: CaptureRecord, second: CaptureRecord) -> dict[str, NDArray[np.int64]]:
        sides = [{region.spec.name: region for region in record.regions} for record in (first, second)]
        return {
            name: self._diff_region(first, second, sides[0].get(name), sides[1].get(name))
            for name in sides[0] | sides[1]
        }

    def _diff_region(
        self, a: CaptureRecord, b: CaptureRecord, in_a: RegionRecord | None, in_b: RegionRecord | None
    ) -> NDArray[np.int64]:
        if in_a is None or in_b is None or in_a.spec.block_size != in_b.spec.block_size:
            found = [
                self.maps.region(record.guest, record.id, region.spec).index
                for record, region in ((a, in_a), (b, in_b))
                if region is not None
            ]
            return np.unique(np.concatenate(found)).astype(np.int64)
        if in_a.digest == in_b.digest and in_a.spec.blocks == in_b.spec.blocks:
            return np.zeros(0, np.int64)
        name = in_a.spec.name
        blocks = self._candidates(a, b, in_a.spec, in_b.spec)
        places = [self.maps.lookup(record.guest, record.id, name, blocks) for record in (a, b)]
        moved = np.flatnonzero(places[0] != places[1])
        ids = [self.packs.ids(place[moved]) for place in places]
        changed: NDArray[np.int64] = blocks[moved[(ids[0] != ids[1]).any(axis=1)]]
        return changed

    def _candidates(self, a: CaptureRecord, b: CaptureRecord, in_a: RegionSpec, in_b: RegionSpec) -> NDArray[np.int64]:
        if a.guest == b.guest:
            return self.maps.candidates(a.guest, a.id, b.id, in_a)
        held = [self.maps.region(record.guest, record.id, spec).index for record, spec in ((a, in_a), (b, in_b))]
        return np.union1d(*held).astype(np.int64)

    # Marks.

    def marks(self, guest: GuestId) -> list[Mark]:
        """Return a guest's marks by time.

        Raises
        ------
        DamagedError, StoreError
        """
        prefix = f"guests/{guest_id(guest)}/marks"
        names = [f"{prefix}/{name}" for name in self.backend.list(prefix) if is_mark_name(name)]
        return sorted(
            (decode_mark(self.backend.get(name), name) for name in names), key=lambda mark: (mark.time_ns, mark.name)
        )

    def add_mark(self, mark: Mark) -> None:
        """Keep a mark; the very same one twice is one.

        Raises
        ------
        UsageError
            If it has no name or a time that cannot be stored, or its guest or capture are not in the case.
        StoreFullError, StoreError
        """
        data = encode_mark(mark)
        self.guest(mark.guest)
        if mark.capture is not None and self.find(mark.capture)[0] != mark.guest:
            raise UsageError(
                "mark's capture is of another guest", capture=mark.capture, cure="Mark a capture of its guest."
            )
        self.backend.put(self._mark_name(mark, data), data)

    def remove_mark(self, mark: Mark) -> None:
        """Remove a mark; one that is not there is no error.

        Raises
        ------
        StoreError
        """
        self.backend.delete(self._mark_name(mark, encode_mark(mark)))

    @staticmethod
    def _mark_name(mark: Mark, data: bytes) -> str:
        return f"guests/{guest_id(mark.guest)}/marks/{mark_name(mark.time_ns, data)}"

    # Writing and checking.

    def writer(self, guest: GuestId) -> Writer:
        """Open a guest's history for writing; sweeps what dead writers left.

        Raises
        ------
        UsageError
            If the case has no such guest.
        StoreBusyError
            If another process (or another writer of this one) has it open.
        DamagedError, FormatError, StoreError
        """
        return Writer(self, self.guest(guest).id)

    def check(self, *, progress: Progress = silent, deep: bool = True) -> list[Damage]:
        """Walk the whole case and return everything that is wrong with it.

        Parameters
        ----------
        deep : bool
            Also decode every block and compare it with its id.

        Raises
        ------
        StoreError
            If the volume fails; damage is returned, not raised.
        """
        from workbench.store.check import check_case

        return check_case(self, progress=progress, deep=deep)
