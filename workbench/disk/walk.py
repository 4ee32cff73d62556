"""The metadata of every entry of a moment as one frame: a function of the capture alone, kept as an answer.

Content is not read. Refuses to follow links, and to end a walk silently: what was skipped or cut off is in `attrs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.disk.columns import names, nanoseconds, times
from workbench.disk.filesystem import Entry
from workbench.disk.inodes import cached_inodes, generations, replayed_inodes
from workbench.disk.pagecache import CachedFileSystem
from workbench.disk.parts import Part, shown
from workbench.errors import DiskError
from workbench.store.types import I64

__all__ = ["WALK", "sources", "walk_frame"]

WALK = "workbench.disk.walk"
_MOST = 20_000_000
"""Entries of one file system at most."""
_TIMES = ("modified", "changed", "accessed", "created")
_NUMBERS = {"inode": np.int64, "size": np.int64, "mode": np.int32, "uid": np.int64, "gid": np.int64, "links": np.int64}


def walk_frame(parts: Sequence[Part], *, deleted: bool = False, most: int = _MOST) -> pd.DataFrame:
    """Return every entry of a moment, in the order of the walk.

    Parameters
    ----------
    parts : sequence of Part
    deleted : bool
        Also what file systems still remember of deleted entries.
    most : int
        Entries of one file system at most; what is cut off is told in `attrs["damage"]`.

    Returns
    -------
    DataFrame
        volume (str), path (object: str with surrogate escapes), inode (int64), kind (str), size (int64, bytes),
        mode (int32, permission bits), uid, gid, links (int64), modified, changed, accessed, created
        (datetime64[ns, UTC], NaT where there is none), target (object: str or None), deleted (bool),
        generation (int64, -1 where the file system has none), state (str), source (str: "page cache" where the inode
        as it is here, its size or a byte of its content was only in memory, "journal" where the inode was only in the
        log, else "disk").
        `attrs["damage"]`: list of str, what could not be read.
    """
    damage: list[str] = []
    frames = [_of_part(part, deleted, most, damage) for part in parts]
    frame = pd.concat(frames, ignore_index=True) if frames else _frame("", "/", [], damage)
    frame.attrs["damage"] = damage
    return frame


def _of_part(part: Part, deleted: bool, most: int, damage: list[str]) -> pd.DataFrame:
    entries = _entries(part, deleted, most, damage)
    frame = _frame(part.name, part.mount, entries, damage)
    inodes: I64 = frame["inode"].to_numpy()
    frame["generation"] = generations(part, inodes)
    frame["state"] = part.filesystem.state
    frame["source"] = sources(part, inodes)
    damage += [f"{part.name}: {line}" for line in part.filesystem.damage()]
    return frame


def sources(part: Part, inodes: I64) -> NDArray[np.str_]:
    """Return where each inode comes from: "disk", "journal" or "page cache".

    Raises
    ------
    StoreError
    """
    logged = np.isin(inodes, np.fromiter(replayed_inodes(part), np.int64))
    held = np.fromiter(part.filesystem.newer if isinstance(part.filesystem, CachedFileSystem) else (), np.int64)
    cached = np.isin(inodes, held) | np.isin(inodes, np.fromiter(cached_inodes(part), np.int64))
    return np.where(cached, "page cache", np.where(logged, "journal", "disk"))


def _entries(part: Part, deleted: bool, most: int, damage: list[str]) -> list[Entry]:
    """Return what can be walked; that it broke off is told."""
    found: list[Entry] = []
    walks = [part.filesystem.walk, part.filesystem.deleted] if deleted else [part.filesystem.walk]
    for walk in walks:
        try:
            found += _bounded(walk(), most - len(found), part.name, damage)
        except DiskError as error:
            damage.append(f"{part.name}: the walk broke off: {error}")
    return found


def _bounded(entries: Iterator[Entry], most: int, name: str, damage: list[str]) -> Iterator[Entry]:
    yield from islice(entries, most)
    if next(entries, None) is not None:
        damage.append(f"{name}: more than {most} entries; the rest is left out")


def _frame(name: str, mount: str, entries: Sequence[Entry], damage: list[str]) -> pd.DataFrame:
    columns: dict[str, object] = {"volume": pd.Series([name] * len(entries), dtype="str")}
    columns["path"] = names([shown(mount, entry.path) for entry in entries])
    columns["kind"] = pd.Series([entry.kind for entry in entries], dtype="str")
    for column, kind in _NUMBERS.items():
        columns[column] = np.array([getattr(entry, column) for entry in entries], kind)
    for column in _TIMES:
        values, lost = nanoseconds([getattr(entry, f"{column}_ns") for entry in entries])
        columns[column] = times(values)
        if lost:
            damage.append(f"{name}: {lost} entries whose time {column!r} cannot be told")
    columns["target"] = names([entry.target for entry in entries])
    columns["deleted"] = np.array([entry.deleted for entry in entries], bool)
    for column, value in (("generation", -1), ("state", "clean"), ("source", "disk")):
        columns[column] = pd.Series([value] * len(entries), dtype="int64" if column == "generation" else "str")
    return pd.DataFrame(columns)
