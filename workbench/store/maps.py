"""Where the blocks of a capture lie: deltas read, checked, and laid over each other from the root upward.

Refuses chains that do not get strictly nearer to the root, deltas that do not fit the region they are for, and
arrays by the size of a region: a map costs what is stored, whatever length a record claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import DamagedError, MissingError
from workbench.model import CaptureId, GuestId, RegionSpec
from workbench.store.backend import Backend
from workbench.store.format import RegionDelta, decode_delta
from workbench.store.lru import BoundedCache
from workbench.store.packs import PackTable
from workbench.store.types import I64, U32, U64

__all__ = [
    "EMPTY",
    "Delta",
    "Maps",
    "RegionMap",
    "RegionStep",
    "base_among",
    "compose",
    "delta_name",
    "level",
    "overlay",
    "region_deltas",
    "stacked",
]

_MAX_DELTAS = 64
_DELTA_CACHE = 64 << 20
_MAP_CACHE = 32 << 20


def level(depth: int) -> int:
    """Return how many zero bits a depth ends with; of a root more than any: levels rise along every chain of deltas."""
    return 64 if depth == 0 else (depth & -depth).bit_length() - 1


def base_among(chain: Sequence[tuple[CaptureId, Delta]], depth: int) -> CaptureId:
    """Return which of its parent's chain a delta at `depth` stands on.

    The nearest of a higher level, else the last: where nothing was pruned that is the ancestor whose depth is `depth`
    with its lowest set bit cleared.
    """
    return next((member for member, delta in chain if level(delta.depth) > level(depth)), chain[-1][0])


def delta_name(guest: GuestId, capture: CaptureId) -> str:
    """Return the file name of a delta."""
    return f"guests/{guest}/deltas/{capture}.delta"


@dataclass(frozen=True, slots=True)
class RegionMap:
    """The blocks of a region that are not zero, and where they lie.

    Attributes
    ----------
    index : (n,) uint32, strictly ascending
    place : (n,) uint64, none of them 0
    """

    index: U32
    place: U64

    def places(self, indices: I64) -> U64:
        """Return the places of any blocks in any order, 0 for zero blocks."""
        if not len(self.index):
            return np.zeros(len(indices), np.uint64)
        at = np.minimum(np.searchsorted(self.index, indices), len(self.index) - 1)
        return np.where(self.index[at] == indices, self.place[at], np.uint64(0))


EMPTY = RegionMap(np.zeros(0, np.uint32), np.zeros(0, np.uint64))


@dataclass(frozen=True, slots=True)
class RegionStep:
    """How a region changes from one capture to a later one: `RegionDelta` with places for packs and slots."""

    block_size: int
    blocks: int
    kept: int
    index: U32
    place: U64


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta file, ready to be laid over its base."""

    base: CaptureId | None
    depth: int
    regions: Mapping[str, RegionStep]


def overlay(under: RegionMap, step: RegionStep) -> RegionMap:
    """Return `under` cut to what is kept, with the changes of `step` laid over it; zero blocks drop out."""
    index, place = _merged(under.index, under.place, step)
    standing = place != 0
    return RegionMap(index[standing], place[standing])


def compose(first: RegionStep, second: RegionStep) -> RegionStep:
    """Return the one step that does what `first` and then `second` do."""
    index, place = _merged(first.index, first.place, second)
    return RegionStep(second.block_size, second.blocks, min(first.kept, second.kept), index, place)


def _merged(index: U32, place: U64, step: RegionStep) -> tuple[U32, U64]:
    end = int(np.searchsorted(index, step.kept))
    index, place = index[:end], place[:end]
    if not len(index) or not len(step.index):
        return (index, place) if len(index) else (step.index, step.place)
    at = np.searchsorted(index, step.index)
    hit = index[np.minimum(at, len(index) - 1)] == step.index
    place = place.copy()
    place[at[hit]] = step.place[hit]
    fresh = ~hit
    return np.insert(index, at[fresh], step.index[fresh]), np.insert(place, at[fresh], step.place[fresh])


class Maps:
    """The maps of all captures of a case."""

    def __init__(self, backend: Backend, table: PackTable) -> None:
        self._backend = backend
        self._table = table
        self._deltas: BoundedCache[CaptureId, Delta] = BoundedCache(_DELTA_CACHE)
        self._maps: BoundedCache[tuple[CaptureId, str], RegionMap] = BoundedCache(_MAP_CACHE)

    def forget(self) -> None:
        """Drop what is cached: the next read sees the files."""
        self._deltas.clear()
        self._maps.clear()

    def bound(self, deltas: int, maps: int) -> None:
        """Cache no more than so many bytes of each from now on."""
        self._deltas.bound(deltas)
        self._maps.bound(maps)

    def delta(self, guest: GuestId, capture: CaptureId) -> Delta:
        """Return the delta of a capture.

        Raises
        ------
        MissingError, DamagedError, FormatError, StoreError
        """
        delta = self._deltas.get(capture)
        if delta is None:
            name = delta_name(guest, capture)
            file = decode_delta(self._backend.get(name), bytes.fromhex(capture), name)
            regions = {region: self._step(row) for region, row in file.regions.items()}
            base = None if file.base is None else CaptureId(file.base.hex())
            delta = Delta(base, file.depth, regions)
            self.learn(capture, delta)
        return delta

    def learn(self, capture: CaptureId, delta: Delta) -> None:
        """Keep a delta that is known, so that it need not be read."""
        self._deltas.put(capture, delta, 2048 + sum(12 * len(step.index) + 256 for step in delta.regions.values()))

    def _step(self, row: RegionDelta) -> RegionStep:
        places = self._table.places(row.packs, row.pack, row.slot)
        return RegionStep(row.block_size, row.blocks, row.kept, row.index, places)

    def chain(self, guest: GuestId, capture: CaptureId) -> list[tuple[CaptureId, Delta]]:
        """Return the deltas that make up a capture, its own first, the root's last.

        Raises
        ------
        MissingError, DamagedError, FormatError, StoreError
        """
        try:
            return self._chain(guest, capture)
        except MissingError:
            self.forget()  # a prune may have put another delta in the place of one that is cached
            return self._chain(guest, capture)

    def _chain(self, guest: GuestId, capture: CaptureId) -> list[tuple[CaptureId, Delta]]:
        chain: list[tuple[CaptureId, Delta]] = []
        here: CaptureId | None = capture
        while here is not None:
            delta = self.delta(guest, here)
            if chain and delta.depth >= chain[-1][1].depth:
                raise DamagedError("chain of deltas does not get nearer to its root", path=delta_name(guest, here))
            chain.append((here, delta))
            if len(chain) > _MAX_DELTAS:
                raise DamagedError("chain of deltas is too long", path=delta_name(guest, capture), expected=_MAX_DELTAS)
            here = delta.base
        return chain

    def region(self, guest: GuestId, capture: CaptureId, spec: RegionSpec) -> RegionMap:
        """Return the map of one region of a capture.

        Raises
        ------
        MissingError, DamagedError, FormatError, StoreError
        """
        own = self.delta(guest, capture).regions.get(spec.name)
        if own is None or (own.blocks, own.block_size) != (spec.blocks, spec.block_size):
            found = own and (own.blocks, own.block_size)
            raise DamagedError(
                "delta does not fit its record",
                path=delta_name(guest, capture),
                region=spec.name,
                expected=(spec.blocks, spec.block_size),
                found=found,
            )
        return self._map(guest, capture, spec.name)

    def _map(self, guest: GuestId, capture: CaptureId, region: str) -> RegionMap:
        known = self._maps.get((capture, region))
        if known is not None:
            return known
        result = EMPTY
        for _, delta in reversed(self.chain(guest, capture)):
            step = delta.regions.get(region)
            result = EMPTY if step is None else overlay(result, step)
        self._maps.put((capture, region), result, 12 * len(result.index) + 128)
        return result

    def lookup(self, guest: GuestId, capture: CaptureId, region: str, indices: I64) -> U64:
        """Return the places of some blocks, ascending, without laying out the map they are in.

        Raises
        ------
        MissingError, DamagedError, FormatError, StoreError
        """
        places = np.zeros(len(indices), np.uint64)
        open_rows = np.arange(len(indices))
        for _, delta in self.chain(guest, capture):
            step = delta.regions.get(region)
            if step is None or not len(open_rows):
                break
            wanted = indices[open_rows]
            if len(step.index):
                at = np.minimum(np.searchsorted(step.index, wanted), len(step.index) - 1)
                hit = step.index[at] == wanted
                places[open_rows[hit]] = step.place[at[hit]]
                wanted, open_rows = wanted[~hit], open_rows[~hit]
            open_rows = open_rows[wanted < step.kept]
        return places

    @staticmethod
    def since(chain: Sequence[tuple[CaptureId, Delta]], ancestor: CaptureId) -> dict[str, RegionStep] | None:
        """Return how each region of a chain's first differs from `ancestor`, another member; None if it is that one."""
        steps: dict[str, RegionStep] | None = None
        position = [member for member, _ in chain].index(ancestor)
        for _, delta in reversed(chain[:position]):
            steps = stacked(steps, delta.regions)
        return steps

    def candidates(self, guest: GuestId, a: CaptureId, b: CaptureId, spec: RegionSpec) -> I64:
        """Return the blocks, ascending, of a region that both captures have in which they may differ.

        Costs what was changed since the nearest capture that stands in both chains, not the size of the region.

        Raises
        ------
        MissingError, DamagedError, FormatError, StoreError
        """
        chains = {capture: self.chain(guest, capture) for capture in (a, b)}
        others = {member for member, _ in chains[b]}
        common = next((member for member, _ in chains[a] if member in others), None)
        found: list[U32] = []
        for capture, chain in chains.items():
            steps = None if common is None else self.since(chain, common)
            step = None if steps is None else steps[spec.name]
            if common is None:
                found.append(self._map(guest, capture, spec.name).index)
            elif step is not None:
                found.append(step.index)
                base = self.delta(guest, common).regions.get(spec.name)
                if base is not None and step.kept < base.blocks:
                    index = self._map(guest, common, spec.name).index
                    found.append(index[np.searchsorted(index, step.kept) :])
        return np.unique(np.concatenate(found)).astype(np.int64) if found else np.zeros(0, np.int64)


def stacked(under: Mapping[str, RegionStep] | None, over: Mapping[str, RegionStep]) -> dict[str, RegionStep]:
    """Return the steps of whole captures composed: a region that is missing in between loses all it had."""
    if under is None:
        return dict(over)
    gone = RegionStep(0, 0, 0, np.zeros(0, np.uint32), np.zeros(0, np.uint64))
    return {name: compose(under.get(name, gone), step) for name, step in over.items()}


def region_deltas(steps: Mapping[str, RegionStep], table: PackTable) -> list[RegionDelta]:
    """Return the steps of a capture as its file says them; every pack must have its id by now."""
    rows = []
    for name, step in steps.items():
        packs, column, slot = table.table(step.place)
        rows.append(RegionDelta(name, step.block_size, step.blocks, step.kept, step.index, column, slot, packs))
    return rows
