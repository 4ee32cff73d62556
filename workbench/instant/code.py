"""Code that processes execute, held against the disk of the same instant: what was changed in memory alone.

A page of the page cache that is not dirty is what the disk has; a private copy of one is too, unless the process wrote
to it. Anything else was put there behind the file system's back (a kernel's bug, a write to physical memory). A page
that is yet to be written back is newer than the disk: that alone is no finding, and the file's change is told by
`diff.files()`.

Refuses to compare files that are deleted, or whose file system cannot be joined with memory: it counts them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from workbench.disk.mounted import Disks, Mounted
from workbench.disk.pagecache import CachedFileSystem, PageCache
from workbench.errors import DiskError, UnsupportedError
from workbench.model import PAGE

__all__ = ["REASONS", "altered_code"]

REASONS = {
    "disk_page_differs": "a process executes a file's page from memory that is not what the disk has, though nothing "
    "waits to be written back",
    "disk_copy_differs": "a process executes a private copy of a file's page that is not what the disk has",
}
"""What each finding says."""
_SHOWN = 32
_MOST = 10_000


@dataclass(slots=True)
class _Compared:
    """What became of the pages."""

    rows: list[tuple[int, str, str]] = field(default_factory=list)
    same: list[int] = field(default_factory=list)
    not_compared: Counter[str] = field(default_factory=Counter)


def altered_code(executed: pd.DataFrame, cache: PageCache, disks: Disks) -> pd.DataFrame:
    """Return the pages that processes execute and that the disk does not have so.

    Parameters
    ----------
    executed : DataFrame
        Of `workbench.executed`.
    cache : PageCache
    disks : Disks
        Under `cache`.

    Returns
    -------
    DataFrame
        finding (string, of `REASONS`), weight ("high"), pfn (Int64), address (UInt64), owner ... detail (as
        `workbench.owners` has them), reason, evidence (string). By address. `attrs`: "compared" (int, pages), "same"
        (list of int: frames of private copies that are what the disk has), "not_compared" (dict of str to int: why,
        and how many pages), "error" (str: what was cut).

    Raises
    ------
    StoreError
    """
    done, systems = _Compared(), _systems(cache, disks)
    waiting = cache.frame[cache.frame["dirty"]]
    newer = set(zip(waiting["device"], waiting["inode"], waiting["offset"] // PAGE, strict=True))
    groups = executed.groupby(["device", "uuid", "inode"], sort=False)
    places = {key: np.asarray(at, np.int64).tolist() for key, at in groups.indices.items()}
    for (device, uuid, inode), rows in groups:
        read = _reader(systems.get((str(device), str(uuid))), int(rows["inode"].iloc[0]), rows)
        for at, (_, row) in zip(places[(device, uuid, inode)], rows.iterrows(), strict=True):
            if row["dirty"] or (device, inode, row["offset"] // PAGE) in newer:
                done.not_compared["newer than the disk"] += 1
            elif isinstance(read, str):
                done.not_compared[read] += 1
            else:
                _compare(at, row, cache, read, done)
    return _frame(executed, done)


def _systems(cache: PageCache, disks: Disks) -> dict[tuple[str, str], Mounted]:
    found = {}
    for each in disks.mounted:
        name = cache.system(each.volume.name, each.volume.kind, each.volume.uuid)
        if name is not None and isinstance(each.filesystem, CachedFileSystem):
            found[name] = each
    return found


def _reader(mounted: Mounted | None, inode: int, rows: pd.DataFrame) -> Callable[[int], bytes] | str:
    """Return what gives a page of a file as the disk has it, or why there is nothing to compare with."""
    if mounted is None:
        return "the file system cannot be joined with memory"
    if not int(rows["links"].iloc[0]):
        return "the file is deleted"
    assert isinstance(mounted.filesystem, CachedFileSystem)
    try:
        content = mounted.filesystem.beneath(inode)
    except (DiskError, UnsupportedError):
        return "the file cannot be read from the disk"

    def page(offset: int) -> bytes:
        content.seek(offset)
        return b"".join(_parts(content.read, PAGE)).ljust(PAGE, b"\0")

    return page


def _parts(read: Callable[[int], bytes | None], length: int) -> Iterator[bytes]:
    while length and (data := read(length)):
        length -= len(data)
        yield data


def _compare(at: int, row: pd.Series, cache: PageCache, read: Callable[[int], bytes], done: _Compared) -> None:
    try:
        disk = read(int(row["offset"]))
    except (DiskError, UnsupportedError, ValueError):
        done.not_compared["the page cannot be read from the disk"] += 1
        return
    memory = cache.read(int(row["address"]), PAGE)
    if memory == disk:
        if row["copy"]:
            done.same.append(int(row["pfn"]))
        return
    finding = "disk_copy_differs" if row["copy"] else "disk_page_differs"
    done.rows.append((at, finding, _evidence(disk, memory)))


def _evidence(disk: bytes, memory: bytes) -> str:
    differing = np.flatnonzero(np.frombuffer(disk, np.uint8) != np.frombuffer(memory, np.uint8))
    first = int(differing[0])
    old, new = (each[first : first + _SHOWN // 2].hex() for each in (disk, memory))
    return (
        f"{len(differing)} bytes differ, from offset {first:#x} on: the disk has {old}, memory {new}; "
        f"sha256 {hashlib.sha256(memory).hexdigest()}"
    )


def _frame(executed: pd.DataFrame, done: _Compared) -> pd.DataFrame:
    cut, rows = done.rows[_MOST:], done.rows[:_MOST]
    columns = list(executed.columns[list(executed.columns).index("pfn") :])
    found = executed.iloc[[at for at, _, _ in rows]][columns].reset_index(drop=True)
    texts = {
        "finding": [finding for _, finding, _ in rows],
        "weight": ["high"] * len(rows),
        "reason": [REASONS[finding] for _, finding, _ in rows],
        "evidence": [words for _, _, words in rows],
    }
    found = found.assign(**{name: pd.array(each, "string") for name, each in texts.items()})
    found = found[["finding", "weight", *columns, "reason", "evidence"]].sort_values("address", ignore_index=True)
    left = sum(done.not_compared.values())
    found.attrs.update(
        compared=len(executed) - left,
        same=done.same,
        not_compared=dict(done.not_compared),
        error=f"more than {_MOST:,} findings: the rest is missing" if cut else "",
    )
    return found
