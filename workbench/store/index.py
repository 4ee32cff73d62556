"""Find a block by its id among millions: sorted arrays in tiers, twelve to sixteen bytes a block, no dict.

Refuses to be trusted: keys are the first eight bytes of ids, and an entry may be stale. Whoever asks compares the
whole id at the place that is answered. Refuses to grow with all that was ever written: of a place that got other
content only the newest entry stays, so there are at most about twice as many entries as places.
"""

from __future__ import annotations

import numpy as np

from workbench.store.types import I64, U64

__all__ = ["IdIndex"]


class IdIndex:
    """A multimap from 64-bit keys to places, of which `find` returns one of the newest tier.

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
            # Newer entries come first: of one place the older ones are stale, and of one key the newest is enough.
            newest = np.sort(np.unique(places, return_index=True)[1])
            keys, places = keys[newest], places[newest]
            keys, newest = np.unique(keys, return_index=True)
            places = places[newest]
        self._tiers.append((keys, places))

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self._tiers)

    def absorb(self, other: IdIndex) -> None:
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
