"""A client's socket with deadlines: whole messages or nothing.

Refuses to wait for a client in the middle of a message longer than a bound; between messages it may be silent.
"""

from __future__ import annotations

import socket
import time

__all__ = ["HANDSHAKE_S", "STALL_S", "HungUp", "Wire"]

HANDSHAKE_S = 30.0
"""Seconds for the whole handshake."""
STALL_S = 60.0
"""Seconds for the rest of a message, and for a client to take a reply."""
_DRAIN = 64 << 10


class HungUp(Exception):  # noqa: N818  (not an error: the end of a talk)
    """The client went, lied or stalled: there is nothing more to say to it."""


class Wire:
    """A client's socket; the deadline is that of the handshake until the first `next_message`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._deadline = time.monotonic() + HANDSHAKE_S

    def _receive(self, buffer: memoryview) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise HungUp("stalled")
        self._socket.settimeout(left)
        count = self._socket.recv_into(buffer)
        if not count:
            raise HungUp("gone")
        return count

    def exactly(self, length: int) -> bytes:
        """Return the next `length` bytes; the caller has bounded them.

        Raises
        ------
        HungUp
            If the client went or stalls.
        OSError
        """
        data = bytearray(length)
        view = memoryview(data)
        while view:
            view = view[self._receive(view) :]
        return bytes(data)

    def next_message(self, length: int) -> bytes:
        """Wait for as long as it takes for a message, and return its first `length` bytes.

        Raises
        ------
        HungUp, OSError
        """
        self._socket.settimeout(None)
        first = self._socket.recv(1)
        if not first:
            raise HungUp("gone")
        self._deadline = time.monotonic() + STALL_S
        return first + self.exactly(length - 1)

    def drain(self, length: int, limit: int) -> None:
        """Take `length` bytes that nobody wants.

        Raises
        ------
        HungUp
            If they are more than `limit`, or do not come.
        OSError
        """
        if length > limit:
            raise HungUp("claims too much")
        waste = memoryview(bytearray(min(length, _DRAIN)))
        while length:
            length -= self._receive(waste[:length])

    def send(self, *parts: bytes) -> None:
        """Send parts one after the other.

        Raises
        ------
        HungUp
            If the client does not take them.
        OSError
        """
        self._socket.settimeout(STALL_S)
        small = sum(map(len, parts)) <= _DRAIN
        try:
            for part in (b"".join(parts),) if small else parts:
                self._socket.sendall(part)
        except TimeoutError:
            raise HungUp("stalled") from None
