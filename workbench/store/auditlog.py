"""The audit log: who asked for what, when, and what came of it; lines are only ever added.

Each line is canonical JSON with the BLAKE3 of the line before it, so that a line that was changed, or removed from the
middle, is found and named by `verify`; the end is vouched for by nobody, so `last` is what to note elsewhere. Several
processes may add lines. Refuses to hold secrets: values are cut, and names that sound like one are left out.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from workbench.errors import StoreError

__all__ = ["AuditLog"]

_LONGEST = 500
_TAIL = 1 << 20
"""Bytes in which the last line is looked for: facts are few, and each is cut."""
_SECRET = ("token", "secret", "password", "authorization", "cookie")
_NOTHING = "0" * 64


class AuditLog:
    """An append-only file of what was done.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._size, self._last = 0, _NOTHING

    @property
    def last(self) -> str:
        """The digest that vouches for everything so far: note it elsewhere."""
        try:
            with self.path.open("rb") as file:
                return _end(file.fileno())
        except FileNotFoundError:
            return _NOTHING

    def add(self, who: str, what: str, result: str, **facts: object) -> None:
        """Add a line, durably.

        Raises
        ------
        StoreError
            It was not noted, so what it would have told must not be done.
        """
        told = {"time_ns": time.time_ns(), "who": who, "what": what, "result": result, "facts": _harmless(facts)}
        with self._lock:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX)  # of a moment: a line of another process, which this one follows
                    self._follow(handle)
                    line = _line({**told, "before": self._last})
                    if os.write(handle, line) != len(line):
                        raise OSError(28, "No space left on device")
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                raise StoreError(f"the audit log cannot be written: {error.strerror}", path=str(self.path)) from error
            self._size, self._last = self._size + len(line), blake3(line).hexdigest()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield every line, oldest first; what cannot be read is yielded as `{"unreadable": text}`."""
        for line in self._raw():
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError):
                yield {"unreadable": line.decode("utf-8", "replace")[:_LONGEST]}

    def verify(self) -> list[str]:
        """Return what is wrong with the log, in words; empty where every line follows the one before."""
        wrong, before = [], _NOTHING
        for number, line in enumerate(self._raw(), 1):
            try:
                told = json.loads(line)["before"]
            except (ValueError, TypeError, KeyError):
                told = None
            if told != before:
                wrong.append(f"line {number}: follows {told}, expected {before}")
            before = blake3(line).hexdigest()
        return wrong

    def _raw(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                yield from file
        except FileNotFoundError:
            return

    def _follow(self, handle: int) -> None:
        """Take the end of the file for the end; a line that a crash cut short gets its end, and shows in `verify`."""
        size = os.fstat(handle).st_size
        if size != self._size:
            if size and os.pread(handle, 1, size - 1) != b"\n":
                size += os.write(handle, b"\n")
            self._size, self._last = size, _end(handle)


def _end(handle: int) -> str:
    """Return the digest of the last line, with its end."""
    size = os.fstat(handle).st_size
    tail = os.pread(handle, _TAIL, max(0, size - _TAIL)).removesuffix(b"\n")
    return blake3(tail[tail.rfind(b"\n") + 1 :] + b"\n").hexdigest() if size else _NOTHING


def _line(told: Mapping[str, Any]) -> bytes:
    return (json.dumps(told, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _harmless(facts: Mapping[str, object]) -> dict[str, str]:
    return {
        name: str(value)[:_LONGEST]
        for name, value in facts.items()
        if value is not None and not any(word in name.lower() for word in _SECRET)
    }
