"""Which bytes of the disks belong to which inode, at one moment: a frame that is a function of the capture alone.

Also the digests of what is kept inside of inodes and so lies nowhere else, and the runs that nobody uses. Refuses to
call content known of which it is not known where it lies: such an inode is "elsewhere", and is compared by content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.disk.filesystem import Extent
from workbench.disk.parts import Part
from workbench.errors import DiskError, UnsupportedError
from workbench.store.types import I64

__all__ = ["DATA", "ELSEWHERE", "EXTENTS", "FREE", "HOLE", "JOURNAL", "RESIDENT", "ExtentMap", "extent_frame"]

EXTENTS = "workbench.disk.extents"
DATA, HOLE, RESIDENT, ELSEWHERE, FREE, JOURNAL = range(6)
"""What a row of the frame is: bytes on the disk, none, in the inode, not known, used by nobody, of the journal."""
_MOST = 4_000_000
"""Extents of one inode at most."""
_PAIRS = 4_000_000
_RESIDENT = 65536
"""Bytes of content that an inode can hold, at most."""
_EXT_JOURNAL = 8
_COLUMNS = ("inode", "file_offset", "offset", "length")


class _Rows:
    """Columns being gathered."""

    def __init__(self) -> None:
        self.kind: list[int] = []
        self.inode: list[int] = []
        self.file_offset: list[int] = []
        self.offset: list[int] = []
        self.length: list[int] = []
        self.digest: list[str] = []

    def put(self, kind: int, inode: int, extent: Extent, digest: str = "") -> None:
        self.kind.append(kind)
        self.inode.append(inode)
        self.file_offset.append(extent.file_offset)
        self.offset.append(extent.offset)
        self.length.append(extent.length)
        self.digest.append(digest)


def extent_frame(parts: Sequence[Part], walk: pd.DataFrame) -> pd.DataFrame:
    """Return where every inode of a walk has its content.

    Returns
    -------
    DataFrame
        volume (str), kind (int8, one of this module's numbers), inode (int64, -1 for runs that nobody uses),
        file_offset (int64, bytes), offset (int64, bytes on the disk, -1 for none), length (int64, bytes), digest
        (str, SHA-256 of content kept in the inode); by volume, inode, file_offset.
    """
    frames = [_of_part(part, walk[walk["volume"] == part.name]) for part in parts]
    return pd.concat(frames, ignore_index=True) if frames else _frame("", _Rows())


def _of_part(part: Part, walk: pd.DataFrame) -> pd.DataFrame:
    rows = _Rows()
    mine = walk[walk["kind"].isin(["file", "directory", "link"])].drop_duplicates("inode")
    for inode, size, kind in zip(mine["inode"].tolist(), mine["size"].tolist(), mine["kind"].tolist(), strict=True):
        _put_inode(part, rows, inode, size, kind)
    if part.filesystem.kind in {"ext3", "ext4"}:
        for extent in _bounded(part, _EXT_JOURNAL) or ():
            rows.put(JOURNAL, _EXT_JOURNAL, extent)
    try:
        for extent in part.filesystem.unallocated():
            rows.put(FREE, -1, extent)
    except (DiskError, UnsupportedError):
        pass  # then nothing is called unallocated
    return _frame(part.name, rows)


def _put_inode(part: Part, rows: _Rows, inode: int, size: int, kind: str) -> None:
    found = _bounded(part, inode)
    if found is None:
        rows.put(ELSEWHERE, inode, Extent(0, -1, size))
        return
    for extent in found:
        rows.put(HOLE if extent.offset < 0 else DATA, inode, _with_slack(extent, part.filesystem.cluster))
    if not found and size and kind == "file":
        digest = _resident(part, inode, size)
        rows.put(RESIDENT if digest else ELSEWHERE, inode, Extent(0, -1, size), digest)


def _with_slack(extent: Extent, cluster: int) -> Extent:
    """Return an extent to the end of its last cluster: what lies past the content is the file's as well."""
    over = -extent.length % cluster if cluster else 0
    return replace(extent, length=extent.length + over) if over and extent.file_offset % cluster == 0 else extent


def _bounded(part: Part, inode: int) -> list[Extent] | None:
    try:
        found = list(islice(part.filesystem.extents(inode), _MOST + 1))
    except (DiskError, UnsupportedError):
        return None
    return found if len(found) <= _MOST else None


def _resident(part: Part, inode: int, size: int) -> str:
    """Return the digest of what an inode holds itself; empty if it cannot be read."""
    if size > _RESIDENT:
        return ""
    try:
        with part.filesystem.open(inode) as content:
            return hashlib.sha256(content.read(size) or b"").hexdigest()
    except (DiskError, UnsupportedError):
        return ""


def _frame(volume: str, rows: _Rows) -> pd.DataFrame:
    columns: dict[str, object] = {
        "volume": pd.Series([volume] * len(rows.kind), dtype="str"),
        "kind": np.array(rows.kind, np.int8),
    }
    columns |= {name: np.array(getattr(rows, name), np.int64) for name in _COLUMNS}
    columns["digest"] = pd.Series(rows.digest, dtype="str")
    return pd.DataFrame(columns).sort_values(["inode", "file_offset"], kind="stable", ignore_index=True)


def _shares(count: I64) -> Iterator[slice]:
    """Yield slices whose counts sum to a bounded number: extents that all overlap would make a square of pairs."""
    start = total = 0
    for at, each in enumerate(count.tolist()):
        if total + each > _PAIRS and at > start:
            yield slice(start, at)
            start, total = at, 0
        total += each
    if start < len(count):
        yield slice(start, len(count))


class ExtentMap:
    """Who owns which bytes of a disk, of one volume of one moment; and what tells two moments of an inode apart.

    Parameters
    ----------
    frame : DataFrame
        Of `extent_frame`.
    volume : str
    """

    def __init__(self, frame: pd.DataFrame, volume: str) -> None:
        chosen = (frame["volume"] == volume).to_numpy(bool)
        mine = frame if chosen.all() else frame[chosen]
        self.kind: NDArray[np.int8] = mine["kind"].to_numpy()
        self.inode: I64 = mine["inode"].to_numpy()
        self.file_offset: I64 = mine["file_offset"].to_numpy()
        self._shape: I64 = mine[["kind", "file_offset", "offset", "length"]].to_numpy(np.int64)
        self._digest = mine["digest"].to_numpy(object)
        placed = np.flatnonzero(mine["offset"].to_numpy() >= 0)
        order = placed[np.argsort(mine["offset"].to_numpy()[placed], kind="stable")]
        self.row: I64 = order
        self.start: I64 = mine["offset"].to_numpy()[order]
        self.end: I64 = self.start + mine["length"].to_numpy()[order]
        self._reach = np.maximum.accumulate(self.end) if len(order) else self.end

    def touching(self, starts: I64, ends: I64) -> tuple[I64, I64]:
        """Return all pairs of (range, extent) that overlap: two equally long arrays of indices.

        Extents may overlap each other, as shared ones do.
        """
        low = np.searchsorted(self._reach, starts, "right")
        count = np.maximum(low, np.searchsorted(self.start, ends, "left")) - low
        found = [self._pairs(part, starts, low, count) for part in _shares(count)]
        ranges = np.concatenate([pair[0] for pair in found]) if found else np.zeros(0, np.int64)
        return ranges, np.concatenate([pair[1] for pair in found]) if found else np.zeros(0, np.int64)

    def _pairs(self, part: slice, starts: I64, low: I64, count: I64) -> tuple[I64, I64]:
        count = count[part]
        ranges = np.repeat(np.arange(part.start, part.start + len(count)), count)
        nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        extents = nth + np.repeat(low[part], count)
        real = self.end[extents] > starts[ranges]
        return ranges[real], extents[real]

    def owners(self, extents: I64) -> I64:
        """Return the inodes of extents, as `touching` numbers them."""
        return self.inode[self.row[extents]]

    def kinds(self, extents: I64) -> NDArray[np.int8]:
        """Return the kinds of extents, as `touching` numbers them."""
        return self.kind[self.row[extents]]

    def elsewhere(self) -> I64:
        """Return the inodes whose content lies nobody knows where."""
        return np.unique(self.inode[self.kind == ELSEWHERE])

    def moved(self, other: ExtentMap) -> I64:
        """Return the inodes of either that do not have the same extents, or the same content inside, in both."""
        counts = [np.unique(each.inode, return_counts=True) for each in (self, other)]
        both, at, other_at = np.intersect1d(counts[0][0], counts[1][0], assume_unique=True, return_indices=True)
        same = counts[0][1][at] == counts[1][1][other_at]
        keep = both[same]
        rows, other_rows = np.isin(self.inode, keep), np.isin(other.inode, keep)
        differing = (self._shape[rows] != other._shape[other_rows]).any(axis=1)
        differing |= self._digest[rows] != other._digest[other_rows]
        changed = np.unique(self.inode[rows][differing])
        alone = np.setxor1d(counts[0][0], counts[1][0], assume_unique=True)
        return np.setdiff1d(np.unique(np.concatenate([changed, both[~same], alone])), [-1])
