"""The captures of some guests, each once, read anew only where something came that was not read before.

A clone's captures are branches of the guest that it is a clone of (docs/design.md, 4), and the clone is a guest of its
own besides: here they stand in the lanes of the first. Refuses to put together numbers of branches that were read at
different times where a clone's follow the guest's own: they move when the guest is rewound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from workbench.errors import UsageError
from workbench.model import GuestRecord

__all__ = ["count_captures", "read_captures"]


def read_captures(source: Any, guests: Sequence[GuestRecord], before: pd.DataFrame | None) -> list[pd.DataFrame]:
    """Return the captures by guest, none empty.

    Parameters
    ----------
    before : DataFrame, optional
        What was read earlier, of all guests.

    Returns
    -------
    list of DataFrame
        As `Case.timeline`, with guest (str, UUID) and own (bool: whether it is a capture of the guest itself).
    """
    frames = [_captures(source, guest, before) for guest in guests]
    clones = pd.concat([each.loc[~each["own"], "id"] for each in frames]) if frames else pd.Series(dtype="object")
    if len(clones):
        frames = [each[~(each["own"] & each["id"].isin(clones))] for each in frames]
    return [each for each in frames if len(each)]


def _captures(source: Any, guest: GuestRecord, before: pd.DataFrame | None) -> pd.DataFrame:
    """Return the captures of a guest; of what was read before, what is still there and what came since."""
    old = None if before is None else before[before["guest"] == guest.id]
    if old is not None and len(old) and old["own"].all():
        try:
            fresh = source.timeline(guest.id, since=str(old["id"].iloc[-1]))
        except UsageError:  # the newest one is gone
            return _whole(source, guest)
        if (count := count_captures(source, guest.id)) is None or count == len(old) + len(fresh):
            kept = old.drop(columns=["lane"])
            return pd.concat([kept, _owned(fresh, guest)], ignore_index=True) if len(fresh) else kept
    return _whole(source, guest)


def _whole(source: Any, guest: GuestRecord) -> pd.DataFrame:
    frame = _owned(source.timeline(guest.id), guest)
    count = count_captures(source, guest.id)
    if count is None or count == len(frame):
        return frame
    return frame.assign(own=frame["id"].isin([str(each.id) for each in source.store.captures(guest.id)]))


def _owned(frame: pd.DataFrame, guest: GuestRecord) -> pd.DataFrame:
    return frame.assign(guest=str(guest.id), own=True)


def count_captures(source: Any, guest: str) -> int | None:
    """Return how many captures a guest has by the listing alone; None where a source has none."""
    store = getattr(source, "store", None)
    return None if store is None else len(store.captures(guest))
