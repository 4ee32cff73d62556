"""Files of the service's state, replaced whole or not at all.

Refuses to follow a name out of the directory, and leaves the old file where the new one could not be written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from workbench.errors import StoreError, StoreFullError

__all__ = ["private_directory", "replace"]

_FULL = {28, 122}  # ENOSPC, EDQUOT


def private_directory(path: Path) -> Path:
    """Make a directory that only its owner enters, where it is not there.

    Raises
    ------
    StoreError
        If it cannot be made, or belongs to another user.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = path.stat().st_uid
    except OSError as error:
        raise StoreError(f"{error.strerror}: {path}", cure="Name a directory that can be written.") from error
    if owner != os.geteuid():
        raise StoreError("the directory belongs to another user", path=str(path), owner=owner, cure="Name another.")
    return path


def replace(path: Path, data: bytes) -> None:
    """Write a file durably under its name: a reader sees the old or the new one, whole.

    Raises
    ------
    StoreFullError, StoreError
        The old file is as it was.
    """
    name = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            name = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        kind = StoreFullError if error.errno in _FULL else StoreError
        raise kind(f"{error.strerror}: {path}", cure="Make room, or mend the volume.") from error


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
