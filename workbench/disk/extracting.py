"""Files out of a moment into a folder of the host: what was there, as it was, and never outside of the folder.

A tree is built beside its name and gets it when it is whole, so nothing half-written has a final name. Refuses to
overwrite, to make devices, sockets and pipes, to keep setuid bits unless asked, to make links that could lead out, and
to go on for ever: what is left out has a row that says why.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from workbench.disk.columns import names
from workbench.disk.filesystem import Entry, FileSystem
from workbench.disk.landing import Folder, host_name, stays_inside
from workbench.disk.publishing import target_errors
from workbench.errors import AnalysisError, StoreError, UsageError
from workbench.progress import Progress, ProgressEvent, silent

__all__ = ["Bounds", "extract"]

_STEP = 1 << 20
_KEPT = 0o777
_ALL = 0o7777
_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EIO})
"""Errors that concern all that is still to come, not one name."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an extraction does at most; what lies beyond is listed or counted, and not written.

    Attributes
    ----------
    entries : int
        Names.
    size, file_size : int
        Bytes in all, and of one file.
    depth : int
        Directories in one another.
    """

    entries: int = 1_000_000
    size: int = 64 << 30
    file_size: int = 16 << 30
    depth: int = 200


def extract(
    filesystem: FileSystem,
    path: str,
    into: Path,
    *,
    whole_tree: bool = True,
    setuid: bool = False,
    bounds: Bounds | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Write a file, or a directory with what is in it, into a folder.

    Owners are not kept: all belongs to who extracts. Modes and times of files are; a directory stays open to its owner.
    Nothing is flushed to the device.

    Parameters
    ----------
    path : str
        "/etc" is written as `into`/etc; of "/", what is in it is written into `into`.
    into : Path
        Made if it is not there, for its owner alone. What is there is kept.
    whole_tree : bool
        Whether directories in a directory are entered.
    setuid : bool
        Whether setuid, setgid and sticky bits are kept.
    bounds : Bounds, optional
    progress : Progress
        Told of bytes written.

    Returns
    -------
    DataFrame
        A row for each entry: path (object, str with surrogate escapes), kind (str), size (int64, bytes as the inode
        says), sha256 (str, of what was written), written_to (object, path on the host, empty if it was not), target
        (object, of a link), note (str: why not, or what is not as it was; empty if all is).
        `attrs["incomplete"]`: list of str, what was cut off by a bound or could not be listed.

    Raises
    ------
    UsageError
        If something with that name is in `into`, or `into` is not a directory.
    DiskError
        If there is no such path.
    StoreFullError, StoreError
        If `into` cannot take it; nothing is left there then.
    """
    path = "/" + path.strip("/")
    top = filesystem.lookup(path)
    into = Path(os.path.abspath(into))
    _prepare(into, path)
    stage = into / f".part-{secrets.token_hex(8)}"
    with target_errors(into):
        stage.mkdir(mode=0o700)
        try:
            work = _Extraction(filesystem, stage, whole_tree, setuid, bounds or Bounds(), progress)
            work.run(path, top)
            _publish(stage, into)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return work.manifest(into)


def _prepare(into: Path, path: str) -> None:
    """See that what is asked can be written, before anything is read."""
    try:
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError("not a directory", path=str(into), cure="Name a directory.") from None
    except OSError as error:
        raise StoreError(f"cannot make a directory: {error.strerror}", path=str(into)) from error
    if path != "/":
        _see_free(into, host_name(path.rpartition("/")[2]))


def _see_free(into: Path, name: bytes) -> None:
    target = os.path.join(os.fsencode(into), name)
    if os.path.lexists(target):
        raise UsageError("file exists", path=ascii(os.fsdecode(target)), cure="Name another directory.")


def _publish(stage: Path, into: Path) -> None:
    """Give what was built its names."""
    made = os.listdir(os.fsencode(stage))
    for name in made:
        _see_free(into, name)
    for name in made:
        os.rename(os.path.join(os.fsencode(stage), name), os.path.join(os.fsencode(into), name))


@dataclass(slots=True)
class _Row:
    entry: Entry
    sha256: str = ""
    written: bytes = b""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    """A directory on the way: of the guest, of the host, and what is still to come."""

    path: str
    folder: Folder
    children: Iterator[Entry]
    entry: Entry | None


class _Extraction:
    def __init__(
        self, filesystem: FileSystem, stage: Path, whole_tree: bool, setuid: bool, bounds: Bounds, progress: Progress
    ) -> None:
        self._filesystem = filesystem
        self._stage = stage
        self._whole_tree = whole_tree
        self._mode = _ALL if setuid else _KEPT
        self._bounds = bounds
        self._progress = progress
        self._rows: list[_Row] = []
        self._incomplete: list[str] = []
        self._entered: set[int] = set()
        self._seen = 0
        self._written = 0

    def manifest(self, into: Path) -> pd.DataFrame:
        """Return what was done."""
        base = os.fsencode(into)
        written = [os.fsdecode(os.path.join(base, row.written)) if row.written else "" for row in self._rows]
        frame = pd.DataFrame(
            {
                "path": names([row.entry.path for row in self._rows]),
                "kind": pd.Series([row.entry.kind for row in self._rows], dtype="str"),
                "size": pd.Series([min(row.entry.size, (1 << 63) - 1) for row in self._rows], dtype="int64"),
                "sha256": pd.Series([row.sha256 for row in self._rows], dtype="str"),
                "written_to": names(written),
                "target": names([row.entry.target for row in self._rows]),
                "note": pd.Series(["; ".join(row.notes) for row in self._rows], dtype="str"),
            }
        )
        frame.attrs["incomplete"] = self._incomplete
        return frame

    def run(self, path: str, top: Entry) -> None:
        """Write the tree below `path`; directories are kept on a list, not on the stack of calls."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        root = Folder(os.open(self._stage, flags), depth=0 if path == "/" else -1)
        way: list[_Open] = []
        try:
            if path == "/" and top.kind == "directory":
                self._entered.add(top.inode)
                way.append(_Open("/", root, self._children("/"), None))
            else:
                self._one(root, path.rpartition("/")[2], top, way, top_level=True)
            while way and self._step(way):
                pass
        finally:
            while way:
                self._leave(way.pop())
            with contextlib.suppress(OSError):
                root.close()

    def _step(self, way: list[_Open]) -> bool:
        """Deal with the next name; return whether there may be another."""
        here = way[-1]
        entry = next(here.children, None)
        if entry is None:
            self._leave(way.pop())
            return True
        self._seen += 1
        if self._seen > self._bounds.entries:
            self._incomplete.append(f"more than {self._bounds.entries} entries: the others were not looked at")
            return False
        name = entry.path.removeprefix(here.path.rstrip("/") + "/")
        if name not in {".", ".."}:
            self._one(here.folder, name, entry, way)
        return True

    def _children(self, path: str) -> Iterator[Entry]:
        """Yield the entries of a directory; that it cannot be read to its end is said."""
        try:
            yield from self._filesystem.children(path)
        except (AnalysisError, StoreError) as error:
            self._incomplete.append(f"directory {path!a} could not be read to its end: {_words(error)}")

    def _one(self, folder: Folder, name: str, entry: Entry, way: list[_Open], *, top_level: bool = False) -> None:
        row = _Row(entry)
        self._rows.append(row)
        try:
            if entry.deleted:
                row.notes.append("deleted: only remembered")
            elif entry.kind == "directory":
                self._directory(folder, name, row, way, enter=self._whole_tree or top_level)
            elif entry.kind == "file":
                self._file(folder, name, row)
            elif entry.kind == "link":
                self._link(folder, name, row)
            else:
                row.notes.append(f"a {entry.kind} is not made")
        except OSError as error:
            if error.errno in _HOPELESS:
                raise
            row.notes.append(f"cannot be written here: {error.strerror}")

    # Kinds.

    def _directory(self, folder: Folder, name: str, row: _Row, way: list[_Open], *, enter: bool) -> None:
        entry = row.entry
        if entry.inode in self._entered:
            row.notes.append("the same directory was met before: not entered again")
            return
        if len(way) >= self._bounds.depth:
            row.notes.append(f"deeper than {self._bounds.depth} directories: not entered")
            return
        made = folder.folder(name)
        row.written = made.path
        self._setuid_note(row)
        if enter:
            self._entered.add(entry.inode)
            way.append(_Open(entry.path, made, self._children(entry.path), entry))
        else:
            row.notes.append("not entered")
            self._leave(_Open(entry.path, made, iter(()), entry))

    def _leave(self, here: _Open) -> None:
        """Give a directory its mode and times now that nothing more is put into it."""
        if here.entry is not None:
            with contextlib.suppress(OSError, OverflowError):
                os.fchmod(here.folder.descriptor, here.entry.mode & self._mode | 0o700)
                times = _times(here.entry)
                if times is not None:
                    os.utime(here.folder.descriptor, ns=times)
        here.folder.close()

    def _file(self, folder: Folder, name: str, row: _Row) -> None:
        entry = row.entry
        if entry.size > self._bounds.file_size:
            row.notes.append(f"larger than {self._bounds.file_size} bytes: not written")
            return
        if self._written + entry.size > self._bounds.size:
            row.notes.append(f"more than {self._bounds.size} bytes in all: not written")
            return
        try:
            with folder.file(name) as (handle, path):
                row.sha256, count = self._copy(entry, handle)
                self._finish(handle, row)
                row.written = path
        except (AnalysisError, StoreError) as error:
            row.sha256 = ""
            row.notes.append(f"unreadable: {_words(error)}")
            return
        if count != entry.size:
            row.notes.append(f"content ends after {count} of {entry.size} bytes")
        self._progress(ProgressEvent("extraction", self._written))

    def _copy(self, entry: Entry, handle: int) -> tuple[str, int]:
        """Write the content of an inode, with holes for zeros; return its digest and its length."""
        digest, count = hashlib.sha256(), 0
        with self._filesystem.open(entry.inode) as content:
            while count < entry.size:
                part = content.read(min(_STEP, entry.size - count))
                if not part:
                    break
                digest.update(part)
                if part.count(0) != len(part):
                    _pwrite(handle, part, count)
                count += len(part)
                self._written += len(part)
        os.ftruncate(handle, count)
        return digest.hexdigest(), count

    def _finish(self, handle: int, row: _Row) -> None:
        self._setuid_note(row)
        os.fchmod(handle, row.entry.mode & self._mode)
        times = _times(row.entry)
        if times is None:
            row.notes.append("the file system has no time for it")
            return
        try:
            os.utime(handle, ns=times)
        except (OSError, OverflowError):
            row.notes.append("a time that this host cannot keep")

    def _setuid_note(self, row: _Row) -> None:
        if row.entry.mode & ~self._mode & _ALL:
            row.notes.append(f"mode was {row.entry.mode & _ALL:04o}")

    def _link(self, folder: Folder, name: str, row: _Row) -> None:
        target = row.entry.target
        if target is None:
            row.notes.append("a link whose target cannot be read")
        elif folder.depth < 0 or not stays_inside(target, folder.depth):
            row.notes.append("a link that could lead out: not made")
        else:
            row.written = folder.link(name, target, _times(row.entry))


def _times(entry: Entry) -> tuple[int, int] | None:
    """Return when an entry was read and written, ns, as far as its file system says."""
    if entry.modified_ns is None:
        return None
    return (entry.modified_ns if entry.accessed_ns is None else entry.accessed_ns, entry.modified_ns)


def _pwrite(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def _words(error: AnalysisError | StoreError) -> str:
    return str(error).encode("ascii", "backslashreplace").decode()
