"""Find a number by its key among millions: sorted arrays in tiers, twelve to sixteen bytes each, no dict.

Refuses to be trusted with ids of blocks: keys are the first eight bytes of them, and an entry may be stale. Whoever
asks compares the whole id at the place that is answered.
"""

from __future__ import annotations

import numpy as np

from workbench.store.types import I64, U64

__all__ = ["IdIndex", "KeyIndex"]


class KeyIndex:
    """A map from 64-bit keys to numbers, the newest of each key; several keys may have the same number.

    Tiers grow by doubling (as in a log-structured merge tree), so that n additions cost n log n in all.
    """

    def __init__(self) -> None:
        self._tiers: list[tuple[U64, I64]] = []

    def add(self, keys: U64, places: I64) -> None:
        """Add `places` under `keys`, both (n,)."""
        if len(keys):
            order = np.argsort(keys, kind="stable")
            self._push(keys[order], places[order])

    def _push(self, keys: U64, places: I64) -> None:
        while self._tiers and len(self._tiers[-1][0]) < 2 * len(keys):
            older_keys, older_places = self._tiers.pop()
            keys, places = np.concatenate((keys, older_keys)), np.concatenate((places, older_places))
            keys, places = self._newest(keys, places)
        self._tiers.append((keys, places))

    def _newest(self, keys: U64, places: I64) -> tuple[U64, I64]:
        """Return the entries that are still of use, by key; newer ones come first among those of a key."""
        keys, newest = np.unique(keys, return_index=True)
        return keys, places[newest]

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._tiers)

    def absorb(self, other: KeyIndex) -> None:
        """Add everything of `other`, as newer."""
        for keys, places in other._tiers:
            self._push(keys, places)

    def find(self, keys: U64) -> I64:
        """Return a place for each of `keys`, or -1."""
        found = np.full(len(keys), -1, np.int64)
        for tier_keys, tier_places in self._tiers:  # oldest first: newer tiers overwrite
            at = np.minimum(np.searchsorted(tier_keys, keys), len(tier_keys) - 1)
            hit = tier_keys[at] == keys
            found[hit] = tier_places[at[hit]]
        return found


class IdIndex(KeyIndex):
    """Where blocks lie, by the beginnings of their ids.

    Refuses to grow with all that was ever written: of a place that got other content only the newest entry stays, so
    that there are at most about twice as many entries as places.
    """

    def _newest(self, keys: U64, places: I64) -> tuple[U64, I64]:
        newest = np.sort(np.unique(places, return_index=True)[1])
        return super()._newest(keys[newest], places[newest])
