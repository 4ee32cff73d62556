"""Lines of a console, taken by a thread, so that a wait can end.

Refuses to hold more than 8 MiB: a guest that writes faster than is read waits, as it would at a real serial line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

__all__ = ["Lines", "Terminal"]

_HELD = 8 << 20
_LONGEST = 65_536
"""Bytes of a line; a longer one is taken in pieces."""
_NOISE = bytes(range(0x20)).replace(b"\n", b"").replace(b"\t", b"") + b"\x7f"


class Terminal(Protocol):
    """What `workbench.guest.console.Console` offers."""

    def read(self) -> bytes:
        """Return what came, waiting for it; nothing at the end."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def close(self) -> None:
        """Let go."""


class Lines:
    """The lines that a console writes from now on.

    Attributes
    ----------
    ended : bool
        Whether the console has ended.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._held = 0
        self._rest = b""
        self.ended = False
        self._thread = threading.Thread(target=self._pump, name="console lines", daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        while data := self._terminal.read():
            with self._changed:
                self._take(data)
                self._changed.notify_all()
                while self._held > _HELD and not self.ended:
                    self._changed.wait(0.5)
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _take(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            self._lines.append(line.translate(None, _NOISE))
            self._held += len(line)

    def next(self, until: float) -> bytes | None:
        """Return the next line, without its end and control characters; None once `time.monotonic()` is past `until`.

        Also None where the console has ended.
        """
        with self._changed:
            while not self._lines:
                left = until - time.monotonic()
                if left <= 0 or self.ended:
                    return None
                self._changed.wait(left)
            line = self._lines.popleft()
            self._held -= len(line)
            self._changed.notify_all()
            return line

    @property
    def unfinished(self) -> bytes:
        """What came after the last line end: a prompt, perhaps."""
        with self._changed:
            return self._rest

    def close(self) -> None:
        """Let go of the console and end the thread."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()
        self._terminal.close()
        self._thread.join(5)
