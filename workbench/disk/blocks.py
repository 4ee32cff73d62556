"""What was written to the disks between two moments, and whose it is: bytes by file, metadata, journal, free space.

As captured: a replay of a journal is not looked at here. The store tells bytes, not commands, so a discard looks like
what it left: zeros ("zeroed"), or nothing changed at all. Refuses to guess an owner: what no map names is "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.disk.columns import names
from workbench.disk.extentmap import DATA, FREE, JOURNAL, ExtentMap
from workbench.disk.image import Bytes, Image
from workbench.disk.moments import Moments
from workbench.disk.parts import Part
from workbench.disk.pieces import changed_clusters, clipped, differing
from workbench.model import CLUSTER, CaptureId
from workbench.store.types import I64

__all__ = ["changed_blocks"]

_TABLE = 1 << 20
"""Bytes at a disk's beginning, and (less) at its end, in which partition tables lie."""
_TABLE_END = 33 * 4096
_NTFS_LOG, _NTFS_OWN = 2, 16


@dataclass(slots=True)
class _Rows:
    """Columns being gathered."""

    disk: list[str] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    volume: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    path_before: list[str] = field(default_factory=list)
    area: list[str] = field(default_factory=list)

    def put(self, disk: str, segment: I64, volume: str, path: str, path_before: str, area: str) -> None:
        self.disk.append(disk)
        self.offset.append(int(segment[0]))
        self.length.append(int(segment[1]))
        self.volume.append(volume)
        self.path.append(path)
        self.path_before.append(path_before)
        self.area.append(area)


def changed_blocks(moments: Moments, before: CaptureId, after: CaptureId) -> pd.DataFrame:
    """Return the bytes of the disks that differ between two captures, to the sector, with their owners.

    Returns
    -------
    DataFrame
        disk (str, "vda"), offset (int64, bytes on the disk), length (int64, bytes), kind (str: "written", or "zeroed"
        where only zeros are left), volume (str, empty outside of volumes), path (object: str, of the file or directory
        that has these bytes now, or had them before where nobody has; empty for none), path_before (object: str, who
        had them before), area (str: "file", "directory", "metadata", "journal", "unallocated", "partition table",
        "unknown"). By disk and offset; bytes that files share have the first one's path, and so have hard links.

    Raises
    ------
    UsageError
        If the captures are of two guests.
    DiskError, StoreError
    """
    rows, kinds = _Rows(), []
    for disk, clusters in changed_clusters(moments.store, before, after).items():
        if not len(clusters):
            continue
        images = [_image(moments, capture, disk) for capture in (before, after)]
        ranges = np.stack([clusters * CLUSTER, np.full(len(clusters), CLUSTER, np.int64)], axis=1)
        pieces = differing(images[0].read, images[1].read, ranges)
        start = len(rows.disk)
        _owned(moments, (before, after), disk, pieces, images[1].size, rows)
        kinds += [_kind(images[1], *each) for each in zip(rows.offset[start:], rows.length[start:], strict=True)]
    return _frame(rows, kinds)


def _image(moments: Moments, capture: CaptureId, disk: str) -> Bytes:
    for part in moments.parts(capture):
        if part.disk == disk:
            return part.raw
    view = moments.store.view(capture)
    if any(region.spec.name == f"disk:{disk}" for region in view.record.regions):
        return Image(view, f"disk:{disk}")
    return _Nothing()


class _Nothing:
    """A disk that is not there."""

    size = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return nothing."""
        del offset, length
        return b""


def _kind(image: Bytes, offset: int, length: int) -> str:
    end = min(offset + length, image.size)
    parts = (image.read(at, min(CLUSTER, end - at)) for at in range(offset, end, CLUSTER))
    return "written" if any(part.count(0) < len(part) for part in parts) else "zeroed"


def _owned(
    moments: Moments, captures: tuple[CaptureId, CaptureId], disk: str, pieces: I64, size: int, rows: _Rows
) -> None:
    """Add a row for each stretch of one owner."""
    left = pieces
    for name, parts in _volumes(moments, captures, disk).items():
        owners = [
            None if part is None else _Owners(part, moments, capture)
            for part, capture in zip(parts, captures, strict=True)
        ]
        ranges = next(part for part in reversed(parts) if part is not None).volume.pieces
        mine = [clipped(left, each.disk, each.disk + each.length) for each in ranges]
        for each in ranges:
            left = np.concatenate([clipped(left, 0, each.disk), clipped(left, each.disk + each.length, 1 << 62)])
        _of_volume(disk, name, owners, np.concatenate(mine) if mine else pieces[:0], rows)
    for segment in left:
        table = segment[0] < _TABLE or segment[0] >= size - _TABLE_END
        rows.put(disk, segment, "", "", "", "partition table" if table else "unknown")


def _volumes(
    moments: Moments, captures: tuple[CaptureId, CaptureId], disk: str
) -> Mapping[str, tuple[Part | None, Part | None]]:
    sides = [{part.name: part for part in moments.parts(each) if part.disk == disk} for each in captures]
    return {name: (sides[0].get(name), sides[1].get(name)) for name in sides[0] | sides[1]}


class _Owners:
    """Who has which bytes of a volume at one moment."""

    def __init__(self, part: Part, moments: Moments, capture: CaptureId) -> None:
        self.map = moments.map(capture, part.name)
        self.knows_free = bool((self.map.kind == FREE).any())
        self._ntfs = part.filesystem.kind == "ntfs"
        walk = moments.walk(capture)
        mine = walk[(walk["volume"] == part.name) & ~walk["deleted"]].drop_duplicates("inode")
        inodes = mine["inode"].to_numpy()
        order = np.argsort(inodes, kind="stable")
        self._inodes, self._paths, self._kinds = inodes[order], mine["path"].to_numpy()[order], mine["kind"].to_numpy()
        self._kinds = self._kinds[order]

    def of(self, segments: I64) -> list[tuple[str, str]]:
        """Return path and area of each segment; a segment lies wholly in an extent or outside of it."""
        nobody = ("", "metadata" if self.knows_free else "unknown")
        found = [nobody] * len(segments)
        ranges, rows = self.map.touching(segments[:, 0], segments.sum(axis=1))
        kinds, inodes = self.map.kinds(rows).tolist(), self.map.owners(rows).tolist()
        for at, kind, inode in zip(ranges.tolist(), kinds, inodes, strict=True):
            if found[at] == nobody or (kind == DATA and not found[at][0]):
                found[at] = self._owner(kind, inode)
        return found

    def _owner(self, kind: int, inode: int) -> tuple[str, str]:
        if kind in {FREE, JOURNAL}:
            return "", "unallocated" if kind == FREE else "journal"
        at = int(np.searchsorted(self._inodes, inode))
        if at >= len(self._inodes) or self._inodes[at] != inode:
            return "", "unknown"
        if self._ntfs and inode < _NTFS_OWN:
            return self._paths[at], "journal" if inode == _NTFS_LOG else "metadata"
        return self._paths[at], "directory" if self._kinds[at] == "directory" else "file"


def _of_volume(disk: str, name: str, owners: list[_Owners | None], pieces: I64, rows: _Rows) -> None:
    segments = _cut(pieces, [each.map for each in owners if each is not None])
    sides = [[("", "")] * len(segments) if each is None else each.of(segments) for each in owners]
    for segment, (path_before, area_before), (path, area) in zip(segments, *sides, strict=True):
        rows.put(disk, segment, name, path or path_before, path_before, area or area_before)


def _cut(pieces: I64, maps: list[ExtentMap]) -> I64:
    """Return pieces cut wherever an extent begins or ends."""
    starts, ends = pieces[:, 0], pieces.sum(axis=1)
    cuts = [starts, ends]
    for each in maps:
        ranges, rows = each.touching(starts, ends)
        cuts.append(np.maximum(each.start[rows], starts[ranges]))
        cuts.append(np.minimum(each.end[rows], ends[ranges]))
    points = np.unique(np.concatenate(cuts))
    within = np.searchsorted(starts, points, "right") - 1
    inside = (within >= 0) & (points < ends[within]) if len(starts) else np.zeros(len(points), bool)
    at = np.flatnonzero(inside)
    return np.stack([points[at], points[at + 1] - points[at]], axis=1) if len(at) else np.zeros((0, 2), np.int64)


def _frame(rows: _Rows, kinds: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "disk": pd.Series(rows.disk, dtype="str"),
            "offset": np.array(rows.offset, np.int64),
            "length": np.array(rows.length, np.int64),
            "kind": pd.Series(kinds, dtype="str"),
            "volume": pd.Series(rows.volume, dtype="str"),
            "path": names(rows.path),
            "path_before": names(rows.path_before),
            "area": pd.Series(rows.area, dtype="str"),
        }
    )
    return frame.sort_values(["disk", "offset"], kind="stable", ignore_index=True)
