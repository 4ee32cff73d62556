"""Every version of a path over a timeline, opening only the captures in which it can have changed.

After a capture was opened, what the path hangs on is watched (`workbench.disk.watch`); captures in which none of it
was written, in place, in the journal or in memory, inherit the version. Refuses to take a capture that cannot be read
for one without the file: its `present` is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.disk.columns import names, nanoseconds, times
from workbench.disk.filesystem import Entry
from workbench.disk.hashing import MOST, Hasher
from workbench.disk.moments import Moments
from workbench.disk.pagecache import Held
from workbench.disk.parts import Part
from workbench.disk.pieces import changed_clusters
from workbench.disk.watch import Watch, watch
from workbench.errors import DiskError, UnsupportedError
from workbench.model import CaptureId

__all__ = ["file_history", "last_with", "resolve"]


@dataclass(frozen=True, slots=True)
class _Version:
    """What a path was; two captures with equal ones have one version."""

    present: bool | None
    volume: str = ""
    entry: Entry | None = None
    sha256: str = ""
    note: str = ""

    def key(self) -> tuple[object, ...]:
        """Return what makes it another version: not the time of access, nor a count of names."""
        one = self.entry
        told = () if one is None else (one.inode, one.kind, one.size, one.mode, one.uid, one.gid, one.target)
        when = () if one is None else (one.modified_ns, one.created_ns)
        return self.present, self.volume, told, when, self.sha256, self.note


@dataclass(slots=True)
class _Seen:
    """The capture opened last: what was found, and what it hangs on: on the disk, in the journal, in memory."""

    version: _Version
    watched: Watch | None
    logged: bytes | None = None
    content_logged: bytes | None = None
    cached: bytes = b""
    content_cached: bytes = b""


def file_history(moments: Moments, path: str, captures: Sequence[CaptureId], *, most: int = MOST) -> pd.DataFrame:
    """Return the versions of a path.

    Parameters
    ----------
    moments : Moments
    path : str
        As shown: "/etc/passwd"; links are not followed.
    captures : sequence of CaptureId
        Of one guest, in the order of their times.
    most : int
        Bytes of a content that is hashed, at most.

    Returns
    -------
    DataFrame
        first_seen, last_seen (datetime64[ns, UTC], times of the captures), first_capture, last_capture (str),
        captures (int64, how many have it), present (boolean, NA where it could not be told), size (Int64, bytes),
        sha256 (str or NA), mode, uid, gid, inode (Int64), kind (str), modified, created (datetime64[ns, UTC]), target
        (object: str or None), volume (str), note (str: why there is no digest, or no answer).
        `attrs["opened"]`: int, how many captures had to be opened.

    Raises
    ------
    UsageError
        If a capture is not in the case, or they are of two guests.
    StoreError
    """
    runs: list[tuple[_Version, list[CaptureId]]] = []
    seen: _Seen | None = None
    opened, before = 0, None
    for capture in captures:
        if seen is None or before is None or _may_differ(moments, before, capture, seen):
            seen, opened = _open(moments, capture, path, seen, before, most), opened + 1
        if runs and runs[-1][0].key() == seen.version.key():
            runs[-1][1].append(capture)
        else:
            runs.append((seen.version, [capture]))
        before = capture
    frame = _frame(moments, runs)
    frame.attrs["opened"] = opened
    return frame


def last_with(versions: pd.DataFrame) -> CaptureId | None:
    """Return the last capture that had the path, of a frame of `file_history`: where it can be recovered from."""
    there = versions[versions["present"].fillna(False).astype(bool)]
    return CaptureId(str(there["last_capture"].iloc[-1])) if len(there) else None


def resolve(parts: Sequence[Part], path: str) -> tuple[Part, str]:
    """Return the file system that a shown path lies on, and the path in it.

    Raises
    ------
    DiskError
        If no file system is there.
    """
    path = "/" + "/".join(each for each in path.split("/") if each not in {"", "."})
    for part in sorted(parts, key=lambda each: len(each.mount), reverse=True):
        if part.mount == "/" or path == part.mount or path.startswith(part.mount + "/"):
            below = path if part.mount == "/" else path[len(part.mount) :]
            return part, below or "/"
    raise DiskError("no file system of this moment has such a path", path=path)


def _may_differ(moments: Moments, before: CaptureId, capture: CaptureId, seen: _Seen) -> bool:
    """Tell whether a path can be another than in the capture before."""
    changed = changed_clusters(moments.store, before, capture)
    written = any(len(clusters) for clusters in changed.values())
    watched = seen.watched
    if watched is None:
        return written or seen.version.present is None or moments.page_cache(capture) is not None
    if watched.cached(_held(moments, capture, watched), _inode(seen.version)) != seen.cached:
        return True
    if not written:
        return seen.version.present is None
    mine = changed.get(watched.part.disk, np.zeros(0, np.int64))
    views = moments.store.view(before), moments.store.view(capture)
    if seen.logged is None or watched.written(*views, mine):
        return True
    return watched.logged(views[1]) != seen.logged


def _held(moments: Moments, capture: CaptureId, watched: Watch) -> Held | None:
    """Return what a moment's memory has of the file system that is watched."""
    cache, system = moments.page_cache(capture), watched.part.filesystem
    return None if cache is None else cache.of(watched.part.name, system.kind, system.uuid)


def _inode(version: _Version) -> int:
    return -1 if version.entry is None else version.entry.inode


def _open(
    moments: Moments, capture: CaptureId, path: str, seen: _Seen | None, before: CaptureId | None, most: int
) -> _Seen:
    """Look the path up in a capture."""
    try:
        part, below = resolve(moments.parts(capture), path)
        chain, whole = _chain(part, below)
        watched = watch(part, chain)
    except (DiskError, UnsupportedError) as error:
        return _Seen(_Version(None, note=error.message), None)
    now = _Seen(_Version(whole, part.name, chain[-1] if whole else None), watched)
    if watched is not None:
        view, held, inode = moments.store.view(capture), part.held, _inode(now.version)
        now.logged, now.content_logged = watched.logged(view), watched.logged(view, content_only=True)
        now.cached = watched.cached(held, inode)
        now.content_cached = watched.cached(held, inode, content_only=True)
    if not whole:
        return now
    if seen is not None and before is not None and _same_content(moments, before, capture, seen, now):
        now.version = _Version(True, part.name, chain[-1], seen.version.sha256, seen.version.note)
    elif chain[-1].kind == "file":
        hashed = Hasher(part, most)(chain[-1].inode, chain[-1].size)
        now.version = _Version(True, part.name, chain[-1], hashed.sha256, hashed.reason)
    return now


def _same_content(moments: Moments, before: CaptureId, capture: CaptureId, seen: _Seen, now: _Seen) -> bool:
    """Tell whether a content lies where it lay, and nothing was written there."""
    one, two = seen.version.entry, now.version.entry
    if one is None or two is None or seen.watched is None or now.watched is None or not now.watched.content:
        return False
    if (one.inode, one.size, one.kind) != (
        two.inode,
        two.size,
        two.kind,
    ) or seen.watched.content != now.watched.content:
        return False
    if seen.content_cached != now.content_cached:
        return False
    if None in {seen.content_logged, now.content_logged} or seen.content_logged != now.content_logged:
        return False
    changed = changed_clusters(moments.store, before, capture).get(now.watched.part.disk, np.zeros(0, np.int64))
    views = moments.store.view(before), moments.store.view(capture)
    return not now.watched.written(*views, changed, content_only=True)


def _chain(part: Part, path: str) -> tuple[list[Entry], bool]:
    """Return the entries on the way to a path, as far as they exist, and whether that is all the way.

    Raises
    ------
    DiskError
        If a directory on the way cannot be read: then nobody knows.
    """
    chain, at = [part.filesystem.lookup("/")], ""
    for name in path.strip("/").split("/") if path != "/" else ():
        if chain[-1].kind != "directory":
            return chain, False
        known = len(part.filesystem.damage())
        at = f"{at}/{name}"
        try:
            chain.append(part.filesystem.lookup(at))
        except DiskError:
            if len(part.filesystem.damage()) > known or not _listed(part, chain[-1].path, known):
                raise
            return chain, False
    return chain, True


def _listed(part: Part, directory: str, known: int) -> bool:
    """Tell whether a directory can be read whole."""
    for _ in part.filesystem.children(directory):
        pass
    return len(part.filesystem.damage()) == known


def _frame(moments: Moments, runs: Sequence[tuple[_Version, list[CaptureId]]]) -> pd.DataFrame:
    store = moments.store
    entries = [version.entry for version, _ in runs]
    columns: dict[str, object] = {}
    for column, at in (("first_seen", 0), ("last_seen", -1)):
        columns[column] = times(np.array([store.record(each[at]).time_ns for _, each in runs], np.int64))
    for column, at in (("first_capture", 0), ("last_capture", -1)):
        columns[column] = pd.Series([each[at] for _, each in runs], dtype="str")
    columns["captures"] = pd.Series([len(each) for _, each in runs], dtype="int64")
    columns["present"] = pd.Series([version.present for version, _ in runs], dtype="boolean")
    for column in ("size", "mode", "uid", "gid", "inode"):
        columns[column] = pd.Series([None if e is None else getattr(e, column) for e in entries], dtype="Int64")
    columns["sha256"] = pd.Series([version.sha256 or None for version, _ in runs], dtype="str")
    columns["kind"] = pd.Series(["" if e is None else e.kind for e in entries], dtype="str")
    for column in ("modified", "created"):
        values, _ = nanoseconds([None if e is None else getattr(e, f"{column}_ns") for e in entries])
        columns[column] = times(values)
    columns["target"] = names([None if e is None else e.target for e in entries])
    columns["volume"] = pd.Series([version.volume for version, _ in runs], dtype="str")
    columns["note"] = pd.Series([version.note for version, _ in runs], dtype="str")
    return pd.DataFrame(columns)
