"""The delta of a capture against another ancestor than the one it stands on; nothing is written.

Costs what was written between the two, not the size of the regions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.model import CaptureId, CaptureRecord, RegionSpec
from workbench.store.maps import Maps, RegionStep
from workbench.store.types import U64

__all__ = ["rebased"]


def rebased(
    maps: Maps, record: CaptureRecord, base: CaptureId | None, now: Callable[[U64], U64]
) -> dict[str, RegionStep]:
    """Return the steps that lead from the ancestor `base` (None: from nothing) to a capture.

    Parameters
    ----------
    now : callable
        Says where blocks are that lay at given places: two places of one block are no difference.

    Raises
    ------
    MissingError, DamagedError, FormatError, StoreError
    """
    return {region.spec.name: _region(maps, record, region.spec, base, now) for region in record.regions}


def _region(
    maps: Maps, record: CaptureRecord, spec: RegionSpec, base: CaptureId | None, now: Callable[[U64], U64]
) -> RegionStep:
    own = maps.region(record.guest, record.id, spec)
    under = None if base is None else maps.delta(record.guest, base).regions.get(spec.name)
    if base is None or under is None or under.block_size != spec.block_size:
        return RegionStep(spec.block_size, spec.blocks, 0, own.index, now(own.place))
    index = maps.candidates(record.guest, record.id, base, spec)
    index = index[index < spec.blocks]
    places = now(own.places(index))
    changed = places != now(maps.lookup(record.guest, base, spec.name, index))
    kept = min(spec.blocks, under.blocks)
    return RegionStep(spec.block_size, spec.blocks, kept, index[changed].astype(np.uint32), places[changed])
