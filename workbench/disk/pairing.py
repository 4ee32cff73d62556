"""Which entries of two moments of a volume are one: by path, and by identity where the path changed.

An identity is the inode with its kind, generation and time of creation: an inode used again is another file. Where
those cannot tell (whole seconds, no generation) size and time of modification have to be the same too. Refuses to
call a rename what only has the number of an old inode.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.disk.columns import NO_TIME
from workbench.store.types import I64

__all__ = ["Pairs", "pair", "time_ns"]

_SECOND = 10**9
_Identity = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of two walks of one volume.

    Attributes
    ----------
    stayed : (n, 2) int64
        Rows before and after of what has one path and kind in both.
    renamed : (n, 2) int64
        Rows of what has one identity and two paths.
    deleted, created : (n,) int64
    """

    stayed: I64
    renamed: I64
    deleted: I64
    created: I64


def time_ns(frame: pd.DataFrame, column: str) -> I64:
    """Return a column of times as ns since the epoch, `NO_TIME` where there is none."""
    found: I64 = frame[column].to_numpy("M8[ns]").view(np.int64)
    return found


def pair(before: pd.DataFrame, after: pd.DataFrame) -> Pairs:
    """Return which rows of two walks of a volume (`walk_frame`) are one."""
    old = {key: row for row, key in enumerate(_keys(before))}
    at = np.array([old.get(key, -1) for key in _keys(after)], np.int64)
    there = at >= 0
    stayed = np.stack([at[there], np.flatnonzero(there)], axis=1)
    gone = np.setdiff1d(np.arange(len(before)), at[there], assume_unique=False)
    came = np.flatnonzero(~there)
    renamed = _renamed(before, after, gone, came)
    return Pairs(stayed, renamed, np.setdiff1d(gone, renamed[:, 0]), np.setdiff1d(came, renamed[:, 1]))


def _keys(frame: pd.DataFrame) -> list[str]:
    """Return kind and path of each row; the n-th name that a damaged directory has twice ends in its number."""
    keys = [kind + path for kind, path in zip(frame["kind"].tolist(), frame["path"].tolist(), strict=True)]
    if len(set(keys)) == len(keys):
        return keys
    seen: dict[str, int] = defaultdict(int)
    for row, key in enumerate(keys):
        if seen[key]:
            keys[row] = f"{key}\0{seen[key]}"
        seen[key] += 1
    return keys


def _renamed(before: pd.DataFrame, after: pd.DataFrame, gone: I64, came: I64) -> I64:
    old: dict[_Identity, list[int]] = defaultdict(list)
    names = before["path"].tolist()
    for row, identity in _identities(before, gone):
        old[identity].append(row)
    for rows in old.values():
        rows.sort(key=lambda row: names[row], reverse=True)
    names = after["path"].tolist()
    found = [
        (old[identity].pop(), row)
        for row, identity in sorted(_identities(after, came), key=lambda each: names[each[0]])
        if old.get(identity)
    ]
    return np.array(found, np.int64).reshape(-1, 2)


def _identities(frame: pd.DataFrame, rows: I64) -> list[tuple[int, _Identity]]:
    part = frame.iloc[rows]
    created, modified = time_ns(part, "created"), time_ns(part, "modified")
    kinds = part["kind"].map(hash).to_numpy()
    generation = part["generation"].to_numpy()
    weak = (generation <= 0) & ((created == NO_TIME) | (created % _SECOND == 0))
    columns = [part["inode"].to_numpy(), kinds, generation, created]
    columns += [np.where(weak, part["size"].to_numpy(), -1), np.where(weak, modified, NO_TIME)]
    identities = zip(*(column.tolist() for column in columns), strict=True)
    return list(zip(rows.tolist(), identities, strict=True))
