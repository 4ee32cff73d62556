"""A new file under its final name only when it is whole; nothing is left behind on failure.

Refuses to overwrite, and to be looked at before it is done: it is written in a private temporary file beside its
name and linked into place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import StoreError, StoreFullError, UsageError

__all__ = ["new_file", "target_errors"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@contextlib.contextmanager
def target_errors(target: Path | str) -> Iterator[None]:
    """Turn an `OSError` of writing `target` into ours.

    Raises
    ------
    StoreFullError
        If the volume, the quota or the process's limit of file sizes is exhausted.
    StoreError
        Otherwise.
    """
    try:
        yield
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _FULL:
            raise StoreFullError(
                f"no space for what is to be written: {cause}",
                path=str(target),
                cure="Free space there or name another volume; nothing half-written is left.",
            ) from error
        raise StoreError(f"cannot write: {cause}", path=str(target), cure="Look after its directory.") from error


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[int]:
    """Give the descriptor of a temporary file, which gets the name `target` when the block ends without an error.

    Raises
    ------
    UsageError
        If `target` exists.
    StoreFullError, StoreError
        If the file cannot be made, flushed or named.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise _exists(target)
    with target_errors(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        yield handle
        with target_errors(target):
            os.fsync(handle)
            _name(name, target)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


def _exists(target: Path) -> UsageError:
    return UsageError("file exists", path=str(target), cure="Name one that does not.")


def _name(source: str, target: Path) -> None:
    """Give `source` the name `target` if that is free; where a volume knows no links, rename after a look."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise _exists(target) from None
        os.rename(source, target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
