"""What the file systems of a moment still remember of deleted files, as a frame.

A deleted file's clusters may serve another by now: `intact` says whether any does, as far as the map of free space
knows. Refuses to guess names: what has none is below `/$OrphanFiles`.
"""

from __future__ import annotations

from bisect import bisect_right

import pandas as pd

from workbench.disk.filesystem import Entry, Extent
from workbench.disk.mounted import Disks, Mounted
from workbench.errors import DiskError, UnsupportedError

__all__ = ["COLUMNS", "deleted_files"]

COLUMNS = {
    "volume": "string",
    "path": "string",
    "inode": "Int64",
    "kind": "string",
    "size": "Int64",
    "mode": "Int64",
    "uid": "Int64",
    "gid": "Int64",
    "modified": "datetime64[ns, UTC]",
    "changed": "datetime64[ns, UTC]",
    "accessed": "datetime64[ns, UTC]",
    "created": "datetime64[ns, UTC]",
    "clusters": "Int64",
    "intact": "boolean",
}
"""Columns and dtypes of the frame."""
_MOST = 1_000_000
_LATEST = 2**63 - 1


def deleted_files(disks: Disks) -> pd.DataFrame:
    """Return what is remembered of deleted files on all volumes.

    Parameters
    ----------
    disks : Disks

    Returns
    -------
    DataFrame
        volume, path (below the moment's root), inode (absent if it serves another file again), kind, size (bytes),
        mode, uid, gid, modified, changed, accessed, created (UTC), clusters (how many are known), intact (whether none
        of them is in use; absent if that cannot be told). `attrs["findings"]` names the volumes that cannot tell.

    Raises
    ------
    StoreError
    """
    rows: list[dict[str, object]] = []
    findings = []
    for mounted in disks.mounted:
        try:
            free = _Free(mounted)
            for entry in mounted.filesystem.deleted():
                if len(rows) >= _MOST:
                    findings.append(f"more than {_MOST} deleted entries: the rest is left out")
                    break
                rows.append(_row(mounted, entry, free))
        except (DiskError, UnsupportedError) as error:
            findings.append(f"{mounted.volume.name}: {error}")
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype(COLUMNS)
    frame.attrs["findings"] = findings
    return frame


class _Free:
    """The free space of a file system, by disk offset."""

    def __init__(self, mounted: Mounted) -> None:
        try:
            self._runs = sorted((run.offset, run.length) for run in mounted.filesystem.unallocated())
            self.known = True
        except (DiskError, UnsupportedError):
            self._runs, self.known = [], False

    def holds(self, extent: Extent) -> bool:
        """Tell whether nothing uses an extent."""
        at = bisect_right(self._runs, (extent.offset, _LATEST)) - 1
        return at >= 0 and extent.offset + extent.length <= sum(self._runs[at])


def _row(mounted: Mounted, entry: Entry, free: _Free) -> dict[str, object]:
    clusters, intact = _state(mounted, entry, free)
    base = mounted.mount.rstrip("/")
    times = (entry.modified_ns, entry.changed_ns, entry.accessed_ns, entry.created_ns)
    known = entry.inode != 0
    return {
        "volume": mounted.volume.name,
        "path": _text(base + entry.path),
        "inode": entry.inode if known else None,
        "kind": entry.kind,
        "size": entry.size if known else None,
        "mode": entry.mode if known else None,
        "uid": entry.uid if known else None,
        "gid": entry.gid if known else None,
        **dict(zip(("modified", "changed", "accessed", "created"), map(_time, times), strict=True)),
        "clusters": clusters,
        "intact": intact,
    }


def _state(mounted: Mounted, entry: Entry, free: _Free) -> tuple[int | None, bool | None]:
    """Return how many clusters are remembered, and whether all of them are free."""
    if not entry.inode or entry.kind != "file":
        return None, None
    cluster = max(1, mounted.filesystem.cluster)
    try:
        found = [extent for extent in mounted.filesystem.extents(entry.inode) if extent.offset >= 0]
    except (DiskError, UnsupportedError):
        return None, None
    clusters = sum(-(-extent.length // cluster) for extent in found)
    if not found or not free.known:
        return clusters, None
    return clusters, all(free.holds(extent) for extent in found)


def _text(path: str) -> str:
    """Return a path that any column takes: undecodable bytes as backslash escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _time(moment: int | None) -> pd.Timestamp | None:
    if moment is None or not -(2**63) < moment < 2**63:
        return None
    return pd.Timestamp(moment, unit="ns", tz="UTC")
