"""What can be asked of the disks of a moment, each question a function of the opened moments, a capture and arguments.

Refuses to interpret what it returns: front ends and `doors` do that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.disk.blocks import changed_blocks
from workbench.disk.carving import carved_files
from workbench.disk.changes import changed_files
from workbench.disk.columns import names, nanoseconds, times
from workbench.disk.deleted import deleted_files
from workbench.disk.extracting import extract
from workbench.disk.filesystem import Entry
from workbench.disk.history import file_history
from workbench.disk.moments import Moments
from workbench.disk.mounted import Disks, open_disks
from workbench.disk.parts import shown
from workbench.disk.text import text_diff
from workbench.errors import DiskError, UnsupportedError
from workbench.model import CaptureId

__all__ = ["QUESTIONS"]

_MOST_READ = 16 << 20


def walk(moments: Moments, capture: CaptureId) -> pd.DataFrame:
    """Every entry of the moment."""
    return moments.walk(capture)


def files(moments: Moments, capture: CaptureId, against: str, deep: bool = False) -> pd.DataFrame:
    """Files that are not the same as at an earlier capture."""
    return changed_files(moments, CaptureId(against), capture, deep=deep)


def blocks(moments: Moments, capture: CaptureId, against: str) -> pd.DataFrame:
    """Clusters that were written since an earlier capture."""
    return changed_blocks(moments, CaptureId(against), capture)


def text(moments: Moments, capture: CaptureId, against: str, path: str) -> pd.DataFrame:
    """How the text of a file changed: one row, text, note (str), equal (bool)."""
    found = text_diff(moments, CaptureId(against), capture, path)
    return pd.DataFrame([{"text": found.text, "note": found.note, "equal": found.equal}])


def history(moments: Moments, _capture: CaptureId, path: str, captures: list[str]) -> pd.DataFrame:
    """Versions of a path over captures."""
    return file_history(moments, path, [CaptureId(each) for each in captures])


def listing(moments: Moments, capture: CaptureId, path: str) -> pd.DataFrame:
    """Return the entries of a directory, links on the way followed."""
    disks = _disks(moments, capture)
    mounted, inner, entry = disks.find(path)
    if entry.kind != "directory":
        return entries([(shown(mounted.mount, inner), entry)])
    children = mounted.filesystem.children(inner)
    return entries([(shown(mounted.mount, each.path), each) for each in children])


def stat(moments: Moments, capture: CaptureId, path: str, follow: bool = True) -> pd.DataFrame:
    """Return one entry."""
    mounted, inner, entry = _disks(moments, capture).find(path, follow=follow)
    return entries([(shown(mounted.mount, inner), entry)])


def read(moments: Moments, capture: CaptureId, path: str, offset: int, length: int) -> pd.DataFrame:
    """Bytes of a file: one row, data (bytes), size (int64, of the whole file)."""
    mounted, _inner, entry = _disks(moments, capture).find(path)
    if entry.kind != "file":
        raise DiskError(f"not a file but a {entry.kind}", path=path)
    content = mounted.filesystem.open(entry.inode)
    content.seek(offset)
    data = content.read(max(0, min(length, _MOST_READ)))
    return pd.DataFrame({"data": [data or b""], "size": [entry.size], "state": [mounted.filesystem.state]})


def volumes(moments: Moments, capture: CaptureId) -> pd.DataFrame:
    """Return the volumes of all disks: volume, kind, label, uuid, mount, state, note (str), offset, length (int64)."""
    disks = _disks(moments, capture)
    where = {each.volume.name: (each.mount, each.filesystem.state) for each in disks.mounted}
    notes: dict[str, str] = {}
    for each in disks.findings:
        notes[each.volume] = "; ".join(filter(None, (notes.get(each.volume, ""), each.words)))
    rows = [
        {
            "volume": each.name,
            "kind": each.kind,
            "label": each.label,
            "uuid": each.uuid,
            "mount": where.get(each.name, ("", ""))[0],
            "state": where.get(each.name, ("", ""))[1],
            "offset": each.offset,
            "length": each.length,
            "note": notes.get(each.name, ""),
        }
        for each in disks.volumes
    ]
    return pd.DataFrame(rows)


def extraction(moments: Moments, capture: CaptureId, path: str, into: str) -> pd.DataFrame:
    """Write a file or a directory into a folder of the host; returns the manifest."""
    mounted, inner, _entry = _disks(moments, capture).find(path)
    return extract(mounted.filesystem, inner, Path(into))


def deleted(moments: Moments, capture: CaptureId) -> pd.DataFrame:
    """Return what file systems remember of deleted files."""
    return deleted_files(_disks(moments, capture))


def carve(moments: Moments, capture: CaptureId) -> pd.DataFrame:
    """Files in unallocated clusters, by their signatures."""
    return carved_files(_disks(moments, capture))


def unallocated(moments: Moments, capture: CaptureId) -> pd.DataFrame:
    """Return the runs that no file uses: volume (str), offset, length (int64, bytes of the disk)."""
    rows, findings = [], []
    for mounted in _disks(moments, capture).mounted:
        try:
            rows += [(mounted.volume.name, each.offset, each.length) for each in mounted.filesystem.unallocated()]
        except (DiskError, UnsupportedError) as error:
            findings.append(f"{mounted.volume.name}: {error}")
    frame = pd.DataFrame(rows, columns=["volume", "offset", "length"])
    frame.attrs["findings"] = findings
    return frame.astype({"volume": "str", "offset": "int64", "length": "int64"})


def digest(moments: Moments, capture: CaptureId, path: str) -> pd.DataFrame:
    """SHA-256 of a file: one row, sha256 (str), size (int64)."""
    mounted, _inner, entry = _disks(moments, capture).find(path)
    found = hashlib.sha256()
    content = mounted.filesystem.open(entry.inode)
    while data := content.read(_MOST_READ):
        found.update(data)
    return pd.DataFrame([{"sha256": found.hexdigest(), "size": entry.size}])


def entries(found: list[tuple[str, Entry]]) -> pd.DataFrame:
    """Return entries as a frame.

    Returns
    -------
    DataFrame
        path (object, str with surrogate escapes), kind (str), size, inode, mode, uid, gid, links (int64), modified,
        changed, accessed, created (datetime64[ns, UTC]), target (object), deleted (bool).
    """
    columns: dict[str, Any] = {"path": names([path for path, _ in found]), "kind": [each.kind for _, each in found]}
    for name in ("size", "inode", "mode", "uid", "gid", "links"):
        columns[name] = np.array([getattr(each, name) for _, each in found], np.int64)
    for name in ("modified", "changed", "accessed", "created"):
        stamps, _beyond = nanoseconds([getattr(each, f"{name}_ns") for _, each in found])
        columns[name] = times(stamps)
    columns["target"] = names([each.target for _, each in found])
    columns["deleted"] = [each.deleted for _, each in found]
    return pd.DataFrame(columns)


_opened: list[tuple[Moments, CaptureId, Disks]] = []


def _disks(moments: Moments, capture: CaptureId) -> Disks:
    """Return a moment's disks by mount point; the last one stays open."""
    if not _opened or _opened[0][0] is not moments or _opened[0][1] != capture:
        disks = open_disks(moments.store.view(capture), cache=moments.page_cache(capture))
        _opened[:] = [(moments, capture, disks)]
    return _opened[0][2]


QUESTIONS: dict[str, Callable[..., pd.DataFrame]] = {
    "workbench.disk.walk": walk,
    "workbench.disk.files": files,
    "workbench.disk.blocks": blocks,
    "workbench.disk.text": text,
    "workbench.disk.history": history,
    "workbench.disk.list": listing,
    "workbench.disk.stat": stat,
    "workbench.disk.read": read,
    "workbench.disk.volumes": volumes,
    "workbench.disk.extract": extraction,
    "workbench.disk.digest": digest,
    "workbench.disk.deleted": deleted,
    "workbench.disk.carve": carve,
    "workbench.disk.unallocated": unallocated,
}
"""By name."""
