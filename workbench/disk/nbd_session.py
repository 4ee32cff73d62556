"""One client of an NBD server, from the greeting to its goodbye.

Every length is a claim and bounded before it is used; a client that lies is hung up on, one that stalls in the middle
of a message is too. Refuses everything that would write, with EPERM. Source: the NBD protocol document, doc/proto.md of
the NetworkBlockDevice project.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from itertools import islice

import numpy as np

from workbench.disk import c_nbd as c
from workbench.disk.nbd_disk import ServedDisk
from workbench.disk.nbd_options import Handshake
from workbench.disk.nbd_wire import HungUp, Wire
from workbench.errors import StoreError

__all__ = ["Session"]

_PIECE = 4 << 20
"""Bytes read at once where a reply may come in chunks."""
_EXTENTS = 8192
_WRITES = frozenset({c.Command.WRITE, c.Command.TRIM, c.Command.WRITE_ZEROES})


class Session:
    """One client.

    Parameters
    ----------
    tell : callable
        Told a line of whatever could not be read.
    """

    def __init__(self, connection: socket.socket, disk: ServedDisk, tell: Callable[[str], None]) -> None:
        self._wire = Wire(connection)
        self._disk = disk
        self._tell = tell
        self._structured = False
        self._context: int | None = None

    def run(self) -> None:
        """Speak with the client until it or we have enough."""
        try:
            handshake = Handshake(self._wire, self._disk)
            if handshake.run():
                self._structured, self._context = handshake.structured, handshake.context
                while self._request():
                    pass
        except (HungUp, OSError):
            return

    def _request(self) -> bool:
        """Deal with one request; return whether to go on."""
        magic, flags, command, cookie, offset, length = c.REQUEST.unpack(self._wire.next_message(c.REQUEST.size))
        if magic != c.REQUEST_MAGIC or command == c.Command.DISC:
            return False
        if command == c.Command.READ:
            self._read(cookie, offset, length)
        elif command == c.Command.BLOCK_STATUS:
            self._block_status(cookie, offset, length, flags)
        elif command in _WRITES:
            if command == c.Command.WRITE:
                self._wire.drain(length, c.PAYLOAD_LIMIT)
            self._done(cookie, c.Error.PERM)
        else:
            self._done(cookie, c.Error.NONE if command == c.Command.FLUSH else c.Error.INVAL)
        return True

    def _done(self, cookie: int, error: c.Error = c.Error.NONE) -> None:
        """End a request that has no content; a simple reply may answer all but reads and states."""
        self._wire.send(c.SIMPLE_REPLY.pack(c.SIMPLE_REPLY_MAGIC, error, cookie))

    def _chunk(self, cookie: int, kind: c.Chunk, *content: bytes, done: bool = False) -> None:
        length = sum(map(len, content))
        head = c.STRUCTURED_REPLY.pack(c.STRUCTURED_REPLY_MAGIC, c.DONE if done else 0, kind, cookie, length)
        self._wire.send(head, *content)

    def _error(self, cookie: int, error: c.Error, words: str) -> None:
        """Refuse a read or a question of states in the way that was agreed on."""
        if self._structured:
            text = words.encode()
            self._chunk(cookie, c.Chunk.ERROR, struct.pack(">IH", error, len(text)), text, done=True)
        else:
            self._done(cookie, error)

    # Reads.

    def _read(self, cookie: int, offset: int, length: int) -> None:
        if not self._inside(offset, length) or length > c.PAYLOAD_LIMIT:
            self._error(cookie, c.Error.INVAL, "outside of the disk, empty or too long")
        elif self._structured:
            self._read_in_chunks(cookie, offset, length)
        else:
            content = self._content(offset, length)
            self._done(cookie, c.Error.IO if content is None else c.Error.NONE)
            self._wire.send(content or b"")

    def _inside(self, offset: int, length: int) -> bool:
        return 0 < length <= self._disk.size - offset

    def _content(self, offset: int, length: int) -> bytes | None:
        """Return bytes of the disk; None, and the owner is told, where the case is damaged."""
        try:
            return self._disk.read(offset, length)
        except StoreError as error:
            self._tell(f"{self._disk.name}, {length} bytes at {offset}: {error}")
            return None

    def _read_in_chunks(self, cookie: int, offset: int, length: int) -> None:
        for start, size, stored in self._disk.stretches(offset, length):
            if not stored:
                self._chunk(cookie, c.Chunk.HOLE, struct.pack(">QI", start, size))
                continue
            for at in range(start, start + size, _PIECE):
                content = self._content(at, min(_PIECE, start + size - at))
                if content is None:
                    where = struct.pack(">IHQ", c.Error.IO, 0, at)
                    self._chunk(cookie, c.Chunk.ERROR_OFFSET, where, done=True)
                    return
                self._chunk(cookie, c.Chunk.DATA, struct.pack(">Q", at), content)
        self._chunk(cookie, c.Chunk.NONE, done=True)

    # States.

    def _block_status(self, cookie: int, offset: int, length: int, flags: int) -> None:
        if self._context is None or not self._inside(offset, length):
            self._error(cookie, c.Error.INVAL, "no context was agreed on, or outside of the disk")
            return
        most = 1 if flags & c.CommandFlag.REQ_ONE else _EXTENTS
        found = islice(self._disk.stretches(offset, length), most)
        extents = [(size, 0 if stored else c.State.HOLE | c.State.ZERO) for _, size, stored in found]
        content = np.array(extents, c.EXTENT).tobytes()
        self._chunk(cookie, c.Chunk.BLOCK_STATUS, struct.pack(">I", self._context), content, done=True)
