"""Directories for the length of a replay, under the system's temporary one; those that killed processes left are swept.

Each is locked while its maker lives: the kernel lets go of a lock (flock(2)) whatever becomes of the process, so
the next replay can tell which are nobody's. Refuses to touch what is another user's, or no directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Self

__all__ = ["Scratch", "sweep_scratch"]

_PREFIX = "rwb-exact-"


class Scratch:
    """A directory of our own; a context manager that removes it.

    Attributes
    ----------
    path : Path
        Mode 0700.
    """

    def __init__(self) -> None:
        self.path, self._lock = _make()

    def close(self) -> None:
        """Remove it; harmless where that is done."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _make() -> tuple[Path, int]:
    while True:  # until it is locked before somebody else's sweep took it for nobody's
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.suppress(FileNotFoundError):
            lock = _opened(path)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def sweep_scratch() -> None:
    """Remove the directories whose makers are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                _remove_if_nobodys(path)


def _remove_if_nobodys(path: Path) -> None:
    lock = _opened(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError where its maker lives
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
