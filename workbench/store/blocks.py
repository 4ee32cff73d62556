"""Every block of a guest's packs in flat columns: which are live, which packs are thin, which blocks are stranded.

Refuses to judge a pack whose footer cannot be read, or another guest's: it is no candidate. Costs 14 bytes a block.
Terms: docs/design.md, section 3.7.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from workbench.errors import DamagedError, FormatError
from workbench.model import GuestId
from workbench.store.format import MAX_CHAIN
from workbench.store.packs import SLOT_BITS, Pack, Packs
from workbench.store.types import I64, U64, Bools

__all__ = ["Blocks"]

_SLOT = np.uint64(0xFFFFFFFF)
_XORED = 0.25
"""Of what a plain block takes in its frame, what one that is XORed against another takes, about."""


class Blocks:
    """The blocks of the packs of one guest.

    Parameters
    ----------
    packs : Packs
    guest : GuestId

    Attributes
    ----------
    thin : set of int
        Numbers of the packs that are to go.
    """

    def __init__(self, packs: Packs, guest: GuestId) -> None:
        self._packs = packs
        self._guest = bytes.fromhex(guest.replace("-", ""))
        self._start: I64 = np.full(1, -1, np.int64)  # by pack number; -1 for one that is not here
        self._base: U64 = np.zeros(0, np.uint64)
        self._weight = np.zeros(0, np.float32)
        self._live: Bools = np.zeros(0, np.bool_)
        self._stranded: Bools = np.zeros(0, np.bool_)
        self._spans: dict[int, slice] = {}
        self.thin: set[int] = set()

    def add(self, numbers: Iterable[int]) -> None:
        """Take in packs; of one that is here, of another guest or damaged, nothing is taken.

        Raises
        ------
        StoreError
        """
        fresh: list[Pack] = []
        for number in numbers:
            if number not in self._spans:
                try:
                    pack = self._packs.pack(number)
                except (DamagedError, FormatError):
                    continue
                fresh += [pack] if pack.guest == self._guest else []
        if not fresh:
            return
        begin = len(self._base)
        for pack in fresh:
            self._spans[pack.number] = slice(begin, begin + len(pack.base))
            begin += len(pack.base)
        self._base = np.concatenate([self._base, *(pack.base for pack in fresh)])
        self._weight = np.concatenate([self._weight, *map(_weights, fresh)])
        grown = np.zeros(begin - len(self._live), np.bool_)
        self._live, self._stranded = np.concatenate([self._live, grown]), np.concatenate([self._stranded, grown])
        self._start = np.full(max(self._spans) + 1, -1, np.int64)
        for number, span in self._spans.items():
            self._start[number] = span.start
        self._strand()

    def _rows(self, places: U64) -> I64:
        """Return the row of each place, -1 for zero blocks and packs that are not here."""
        numbers = (places >> SLOT_BITS).astype(np.int64)
        known = numbers < len(self._start)
        start = np.where(known, self._start[np.where(known, numbers, 0)], -1)
        rows = np.where(start < 0, -1, start + (places & _SLOT).astype(np.int64))
        rows[rows >= len(self._base)] = -1
        return rows

    # What is needed.

    def use(self, places: U64) -> None:
        """Note that a kept capture names these blocks."""
        rows = self._rows(places)
        self._live[rows[rows >= 0]] = True

    def judge(self, candidates: Iterable[int]) -> None:
        """Find the thin packs among `candidates`: less than half of their bytes stay live there.

        What is stranded moves out of packs too, which may make these thin: repeated until no more are found.
        """
        left = [number for number in candidates if number in self._spans]
        while found := {number for number in left if self._is_thin(self._spans[number])}:
            self.thin |= found
            left = [number for number in left if number not in found]
            self._strand()

    def _is_thin(self, span: slice) -> bool:
        weight = self._weight[span]
        stays = self._live[span] & ~self._stranded[span]
        return not len(weight) or 2 * float(weight[stays].sum()) < float(weight.sum())

    def _strand(self) -> None:
        """Find what lies in a thin pack, or is XORed, at any remove, against a block in one."""
        self._stranded[:] = False
        for number in self.thin:
            self._stranded[self._spans[number]] = True
        xored = np.flatnonzero(self._base)
        bases = self._rows(self._base[xored])
        xored, bases = xored[bases >= 0], bases[bases >= 0]
        for _ in range(MAX_CHAIN):
            reached = self._stranded[xored] | self._stranded[bases]
            if (reached == self._stranded[xored]).all():
                return
            self._stranded[xored] = reached

    def spare(self, places: U64) -> bool:
        """Keep the thin packs that blocks lie in or rest on; return whether there were any."""
        before = len(self.thin)
        for _ in range(MAX_CHAIN + 1):
            self.thin -= set(np.unique(places >> SLOT_BITS).tolist())
            rows = self._rows(places)
            places = self._base[rows[rows >= 0]]
        self._strand()
        return len(self.thin) < before

    def stranded(self, places: U64) -> Bools:
        """Return which blocks have to move before the thin packs can go."""
        rows = self._rows(places)
        found: Bools = (rows >= 0) & self._stranded[np.maximum(rows, 0)] if len(self._stranded) else rows >= 0
        return found

    # Figures.

    def moving(self) -> tuple[int, int]:
        """Return how many live blocks are stranded, and about how many bytes they take."""
        rows = self._live & self._stranded
        return int(np.count_nonzero(rows)), int(self._weight[rows].sum())

    def emptied(self) -> tuple[int, int]:
        """Return how many thin packs have no live block, and how many have some."""
        live = sum(bool(self._live[self._spans[number]].any()) for number in self.thin)
        return len(self.thin) - live, live


def _weights(pack: Pack) -> np.typing.NDArray[np.float32]:
    """Return about how many stored bytes each slot takes: its frame's, shared out; 0 for slots that hold nothing."""
    weight = np.zeros(len(pack.base), np.float32)
    slots = pack.slots().astype(np.int64)
    part = np.where(pack.depth[slots] > 0, _XORED, 1.0)
    frame = np.repeat(np.arange(len(pack.frames.count)), pack.frames.count)
    whole = np.bincount(frame, part, len(pack.frames.count))
    weight[slots] = part * (pack.frames.length / np.maximum(whole, _XORED))[frame]
    return weight
