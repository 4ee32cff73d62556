"""Find where a file of the disk was last written, by replays.

What is compared is what the disk has of the file: that it is there, its inode, size, time of change and content. A
guest writes later than its programs do (its page cache lies between), so the span is when the write reached the disk.
A disk that took no write between two stops is not read again, and none is read that has requests under way: the span
is as wide as the last write took. The reading itself is that of any capture, in a worker
and in a case of its own that is gone afterwards. Refuses recordings without a disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import DiskError, NoSuchFileError, UsageError
from workbench.progress import Progress, silent
from workbench.replay.exact.description import Description
from workbench.replay.exact.keeping import keep_disk
from workbench.replay.exact.narrowing import narrow
from workbench.replay.exact.quiet import disk_is_quiet
from workbench.replay.exact.replaying import Replay
from workbench.replay.exact.scratch import Scratch

__all__ = ["FileState", "FileWrite", "MakeCase", "find_last_write_of_file"]

MakeCase = Callable[[Path], AbstractContextManager[Any]]
"""Makes and opens an empty case in a directory."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What the disk had of a file.

    Attributes
    ----------
    exists : bool
        Without it the rest is empty.
    inode, size : int
    modified : str
        Its time of change, ISO 8601, UTC.
    sha256 : str
        Of its content, hexadecimal.
    """

    exists: bool
    inode: int = 0
    size: int = 0
    modified: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class FileWrite:
    """Where a file of the disk was last written.

    Attributes
    ----------
    path : str
    after, by : int
        After `after` instructions the disk had `before` of it, after `by` it had `value`.
    before, value : FileState
    replays : int
        How many replays it took.
    """

    path: str
    after: int
    by: int
    before: FileState
    value: FileState
    replays: int


class _Look:
    """What the disk has of one file; asked anew only when the disk took a write that no earlier replay was asked at."""

    def __init__(self, case: Any, path: str) -> None:
        self.case, self.path = case, path
        self._known: dict[int, FileState] = {}
        self._counts: dict[int, int] = {}
        self._run, self._base = Path(), 0

    def __call__(self, replay: Replay) -> FileState | None:
        if not disk_is_quiet(replay.qemu):
            return None
        writes = self._count(replay)
        if writes not in self._known:
            record = keep_disk(self.case.store, replay)
            self._known[writes] = _state(self.case.moment(record.id, replay.description.id), self.path)
        return self._known[writes]

    def _count(self, replay: Replay) -> int:
        """Return the writes since the first replay began: a later one begins where an earlier was asked."""
        here, writes = replay.icount, _writes(replay)
        if replay.run != self._run:
            self._run, self._base = replay.run, self._counts.get(here, 0) - writes
        self._counts[here] = self._base + writes
        return self._counts[here]


def _writes(replay: Replay) -> int:
    """Return how many writes the disk has answered since this replay began."""
    found = [each["stats"] for each in replay.qemu.monitor.execute("query-blockstats") if each.get("qdev")]
    return sum(int(each["wr_operations"]) + int(each["unmap_operations"]) for each in found)


def _state(moment: Any, path: str) -> FileState:
    """Return what a moment's disk has at a path.

    Raises
    ------
    DiskError
        If that is no file.
    """
    try:
        entry = moment.stat(path, source="disk").iloc[0]
    except NoSuchFileError:
        return FileState(False)
    if entry["kind"] != "file":
        raise DiskError("not a file", path=path, found=str(entry["kind"]), cure="Name a file.")
    with moment.open_file(path, source="disk") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileState(True, int(entry["inode"]), int(entry["size"]), entry["modified"].isoformat(), digest)


def find_last_write_of_file(
    place: Path,
    path: str,
    make_case: MakeCase,
    *,
    before: int | None = None,
    resolution: int = 1,
    progress: Progress = silent,
) -> FileWrite:
    """Find where a file of the disk became what it is at the end of a recording, or after `before` instructions.

    Parameters
    ----------
    path : str
        As the guest names it.
    resolution : int
        Instructions: a span of so many is narrow enough.

    Raises
    ------
    UsageError
        If the recording has no disk, or the file is the same from the beginning on.
    DiskError
        If that is no file, or the disk cannot be read.
    HungError, GuestError, StoreError
    """
    if not Description.read(place).disk:
        raise UsageError("the recording has no disk", recording=place.name, cure="Record a machine with a disk.")
    with Scratch() as beside, make_case(beside.path / "case") as case:
        span = narrow(place, _Look(case, path), before=before, resolution=resolution, progress=progress)
    return FileWrite(path, span.after, span.by, span.was, span.value, span.replays)
