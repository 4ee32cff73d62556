"""What the store asks of a place that keeps files: a small protocol that a directory or an object store can serve.

Refuses to know what the files mean. Names are relative paths of plain segments made by the store itself, never by
data; a backend refuses any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from workbench.errors import UsageError

__all__ = ["Backend", "Lock", "Staged", "Staging", "checked_name"]

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def checked_name(name: str) -> str:
    """Return `name` if it is a relative path of plain segments.

    Raises
    ------
    UsageError
        If it is not: it could leave the case.
    """
    if not all(_SEGMENT.fullmatch(segment) for segment in name.split("/")):
        raise UsageError("this is no name of a file in a case", name=name, cure="This is a bug: please report it.")
    return name


class Staged(Protocol):
    """A file being written that no reader can see yet."""

    size: int
    """Bytes written so far."""

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises
        ------
        StoreFullError, StoreError
        """

    def seal(self) -> None:
        """Make the content durable; nothing can be appended any more.

        Raises
        ------
        StoreFullError, StoreError
        """


class Staging(Protocol):
    """Files that become visible together: all of them, or after `discard` or a sweep none."""

    def file(self) -> Staged:
        """Open a new invisible file."""

    def publish(self, groups: Sequence[Sequence[tuple[Staged, str]]]) -> None:
        """Give sealed files their names; each group is durable before the next is begun, the last one is the commit.

        A name that exists keeps its content (put-if-absent).

        Raises
        ------
        StoreFullError, StoreError
            What was published is taken back as far as the volume allows.
        """

    def replace(self, files: Sequence[tuple[Staged, str]]) -> None:
        """Put sealed files in the place of those that have their names: each at once, in any order, then all durable.

        Raises
        ------
        StoreFullError, StoreError
            Some may be in place and others not.
        """

    def discard(self) -> None:
        """Drop everything that is not published; never raises."""


class Lock(Protocol):
    """Held by one process, and gone with it."""

    def note(self, text: str) -> None:
        """Let others read, by `Backend.holder`, what the holder says of itself: a short line of ASCII; never raises."""

    def release(self) -> None:
        """Let the next one in."""


class Backend(Protocol):
    """A place that keeps immutable files by name."""

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return exactly `length` bytes from `offset`, or all to the end.

        Raises
        ------
        MissingError
            No such file.
        DamagedError
            The file is shorter than `offset + length`.
        StoreError
            The volume failed.
        """

    def size(self, name: str) -> int:
        """Return the bytes of a file.

        Raises
        ------
        MissingError, StoreError
        """

    def list(self, prefix: str) -> list[str]:
        """Return the last segments of the names directly under `prefix`, in no order; empty where there are none.

        Raises
        ------
        StoreError
        """

    def put(self, name: str, data: bytes) -> bool:
        """Store `data` under `name`, atomically and durably; False if the name was taken (and is left as it is).

        Raises
        ------
        StoreFullError, StoreError
        """

    def delete(self, name: str) -> None:
        """Remove a file durably; a missing one is no error.

        Raises
        ------
        StoreError
        """

    def delete_many(self, names: Sequence[str]) -> None:
        """Remove files in any order, then durably; missing ones are no error.

        Raises
        ------
        StoreError
            Some may be gone and others not.
        """

    def stage(self, owner: str) -> Staging:
        """Open a staging area for `owner`, who must hold the lock that makes it the only one of that name.

        Raises
        ------
        StoreFullError, StoreError
        """

    def sweep(self, owner: str) -> None:
        """Remove what dead holders of `owner`'s lock left: staged files, and published ones without their commit.

        Raises
        ------
        StoreError
        """

    def lock(self, name: str) -> Lock:
        """Take the lock `name`.

        Raises
        ------
        StoreBusyError
            Another holds it.
        StoreError
        """

    def holder(self, name: str) -> str | None:
        """Return what the holder of the lock `name` has noted, or None where nobody holds it.

        Raises
        ------
        StoreError
        """
