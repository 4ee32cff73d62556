"""Bytes between a guest and a screen: read and written on threads of their own, bounded whatever the guest does.

What comes faster than it can be drawn is kept up to a limit; beyond it the oldest is dropped and counted, since the
screen shows the newest anyway. Refuses to let a guest that takes no input hold its caller.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from workbench.errors import WorkbenchError

__all__ = ["Backlog", "Link", "Writer", "read_into"]

_KEPT = 256 << 10
_TYPED = 256
"""Pieces of input that wait for the guest."""


class Link(Protocol):
    """What a terminal talks to; `workbench.case.Clone.console` gives one."""

    def read(self) -> bytes:
        """Return what came, waiting for it; nothing at the end."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def close(self) -> None:
        """End both; a `read` that waits returns."""


class Backlog:
    """Bytes that were read and not yet drawn.

    Attributes
    ----------
    dropped : int
        Bytes that nobody will see.
    ended : bool
        Whether nothing more comes.
    """

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        self._data = bytearray()
        self._news = threading.Condition()
        self.dropped = 0
        self.ended = False

    def put(self, data: bytes) -> None:
        """Add bytes; past the limit the oldest go."""
        with self._news:
            self._data += data
            over = len(self._data) - self._most
            if over > 0:
                self.dropped += over
                del self._data[:over]
            self._news.notify_all()

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._news:
            self.ended = True
            self._news.notify_all()

    def take(self, most: int) -> bytes:
        """Return the oldest bytes, at most so many; nothing where there are none."""
        with self._news:
            data = bytes(self._data[:most])
            del self._data[:most]
            return data

    def wait(self) -> bool:
        """Wait for bytes; tell whether there are any, or the end has come."""
        with self._news:
            self._news.wait_for(lambda: self._data or self.ended)
            return bool(self._data)


def read_into(link: Link, backlog: Backlog) -> None:
    """Read a link until its end."""
    try:
        while data := link.read():
            backlog.put(data)
    finally:
        backlog.end()


class Writer:
    """Sends input to a link in the order of `put`, on a thread.

    Parameters
    ----------
    failed : callable
        Hears the error that ended it.
    """

    def __init__(self, link: Link, failed: Callable[[WorkbenchError], None]) -> None:
        self._link, self._failed = link, failed
        self._queue: queue.Queue[bytes | None] = queue.Queue(_TYPED)
        threading.Thread(target=self._run, name="terminal input", daemon=True).start()

    def put(self, data: bytes) -> bool:
        """Send bytes; say whether there was room for them."""
        try:
            self._queue.put_nowait(data)
        except queue.Full:
            return False
        return True

    def end(self) -> None:
        """End the thread once what was put is sent, or the link has ended."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def _run(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                self._link.write(data)
        except WorkbenchError as error:
            self._failed(error)
