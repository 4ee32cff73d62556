"""What `Moment`, `Diff` and `Case` offer of disks; `case.py` gives them these as base classes.

Thin: a method is a question to the case's analyst, answered in a worker, or a stream of the store's own bytes. Refuses
to parse a guest's disk in the caller's process.
"""

from __future__ import annotations

import fnmatch
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from workbench.disk.columns import disarmoured
from workbench.disk.export import export_disk
from workbench.disk.loglines import boot_time, log_lines
from workbench.disk.timeline import super_timeline
from workbench.errors import AnalysisError, DiskError, UsageError
from workbench.inquiry.analysis import Analyst
from workbench.model import CaptureId, CaptureRef, Mark
from workbench.progress import Progress, silent
from workbench.store.seekable import SeekableFile

if TYPE_CHECKING:
    from workbench.disk.nbd import Server

__all__ = ["DiskOfCase", "DiskOfDiff", "DiskOfMoment", "DiskView", "GuestFile"]

_LONG = 600.0
_AT_ONCE = 8 << 20
_LOGS = ("/var/log/*",)


Source = Literal["disk"] | None
"""Where to read from: the disk alone, or (None) what the guest would have read: the disk under the page cache."""


def _from(source: Source) -> dict[str, Any]:
    return {} if source is None else {"source": source}


class GuestFile(SeekableFile):
    """A file of a guest at a moment: read-only, seekable; read through a worker, ahead of who reads on."""

    def __init__(self, moment: DiskOfMoment, path: str, size: int, source: Source = None) -> None:
        super().__init__(size)
        self._moment = moment
        self._path = path
        self._asked = _from(source)
        self._start, self._data = 0, b""

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on; 0 at the end.

        Raises
        ------
        DiskError, StoreError
        """
        view = memoryview(buffer).cast("B")
        if self._at >= self.size or not len(view):
            return 0
        if not self._start <= self._at < self._start + len(self._data):
            wanted = max(len(view), _AT_ONCE)
            asked = {"path": self._path, "offset": self._at, "length": wanted, **self._asked}
            row = self._moment.ask_disk("read", **asked).iloc[0]
            self._start, self._data = self._at, bytes(row["data"])
            if not self._data:
                return 0
        skip = self._at - self._start
        part = memoryview(self._data)[skip : skip + len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)


class DiskView:
    """One disk of a moment, as bytes for other tools."""

    def __init__(self, moment: DiskOfMoment, name: str) -> None:
        self._view = moment.case.store.view(moment.id)
        self.region = f"disk:{name.removeprefix('disk:')}"
        self._view.region(self.region)  # says which there are

    def export(
        self,
        target: Path | str,
        format: Literal["qcow2", "raw"] | None = None,  # noqa: A002
        progress: Progress = silent,
    ) -> Path:
        """Write the disk into a new file, sparse; by default in the format that the name's ending says.

        Raises
        ------
        UsageError
            If the file exists, or the format cannot be told.
        StoreFullError, StoreError
        """
        path = Path(target)
        known: dict[str, Literal["qcow2", "raw"]] = {".qcow2": "qcow2", ".raw": "raw", ".img": "raw"}
        chosen = format or known.get(path.suffix)
        if chosen is None:
            raise UsageError("the format cannot be told from the name", name=path.name, cure="Ask for qcow2 or raw.")
        return export_disk(self._view, self.region, path, chosen, progress)

    def serve(self, socket: Path | None = None) -> Server:
        """Serve the disk read-only over NBD on a unix socket; a context manager with `uri`."""
        from workbench.disk.nbd import serve

        return serve(self._view, self.region, socket)


class DiskOfMoment:
    """Files of a moment. Paths are the guest's: absolute, links followed inside of its own file systems.

    Files are as the guest would have read them at that instant: the disk, its journal replayed, under what the guest's
    page cache holds that is newer. `source="disk"` leaves memory out.
    """

    _analyst: Analyst
    id: CaptureId
    case: Any

    def ask_disk(self, question: str, *, timeout: float = _LONG, **arguments: Any) -> pd.DataFrame:
        """Put a question of `workbench.disk.*` to this moment; `attrs` has its facts.

        Raises
        ------
        DiskError, UnsupportedError, UsageError, StoreError
        """
        answer = self._analyst.ask(self.id, f"workbench.disk.{question}", arguments, timeout=timeout)
        frame = disarmoured(answer.told())
        frame.attrs.update(answer.attributes())
        return frame

    def volumes(self) -> pd.DataFrame:
        """Return volumes of all disks and what is wrong with them.

        Returns
        -------
        DataFrame
            volume, kind ("ext4", "luks", "unknown" ...), label, uuid, mount, state ("clean", "replayed",
            "unreplayed"), note (str), offset, length (int64, bytes).
        """
        return self.ask_disk("volumes")

    def walk(self, *, source: Source = None) -> pd.DataFrame:
        """Return every entry of all file systems: volume, path, inode, kind, size, mode, owner, times, source ..."""
        return self.ask_disk("walk", **_from(source))

    def ls(self, path: str = "/", *, source: Source = None) -> pd.DataFrame:
        """Return the entries of a directory.

        Raises
        ------
        DiskError
            If there is no such path.
        """
        return self.ask_disk("list", path=path, **_from(source))

    def stat(self, path: str, *, follow: bool = True, source: Source = None) -> pd.DataFrame:
        """Return one entry; of a link what it leads to, unless `follow` is off.

        Raises
        ------
        DiskError
            If there is no such path.
        """
        return self.ask_disk("stat", path=path, follow=follow, **_from(source))

    def open_file(self, path: str, *, source: Source = None) -> io.BufferedReader:
        """Return a file of the guest: binary, seekable, read-only.

        Parameters
        ----------
        source : {"disk"}, optional
            Read the disk alone, not what lies in the guest's page cache only.

        Raises
        ------
        DiskError
            If there is no such file.
        """
        entry = self.stat(path, source=source).iloc[0]
        if entry["kind"] != "file":
            raise DiskError("not a file", path=path, cure="List it with ls().")
        return io.BufferedReader(GuestFile(self, path, int(entry["size"]), source), 1 << 16)

    def read_text(self, path: str, encoding: str = "utf-8", errors: str = "replace", *, source: Source = None) -> str:
        """Return the text of a file."""
        with self.open_file(path, source=source) as file:
            return file.read().decode(encoding, errors)

    def glob(self, pattern: str, *, source: Source = None) -> pd.DataFrame:
        """Return the entries whose paths fit a pattern; `*` and `?` fit anything but "/", `**` anything."""
        wanted = _pattern(pattern)
        frame = self.walk(source=source)
        return frame[[wanted(path) for path in frame["path"]]].reset_index(drop=True)

    def extract(self, path: str, into: Path | str, *, source: Source = None) -> pd.DataFrame:
        """Write a file, or a directory with what is in it, into a folder of the host; never outside of it.

        Returns
        -------
        DataFrame
            The manifest: path, kind, size, sha256, written_to, target, note.
        """
        return self.ask_disk("extract", path=path, into=os.path.abspath(into), **_from(source))

    def deleted(self) -> pd.DataFrame:
        """Return entries that file systems still remember of deleted files."""
        return self.ask_disk("deleted")

    def unallocated(self) -> pd.DataFrame:
        """Return the runs of bytes that no file uses: volume (str), offset, length (int64, bytes of the disk)."""
        return self.ask_disk("unallocated")

    def carve(self) -> pd.DataFrame:
        """Return what unallocated clusters hold, by signatures of files: kind, offset, length, sha256 ..."""
        return self.ask_disk("carve")

    def disk(self, name: str) -> DiskView:
        """Return a disk ("vda") as bytes for other tools: `export`, `serve`."""
        return DiskView(self, name)


def _pattern(pattern: str) -> Any:
    """Return a function that tells whether a path fits a pattern, "/" being a border for `*` and `?`."""
    parts = pattern.strip("/").split("/")
    if "**" in parts:
        return lambda path: fnmatch.fnmatchcase(path, pattern.replace("**", "*"))
    return lambda path: (
        len(found := path.strip("/").split("/")) == len(parts)
        and all(fnmatch.fnmatchcase(name, part) for name, part in zip(found, parts, strict=True))
    )


class DiskOfDiff:
    """Files and blocks that are not the same at two moments."""

    a: Any
    b: Any

    def files(self, *, deep: bool = False, source: Source = None) -> pd.DataFrame:
        """Return what is not the same, a row per path.

        Parameters
        ----------
        deep : bool
            Hash all content of both moments instead of what clusters and metadata point to; the answer is the same.
        source : {"disk"}, optional
            Compare the disks alone, without what lay in the guest's page cache only.

        Returns
        -------
        DataFrame
            path, change ("created", "deleted", "modified", "metadata", "renamed"), old_path, sizes, times (UTC), mode,
            owner, inode, target, sha256 before and after, clusters, source ("disk", "journal", "page cache": where any
            byte, the size or the inode was in memory only), state. `attrs["alone"]`: moments whose memory could not be
            told, and why.
        """
        answer: pd.DataFrame = self.b.ask_disk("files", against=self.a.id, deep=deep, **_from(source))
        return answer

    def disk_blocks(self) -> pd.DataFrame:
        """Return changed clusters of all disks: disk, offset, length, kind, volume, path, area."""
        answer: pd.DataFrame = self.b.ask_disk("blocks", against=self.a.id)
        return answer

    def text(self, path: str, *, source: Source = None) -> str:
        """Return how the text of a file changed, as a unified diff; empty if it did not.

        Raises
        ------
        DiskError
            If neither moment has it, or it is no text.
        """
        row = self.b.ask_disk("text", against=self.a.id, path=path, **_from(source)).iloc[0]
        if not row["text"] and not row["equal"]:
            raise DiskError(f"no text diff: {row['note']}", path=path)
        return str(row["text"])

    def everything(self) -> pd.DataFrame:
        """Return processes, sockets, modules, files and log lines that changed, in the order of time.

        Returns
        -------
        DataFrame
            As `workbench.disk.timeline.super_timeline`: datetime, timestamp_desc, message, source, kind, capture,
            exact, time_from, not_before, not_after, and fields. `attrs["failed"]`: parts that could not be asked, and
            why.
        """
        failed: dict[str, str] = {}
        parts: dict[str, pd.DataFrame] = {}
        memory: Any = self  # a Diff is both
        asked: dict[str, Callable[[], pd.DataFrame]] = {
            "processes": memory.processes,
            "sockets": lambda: memory.vol("linux.sockstat.Sockstat"),
            "modules": lambda: memory.vol("linux.lsmod.Lsmod"),
            "kernel_log": lambda: memory.vol("linux.kmsg.Kmsg"),
            "files": self.files,
        }
        for name, question in asked.items():
            try:
                parts[name] = question()
            except AnalysisError as error:
                failed[name] = str(error)
        if "files" in parts:
            parts |= self._logs(parts["files"])
        boot = boot_time(self.b.processes()) if "processes" in parts else None
        frame = super_timeline(parts, self._captures(), boot=boot, marks=self._marks())
        frame.attrs["failed"] = failed
        return frame

    def _logs(self, files: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return the lines that came into text logs which changed."""
        wanted = [_pattern(each) for each in _LOGS]
        found = {}
        for path in files.loc[files["change"].isin(["modified", "created"]), "path"]:
            if any(fits(path) for fits in wanted):
                try:
                    found[f"logs:{path}"] = log_lines(path, self.text(path))
                except DiskError:
                    continue  # no text: the file itself is in the timeline
        return found

    def _captures(self) -> Sequence[CaptureRef]:
        """Return the captures from the first moment to the second."""
        raise NotImplementedError

    def _marks(self) -> Sequence[Mark]:
        """Return the marks from the first moment to the second."""
        raise NotImplementedError


class DiskOfCase:
    """Files over a span of captures."""

    def history(
        self,
        path: str,
        since: str | None = None,
        until: str | None = None,
        guest: str | None = None,
        *,
        source: Source = None,
        progress: Progress = silent,
    ) -> pd.DataFrame:
        """Return every version of a file over the timeline.

        Each capture's memory is asked once for its page cache, on all processors; the answers are kept.
        `source="disk"` leaves memory out.

        Returns
        -------
        DataFrame
            first_seen, last_seen (UTC), first_capture, last_capture, captures, present, size, mode, uid, gid, inode,
            sha256, kind, modified, created, target, volume, note. A row with `present` off is a time without the file;
            the row before says which capture had it last.
        """
        span = self._span(since, until, guest)
        if not span:
            raise UsageError("no capture lies in this span", cure="See `workbench timeline`.")
        arguments = {"path": path, "captures": [ref.id for ref in span], **_from(source)}
        asked_by: Any = self  # a Case has an analyst
        if source is None and len(span) > 1:
            for _ in asked_by.analyst.ask_many([(ref.id, {}) for ref in span], "workbench.cached", progress=progress):
                pass  # kept, for the worker to find
        answer = asked_by.analyst.ask(span[-1].id, "workbench.disk.history", arguments)
        return disarmoured(answer.told())

    def _span(self, since: str | None, until: str | None, guest: str | None) -> Sequence[CaptureRef]:
        raise NotImplementedError
