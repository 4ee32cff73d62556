"""A folder of the host that names made by a guest are written into, and never anywhere else.

Everything is relative to an open directory, made anew and never followed: a name is one component, or it is turned into
one. Refuses to write through what exists, to make devices, and links that could lead out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

from blake3 import blake3

__all__ = ["Folder", "host_name", "stays_inside"]

T = TypeVar("T")
_NAME_BYTES = 255
_TARGET_BYTES = 4095
_TRIES = 100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def host_name(name: str) -> bytes:
    """Return a guest's name as one component of a path: the same bytes, but for what cannot be one.

    "/" and NUL become %2F and %00, "", "." and ".." are spelt out, and what is longer than 255 bytes is cut and gets a
    digest of the whole.
    """
    raw = _bytes(name)
    safe = raw.replace(b"/", b"%2F").replace(b"\0", b"%00")
    if safe in {b"", b".", b".."}:
        return safe.replace(b".", b"%2E") or b"%"
    if len(safe) > _NAME_BYTES:
        return safe[: _NAME_BYTES - 17] + b"~" + blake3(raw).hexdigest()[:16].encode()
    return safe


def stays_inside(target: str, depth: int) -> bool:
    """Return whether a link in a directory `depth` levels below the top leads nowhere outside of it, whatever is there.

    Only a beginning of `..` is taken, at most `depth` of them. One after a name is not: that name may be a link, and
    then `..` counts from where it leads to. As all links are such, none of those on the way leads out either.
    """
    parts = [part for part in target.split("/") if part not in {"", "."}]
    up = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    fits = 0 < len(_bytes(target)) <= _TARGET_BYTES and "\0" not in target
    return fits and not target.startswith("/") and up <= depth and ".." not in parts[up:]


class Folder:
    """An open directory that this process made.

    Attributes
    ----------
    path : bytes
        Below the top one; empty for that.
    depth : int
        0 for the top one.
    """

    def __init__(self, descriptor: int, path: bytes = b"", depth: int = 0) -> None:
        self.descriptor = descriptor
        self.path = path
        self.depth = depth

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def below(self, name: bytes) -> bytes:
        """Return the path of a name in it."""
        return self.path + b"/" + name if self.path else name

    def folder(self, name: str) -> Folder:
        """Make a directory in it, for the owner alone so far.

        Raises
        ------
        OSError
        """
        made, _ = self._new(name, lambda each: os.mkdir(each, 0o700, dir_fd=self.descriptor))
        return Folder(os.open(made, _DIRECTORY, dir_fd=self.descriptor), self.below(made), self.depth + 1)

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[tuple[int, bytes]]:
        """Make a file in it, and give its descriptor and path; it is removed if the block ends with an error.

        Raises
        ------
        OSError
        """
        made, handle = self._new(name, lambda each: os.open(each, _NEW, 0o600, dir_fd=self.descriptor))
        try:
            yield handle, self.below(made)
        except BaseException:
            os.unlink(made, dir_fd=self.descriptor)
            raise
        finally:
            os.close(handle)

    def link(self, name: str, target: str, times: tuple[int, int] | None = None) -> bytes:
        """Make a symbolic link in it, whose target the caller has seen to; return its path.

        Raises
        ------
        OSError
        """
        raw = _bytes(target)
        made, _ = self._new(name, lambda each: os.symlink(raw, each, dir_fd=self.descriptor))
        if times is not None:
            with contextlib.suppress(OSError, OverflowError):
                os.utime(made, ns=times, dir_fd=self.descriptor, follow_symlinks=False)
        return self.below(made)

    def _new(self, name: str, make: Callable[[bytes], T]) -> tuple[bytes, T]:
        """Make something under this name, or one like it where it is taken: a guest may give a name twice."""
        base = host_name(name)
        endings = chain((b"",), (b"~%d" % number for number in range(1, _TRIES)), (_chance(),))
        for ending in endings:
            each = base[: _NAME_BYTES - len(ending)] + ending
            with contextlib.suppress(FileExistsError):
                return each, make(each)
        raise FileExistsError(17, "no free name")


def _bytes(text: str) -> bytes:
    """Return what a guest wrote; half of a UTF-16 pair, as NTFS may have it, in the manner of UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _chance() -> bytes:
    return b"~" + secrets.token_hex(8).encode()
