"""Which files changed between two moments: by metadata and by the clusters that were written, or by all contents.

The fast and the deep way give the same answer. The fast one reads two walks and two maps of extents (both kept for
each capture), the clusters that differ, and the contents that may; the deep one hashes every content of both moments.
Refuses to call a file modified whose content is the same, and a new file with an old inode the old file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.disk.columns import names, times
from workbench.disk.extentmap import ExtentMap
from workbench.disk.hashing import MOST, Hashed, Hasher
from workbench.disk.moments import Moments
from workbench.disk.pairing import Pairs, pair, time_ns
from workbench.disk.parts import Part
from workbench.disk.pieces import changed_clusters
from workbench.disk.touched import Touched, touched
from workbench.model import CaptureId
from workbench.store.types import I64

__all__ = ["changed_files"]

_METADATA = ("inode", "mode", "uid", "gid", "links", "size", "generation")
_TIMES = ("modified", "changed", "created")
_ALL_TIMES = ("modified", "changed", "accessed", "created")
_OWN = ("mode", "uid", "gid", "inode")
_ORDER = ("created", "deleted", "renamed", "modified", "metadata")


def changed_files(
    moments: Moments,
    before: CaptureId,
    after: CaptureId,
    *,
    deep: bool = False,
    accesses: bool = False,
    most: int = MOST,
) -> pd.DataFrame:
    """Return what is not the same in two moments, a row per path.

    Parameters
    ----------
    moments : Moments
    before, after : CaptureId
        Of one guest.
    deep : bool
        Hash every content of both moments, whatever the clusters and the metadata say. The answer is the same.
    accesses : bool
        Also what differs in nothing but its time of access.
    most : int
        Bytes of a content that is hashed, at most; a larger one counts as modified if what it lies in was written to.

    Returns
    -------
    DataFrame
        volume (str), path (object: str with surrogate escapes), change (str: "created", "deleted", "renamed" (perhaps
        with another content: compare the digests), "modified", "metadata"), old_path (object: str or None), kind
        (str), size_before, size_after (Int64, bytes), modified_, changed_, accessed_, created_before and _after
        (datetime64[ns, UTC]), mode, uid, gid, inode (Int64; of the later moment, of the earlier for what was
        deleted) and mode_, uid_, gid_, inode_before (Int64), target, target_before (object), sha256_before,
        sha256_after (str or NA), clusters (int64, clusters of 64 KiB with changed bytes of its content), source (str:
        "disk", "journal" or "page cache"), state (str), note (str: why there is no digest). By volume and path.
        A directory is "modified" if other names or inodes are in it. `attrs`: `damage_before`, `damage_after` (list
        of str), `hashed` (int, contents read), `not_compared` (volumes that could not be opened at one of
        the moments, and why: their files have no rows).

    Raises
    ------
    UsageError
        If the captures are of two guests.
    DiskError, StoreError
    """
    clusters = changed_clusters(moments.store, before, after)
    walks = moments.walk(before), moments.walk(after)
    opened = [moments.opened(capture) for capture in (before, after)]
    sides = [{part.name: part for part in each.parts} for each in opened]
    unread = {name: words for each in opened for name, words in each.unread.items()}
    found, hashed = [], 0
    for name in sorted((sides[0] | sides[1]).keys() - unread.keys()):
        volume = _Volume.opened(moments, (before, after), name, (sides[0].get(name), sides[1].get(name)), most)
        found += volume.compared(clusters, deep=deep, accesses=accesses)
        hashed += sum(hasher.count for hasher in volume.hashers if hasher is not None)
    frame = pd.concat(found, ignore_index=True) if found else _empty()
    frame.attrs.update(damage_before=walks[0].attrs.get("damage", []), damage_after=walks[1].attrs.get("damage", []))
    frame.attrs["hashed"] = hashed
    frame.attrs["not_compared"] = {name: words for name, words in unread.items() if name in sides[0] | sides[1]}
    return frame


@dataclass(slots=True)
class _Volume:
    """One volume at both moments."""

    name: str
    parts: tuple[Part | None, Part | None]
    walks: tuple[pd.DataFrame, pd.DataFrame]
    maps: tuple[ExtentMap, ExtentMap]
    hashers: tuple[Hasher | None, Hasher | None]

    @classmethod
    def opened(
        cls,
        moments: Moments,
        captures: tuple[CaptureId, CaptureId],
        name: str,
        parts: tuple[Part | None, Part | None],
        most: int,
    ) -> _Volume:
        mine = [_part_of(moments.walk(capture), name) for capture in captures]
        hashers = [None if part is None else Hasher(part, most) for part in parts]
        maps = [moments.map(capture, name) for capture in captures]
        return cls(name, parts, (mine[0], mine[1]), (maps[0], maps[1]), (hashers[0], hashers[1]))

    def compared(self, clusters: dict[str, I64], *, deep: bool, accesses: bool) -> list[pd.DataFrame]:
        """Return the rows of this volume."""
        before, after = self.parts
        if before is not None and after is not None and before.signature == after.signature:
            mine = clusters.get(after.disk, np.zeros(0, np.int64))
            between = touched(before, after, self.maps, mine)
            return [self._same(between, pair(*self.walks), deep=deep, accesses=accesses)]
        return [self._all(side) for side in (0, 1) if self.parts[side] is not None]

    def _all(self, side: int) -> pd.DataFrame:
        """Return all of a volume that only one moment has, or that is another one now."""
        rows, none = np.arange(len(self.walks[side])), np.full(len(self.walks[side]), -1)
        table = _Table(self.walks, *((rows, none) if side == 0 else (none, rows)))
        table.change[:] = "created" if side else "deleted"
        self._digests(table, np.zeros(len(rows), bool))
        return table.frame(self.name, self.parts, _nothing())

    def _same(self, between: Touched, pairs: Pairs, *, deep: bool, accesses: bool) -> pd.DataFrame:
        """Return what differs in a volume that both moments have."""
        none = np.full
        old = np.concatenate([pairs.stayed[:, 0], pairs.renamed[:, 0], pairs.deleted, none(len(pairs.created), -1)])
        new = np.concatenate([pairs.stayed[:, 1], pairs.renamed[:, 1], none(len(pairs.deleted), -1), pairs.created])
        table = _Table(self.walks, old, new)
        kept = slice(0, len(pairs.stayed))
        rest = slice(len(pairs.stayed), None)
        table.change[rest] = np.repeat(
            ["renamed", "deleted", "created"], [len(pairs.renamed), len(pairs.deleted), len(pairs.created)]
        )
        metadata = table.differing(_METADATA, [*_TIMES, "accessed"] if accesses else _TIMES)
        table.change[kept] = np.where(metadata[kept], "metadata", "")
        may = table.may_differ(between)
        self._contents(table, may, deep=deep)
        table.change[kept] = np.where(table.directories_changed(), "modified", table.change)[kept]
        table = table.only(table.change != "")
        self._digests(table, np.zeros(len(table.old), bool) if deep else ~table.may_differ(between))
        return table.frame(self.name, self.parts, between)

    def _contents(self, table: _Table, may: NDArray[np.bool_], *, deep: bool) -> None:
        """Mark the files that kept their path as modified whose content is another."""
        files = table.both() & (table.kind == "file") & ((table.change == "metadata") | (table.change == ""))
        for row in np.flatnonzero(files & (may | deep)).tolist():
            one, two = self._hash(0, table, row), self._hash(1, table, row)
            known = bool(one.sha256 and two.sha256)
            if one.sha256 != two.sha256 if known else bool(may[row]):
                table.change[row] = "modified"
        links = table.both() & (table.kind == "link") & table.targets_differ()
        table.change[links & (table.change != "renamed")] = "modified"

    def _hash(self, side: int, table: _Table, row: int) -> Hashed:
        hasher = self.hashers[side]
        at = int((table.old, table.new)[side][row])
        if hasher is None or at < 0:
            return Hashed("")
        return hasher(int(table.inodes[side][at]), int(table.sizes[side][at]))

    def _digests(self, table: _Table, same: NDArray[np.bool_]) -> None:
        """Give the rows of files their digests; where the content is the same one reading is enough."""
        for row in np.flatnonzero(table.kind == "file").tolist():
            after = self._hash(1, table, row)
            one = same[row] and table.old[row] >= 0 and table.new[row] >= 0
            before = after if one else self._hash(0, table, row)
            table.digests[row] = before.sha256, after.sha256
            table.note[row] = before.reason or after.reason


def _part_of(walk: pd.DataFrame, volume: str) -> pd.DataFrame:
    """Return the rows of a volume that are not deleted; the walk itself where that is all of it."""
    mine = ((walk["volume"] == volume) & ~walk["deleted"]).to_numpy(bool)
    return walk if mine.all() else walk[mine].reset_index(drop=True)


class _Table:
    """Rows of two walks side by side; -1 where a side has none."""

    def __init__(self, walks: tuple[pd.DataFrame, pd.DataFrame], old: I64, new: I64) -> None:
        self.walks, self.old, self.new = walks, np.asarray(old, np.int64), np.asarray(new, np.int64)
        self.change: NDArray[Any] = np.full(len(self.old), "", object)
        self.note: NDArray[Any] = np.full(len(self.old), "", object)
        self.digests: list[tuple[str, str]] = [("", "")] * len(self.old)
        self.inodes = tuple(walk["inode"].to_numpy(np.int64) for walk in walks)
        self.sizes = tuple(walk["size"].to_numpy(np.int64) for walk in walks)
        self.kind: NDArray[Any] = self.taken("kind")

    def both(self) -> NDArray[np.bool_]:
        """Tell which rows are in both moments."""
        return (self.old >= 0) & (self.new >= 0)

    def side(self, side: int, column: str, absent: Any) -> NDArray[Any]:
        """Return a column of one moment, `absent` where the row is not in it."""
        rows, values = (self.old, self.new)[side], self.walks[side][column].to_numpy(object)
        found: NDArray[Any] = np.full(len(rows), absent, object)
        found[rows >= 0] = values[rows[rows >= 0]]
        return found

    def taken(self, column: str) -> NDArray[Any]:
        """Return a column of the later moment, of the earlier where that has none."""
        found, old = self.side(1, column, None), self.new < 0
        found[old] = self.side(0, column, None)[old]
        return found

    def only(self, keep: NDArray[np.bool_]) -> _Table:
        """Return some of the rows."""
        table = _Table(self.walks, self.old[keep], self.new[keep])
        table.change = self.change[keep]
        return table

    def _numbers(self, column: str) -> tuple[I64, I64]:
        both = self.both()
        first, second = (
            time_ns(walk, column) if column in _ALL_TIMES else walk[column].to_numpy(np.int64) for walk in self.walks
        )
        return first[self.old[both]], second[self.new[both]]

    def differing(self, columns: Iterable[str], moments: Iterable[str]) -> NDArray[np.bool_]:
        """Tell which rows of both moments differ in a column."""
        found, both = np.zeros(len(self.old), bool), self.both()
        for column in (*columns, *moments):
            first, second = self._numbers(column)
            found[both] |= first != second
        return found

    def targets_differ(self) -> NDArray[np.bool_]:
        """Tell which rows have another target."""
        return np.asarray(self.side(0, "target", None) != self.side(1, "target", None), bool) & self.both()

    def may_differ(self, between: Touched) -> NDArray[np.bool_]:
        """Tell which rows of both moments may have another content."""
        found = self.differing(("inode", "generation", "size"), ("created",))
        both = self.both()
        mine = self.inodes[1][self.new[both]]
        found[both] |= np.isin(mine, between.inodes) | np.isin(mine, between.unplaced) | np.isin(mine, between.cached)
        return found

    def directories_changed(self) -> NDArray[np.bool_]:
        """Tell which rows are directories with other names or inodes in them."""
        moved = self.differing(("inode",), ()) | ~np.isin(self.change, ["", "metadata", "modified"])
        touched = {
            path.rpartition("/")[0] or "/"
            for side in (0, 1)
            for path in self.side(side, "path", None)[moved]
            if path is not None
        }
        directories = np.flatnonzero((self.kind == "directory") & self.both())
        found = np.zeros(len(self.old), bool)
        paths = self.side(1, "path", None)
        found[[row for row in directories.tolist() if paths[row] in touched]] = True
        return found

    def frame(self, volume: str, parts: tuple[Part | None, Part | None], between: Touched) -> pd.DataFrame:
        """Return the rows as `changed_files` has them, by path."""
        paths = self.taken("path")
        columns: dict[str, Any] = {
            "volume": pd.Series([volume] * len(paths), dtype="str"),
            "path": names(paths.tolist()),
            "change": pd.Series(self.change.tolist(), dtype="str"),
            "old_path": names(self._old_paths()),
            "kind": pd.Series(self.kind.tolist(), dtype="str"),
        }
        columns |= {f"size_{when}": self._integers(side, "size") for side, when in ((0, "before"), (1, "after"))}
        for column in _ALL_TIMES:
            columns |= {f"{column}_{when}": self._times(side, column) for side, when in ((0, "before"), (1, "after"))}
        columns |= {column: pd.Series(self.taken(column), dtype="Int64") for column in _OWN}
        columns |= {f"{column}_before": self._integers(0, column) for column in _OWN}
        columns |= {"target": names(self.taken("target").tolist())}
        columns |= {"target_before": names(self.side(0, "target", None).tolist())}
        for side, when in ((0, "before"), (1, "after")):
            columns[f"sha256_{when}"] = pd.Series([each[side] or None for each in self.digests], dtype="str")
        columns |= self._origin(parts, between)
        columns["note"] = pd.Series(self.note.tolist(), dtype="str")
        frame = pd.DataFrame(columns)
        order = sorted(range(len(frame)), key=lambda row: (paths[row], _ORDER.index(self.change[row])))
        return frame.iloc[order].reset_index(drop=True)

    def _old_paths(self) -> list[str | None]:
        paths = self.side(0, "path", None).tolist()
        return [path if change == "renamed" else None for path, change in zip(paths, self.change, strict=True)]

    def _integers(self, side: int, column: str) -> pd.Series:
        return pd.Series(self.side(side, column, pd.NA), dtype="Int64")

    def _times(self, side: int, column: str) -> pd.Series:
        rows, values = (self.old, self.new)[side], time_ns(self.walks[side], column)
        none = np.iinfo(np.int64).min
        return times(np.where(rows >= 0, values[rows], none) if len(values) else np.full(len(rows), none))

    def _origin(self, parts: tuple[Part | None, Part | None], between: Touched) -> dict[str, pd.Series]:
        """Return how many clusters, and where each row comes from."""
        at = self._all_inodes()
        logged = np.where(self.new >= 0, np.isin(at[1], between.logged_after), np.isin(at[0], between.logged_before))
        states = ["" if part is None else part.filesystem.state for part in parts]
        counts = [between.clusters(*each) for each in zip(at[0].tolist(), at[1].tolist(), strict=True)]
        told = self.taken("source")
        source = np.where(logged | (told == "journal"), "journal", "disk")
        source = np.where((told == "page cache") | np.isin(at[1], between.cached), "page cache", source)
        return {
            "clusters": pd.Series(counts, dtype="int64"),
            "source": pd.Series(source.tolist(), dtype="str"),
            "state": pd.Series(np.where(self.new >= 0, states[1], states[0]).tolist(), dtype="str"),
        }

    def _all_inodes(self) -> list[I64]:
        return [
            np.where(rows >= 0, inodes[rows], -1) if len(inodes) else np.full(len(rows), -1)
            for rows, inodes in zip((self.old, self.new), self.inodes, strict=True)
        ]


def _nothing() -> Touched:
    none, pairs = np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
    return Touched(pairs, none, none, pairs, pairs, none, none, none)


def _empty() -> pd.DataFrame:
    walks = _no_walk(), _no_walk()
    return _Table(walks, np.zeros(0, np.int64), np.zeros(0, np.int64)).frame("", (None, None), _nothing())


def _no_walk() -> pd.DataFrame:
    from workbench.disk.walk import walk_frame

    return walk_frame([])
