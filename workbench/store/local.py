"""A case in a local directory: staged files, fsync, link into place, and a lock that dies with its holder.

Refuses to overwrite: a file is linked to its name only if the name is free. Refuses to let an `OSError` through:
callers see `StoreFullError` or `StoreError` with the path and the cause.

`tmp/` holds `OWNER.RANDOM/` (a transaction's staging, swept by the next holder of OWNER's lock) and `put.RANDOM`
(a single file on its way; swept after an hour, because whoever writes a mark holds no lock).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

from workbench.errors import DamagedError, MissingError, StoreBusyError, StoreError, StoreFullError
from workbench.store.backend import Staged, checked_name

__all__ = ["LocalBackend", "os_errors"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_STALE_PUT_S = 3600
_INTENT = "intent"
_NOTE_BYTES = 256
_LOOK_S = 0.1  # how long whoever asks for the holder may stand in the way of who takes the lock


@contextlib.contextmanager
def os_errors(path: Path | str, act: str, *, reads: bool = False) -> Iterator[None]:
    """Turn an `OSError` into ours, by what the caller can do next; a file absent where one `reads` is damage."""
    try:
        yield
    except OSError as error:
        if reads and isinstance(error, FileNotFoundError):
            raise MissingError(f"cannot {act}: no such file", path=str(path), cure="Run check on the case.") from error
        cause = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _FULL:
            raise StoreFullError(
                f"cannot {act}: {cause}",
                path=str(path),
                cure="Free space on the volume; all that is committed is whole.",
            ) from error
        raise StoreError(f"cannot {act}: {cause}", path=str(path), cure="Look after the volume of the case.") from error


def _fsync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_directory(path: Path) -> None:
    """Create `path` and its parents, each durable in its own parent."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    _fsync_directory(path.parent)


def _link(source: Path, target: Path) -> bool:
    """Give `source` the name `target` if that is free; where a volume knows no links, rename after a look."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            return False
        os.rename(source, target)
    return True


class _StagedFile:
    """A file under `tmp/` that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        with os_errors(path, "create a file"):
            self._handle: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def write(self, data: bytes) -> None:
        assert self._handle is not None, "a sealed file takes no more"
        view = memoryview(data).cast("B")
        with os_errors(self.path, "write"):
            while view:
                written = os.write(self._handle, view)
                self.size += written
                view = view[written:]

    def seal(self) -> None:
        if self._handle is not None:
            with os_errors(self.path, "flush"):
                os.fsync(self._handle)
            self.close()

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)


class _LocalStaging:
    """The staged files of one transaction, under `tmp/OWNER.RANDOM/`."""

    def __init__(self, backend: LocalBackend, path: Path) -> None:
        self._backend = backend
        self._path = path
        self._files: list[_StagedFile] = []
        self._published: list[Path] = []
        with os_errors(path, "create a directory"):
            os.mkdir(path)

    def file(self) -> Staged:
        staged = _StagedFile(self._path / str(len(self._files)))
        self._files.append(staged)
        return staged

    def publish(self, groups: Sequence[Sequence[tuple[Staged, str]]]) -> None:
        try:
            self._write_intent([checked_name(name) for group in groups for _, name in group])
            for group in groups:
                self._publish_group(group)
        except BaseException:
            self._take_back()
            raise
        self._published.clear()
        self.discard()

    def _write_intent(self, names: list[str]) -> None:
        # Not fsynced: after a power cut it may be missing, and then the worst is a pack that nobody refers to.
        path = self._path / _INTENT
        with os_errors(path, "write"):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                fresh = [name for name in names if not (self._backend.root / name).exists()]
                os.write(handle, "\n".join([*fresh, names[-1]]).encode())
            finally:
                os.close(handle)

    def _publish_group(self, group: Sequence[tuple[Staged, str]]) -> None:
        self._backend.each([staged.seal for staged, _ in group])
        directories: dict[Path, None] = {}
        for staged, name in group:
            target = self._backend.root / name
            with os_errors(target, "publish"):
                _make_directory(target.parent)
                if _link(cast("_StagedFile", staged).path, target):
                    self._published.append(target)
            directories[target.parent] = None
        with os_errors(self._path, "flush a directory"):
            self._backend.each([partial(_fsync_directory, path) for path in directories])

    def replace(self, files: Sequence[tuple[Staged, str]]) -> None:
        self._backend.each([staged.seal for staged, _ in files])
        directories: dict[Path, None] = {}
        for staged, name in files:
            target = self._backend.root / checked_name(name)
            with os_errors(target, "replace"):
                _make_directory(target.parent)
                os.rename(cast("_StagedFile", staged).path, target)
            directories[target.parent] = None
        with os_errors(self._path, "flush a directory"):
            self._backend.each([partial(_fsync_directory, path) for path in directories])

    def _take_back(self) -> None:
        """Unpublish, the commit first; stop at the first that will not go, so that nothing loses what it needs."""
        for path in reversed(self._published):
            try:
                os.unlink(path)
            except OSError:
                break
        self._published.clear()

    def discard(self) -> None:
        for staged in self._files:
            staged.close()
        shutil.rmtree(self._path, ignore_errors=True)


class _LocalLock:
    """A flock on a file."""

    held: ClassVar[weakref.WeakSet[_LocalLock]] = weakref.WeakSet()

    def __init__(self, path: Path) -> None:
        with os_errors(path, "open the lock"):
            _make_directory(path.parent)
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with os_errors(path, "lock"):
                _flock_soon(self._handle)
                os.ftruncate(self._handle, 0)
                os.pwrite(self._handle, _noted(""), 0)
        except StoreError as error:
            busy = isinstance(error.__cause__, BlockingIOError)
            holder = _said(self._handle).partition(" ")[0] if busy else ""
            self.release()
            if busy:
                raise StoreBusyError(
                    "another process writes this guest's history",
                    pid=holder,
                    path=str(path),
                    cure="Wait for it, or stop it.",
                ) from error
            raise
        self.held.add(self)

    def note(self, text: str) -> None:
        """Let others read a line; see `Lock.note`. The bytes are there already, so a full disk does not matter."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._handle, _noted(text), 0)

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _flock_soon(handle: int) -> None:
    """Take a lock; `holder` has it for an instant, a writer for long."""
    until = time.monotonic() + _LOOK_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_S / 20)
        else:
            return


def _noted(text: str) -> bytes:
    return f"{os.getpid()} {text}".encode("ascii").ljust(_NOTE_BYTES)[:_NOTE_BYTES]


def _said(handle: int) -> str:
    return os.pread(handle, _NOTE_BYTES, 0).decode("ascii", "replace").rstrip()


def _forget_locks() -> None:
    """In a forked child: let go of our copy, or the lock would outlive the process that took it."""
    for lock in list(_LocalLock.held):
        lock.release()


os.register_at_fork(after_in_child=_forget_locks)


class LocalBackend:
    """Files under one directory.

    Parameters
    ----------
    root : Path
        The case's directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pool: ThreadPoolExecutor | None = None

    def each(self, acts: Sequence[Callable[[], None]]) -> None:
        """Run acts side by side (flushes wait for the device, not for us) and raise the first error."""
        if len(acts) == 1:
            acts[0]()
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(4, thread_name_prefix="flush")
        waiting = [self._pool.submit(act) for act in acts]
        for future in waiting:
            future.exception()
        for future in waiting:
            future.result()

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return exactly `length` bytes from `offset`, or all to the end; see `Backend.get`."""
        path = self.root / checked_name(name)
        with os_errors(name, "read", reads=True):
            handle = os.open(path, os.O_RDONLY)
            try:
                wanted = os.fstat(handle).st_size - offset if length is None else length
                data = os.pread(handle, max(wanted, 0), offset)
                while len(data) < wanted and (more := os.pread(handle, wanted - len(data), offset + len(data))):
                    data += more
            finally:
                os.close(handle)
        if len(data) != wanted:
            raise DamagedError(
                "file is too short",
                path=name,
                offset=offset,
                expected=wanted,
                found=len(data),
                cure="Run check on the case.",
            )
        return data

    def size(self, name: str) -> int:
        """Return the bytes of a file; see `Backend.size`."""
        with os_errors(name, "look at", reads=True):
            return os.stat(self.root / checked_name(name)).st_size

    def list(self, prefix: str) -> list[str]:
        """Return the last segments of the names directly under `prefix`; see `Backend.list`."""
        try:
            with os_errors(prefix, "list", reads=True):
                return os.listdir(self.root / checked_name(prefix))
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return []
            raise

    def put(self, name: str, data: bytes) -> bool:
        """Store `data` under `name` if that is free; see `Backend.put`."""
        target = self.root / checked_name(name)
        with os_errors(self.root, "create a directory"):
            _make_directory(self.root / "tmp")
            _make_directory(target.parent)
        staged = _StagedFile(self.root / "tmp" / f"put.{secrets.token_hex(8)}")
        try:
            staged.write(data)
            staged.seal()
            with os_errors(target, "publish"):
                fresh = _link(staged.path, target)
                _fsync_directory(target.parent)
            return fresh
        finally:
            staged.close()
            with contextlib.suppress(OSError):
                os.unlink(staged.path)

    def delete(self, name: str) -> None:
        """Remove a file durably; see `Backend.delete`."""
        path = self.root / checked_name(name)
        with contextlib.suppress(MissingError), os_errors(name, "delete", reads=True):
            os.unlink(path)
            _fsync_directory(path.parent)

    def delete_many(self, names: Sequence[str]) -> None:
        """Remove files in any order, then durably; see `Backend.delete_many`."""
        directories: dict[Path, None] = {}
        for name in names:
            path = self.root / checked_name(name)
            with contextlib.suppress(MissingError), os_errors(name, "delete", reads=True):
                os.unlink(path)
                directories[path.parent] = None
        with os_errors(self.root, "flush a directory"):
            self.each([partial(_fsync_directory, path) for path in directories])

    def stage(self, owner: str) -> _LocalStaging:
        """Open a staging area; see `Backend.stage`."""
        with os_errors(self.root, "create a directory"):
            _make_directory(self.root / "tmp")
        return _LocalStaging(self, self.root / "tmp" / f"{checked_name(owner)}.{secrets.token_hex(8)}")

    def sweep(self, owner: str) -> None:
        """Remove what dead holders of the lock left; see `Backend.sweep`."""
        tmp = self.root / "tmp"
        for name in self.list("tmp"):
            path = tmp / name
            if name.startswith(f"{owner}."):
                self._sweep_staging(path)
            elif name.startswith("put.") and self._age_s(path) > _STALE_PUT_S:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    @staticmethod
    def _age_s(path: Path) -> float:
        try:
            return time.time() - os.stat(path).st_mtime
        except OSError:
            return 0.0

    def _sweep_staging(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError), os_errors(path, "sweep"):
            try:
                *others, commit = (path / _INTENT).read_text().split("\n")
            except (FileNotFoundError, ValueError):
                others, commit = [], ""
            if commit and not (self.root / checked_name(commit)).exists():
                for name in others:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.root / checked_name(name))
            shutil.rmtree(path, ignore_errors=True)

    def lock(self, name: str) -> _LocalLock:
        """Take a lock; see `Backend.lock`."""
        return _LocalLock(self.root / checked_name(name))

    def holder(self, name: str) -> str | None:
        """Return what the holder of a lock has noted, after its process id; see `Backend.holder`."""
        path = self.root / checked_name(name)
        with contextlib.suppress(MissingError), os_errors(path, "look at the lock", reads=True):
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _said(handle)
            finally:
                os.close(handle)
        return None
