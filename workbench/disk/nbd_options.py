"""The handshake of an NBD server with one client: fixed newstyle, one export.

Refuses options that are longer or more than any client sends, TLS, and names that are not this disk's. Source: the NBD
protocol document, doc/proto.md of the NetworkBlockDevice project.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from workbench.disk import c_nbd as c
from workbench.disk.nbd_disk import ServedDisk
from workbench.disk.nbd_wire import Wire

__all__ = ["ALLOCATION", "Handshake"]

ALLOCATION = "base:allocation"
_CONTEXT = 1
_KNOWN = int(c.ClientFlag.FIXED_NEWSTYLE | c.ClientFlag.NO_ZEROES)
"""As a number: the complement of a flag has none but known bits."""
_MOST_OPTIONS = 256
_MOST_QUERIES = 64
_MOST_BYTES = 64 << 10
_FLAGS = c.Export.HAS_FLAGS | c.Export.READ_ONLY | c.Export.SEND_FLUSH | c.Export.CAN_MULTI_CONN
_BLOCK_SIZE = c.INFO_BLOCK_SIZE.pack(c.Info.BLOCK_SIZE, 1, 64 << 10, c.PAYLOAD_LIMIT)


class _Refused(Exception):  # noqa: N818  (an answer, not an error)
    """An option is answered with an error."""

    def __init__(self, reply: c.Reply) -> None:
        super().__init__(reply)
        self.reply = reply


class Handshake:
    """What client and server agree on.

    Attributes
    ----------
    structured : bool
        Whether reads are answered in chunks.
    context : int or None
        The number of base:allocation, if the client asked for it.
    """

    def __init__(self, wire: Wire, disk: ServedDisk) -> None:
        self._wire = wire
        self._disk = disk
        self._zeroes = True
        self.structured = False
        self.context: int | None = None
        self._handlers: dict[int, Callable[[int, bytes], None]] = {
            c.Option.ABORT: self._abort,
            c.Option.LIST: self._list,
            c.Option.INFO: self._info,
            c.Option.GO: self._info,
            c.Option.STRUCTURED_REPLY: self._structured_reply,
            c.Option.LIST_META_CONTEXT: self._meta_context,
            c.Option.SET_META_CONTEXT: self._meta_context,
        }

    def run(self) -> bool:
        """Agree on everything; return whether transmission follows.

        Raises
        ------
        HungUp, OSError
        """
        self._wire.send(c.GREETING)
        flags = int.from_bytes(self._wire.exactly(4), "big")
        if flags & ~_KNOWN:
            return False
        self._zeroes = not flags & c.ClientFlag.NO_ZEROES
        for _ in range(_MOST_OPTIONS):
            magic, option, length = c.OPTION.unpack(self._wire.exactly(c.OPTION.size))
            if magic != c.OPTION_MAGIC or length > _MOST_BYTES:
                return False
            goes_on = self._option(option, self._wire.exactly(length))
            if goes_on is not None:
                return goes_on
        return False

    def _option(self, option: int, data: bytes) -> bool | None:
        """Answer an option; return whether transmission follows, None if the handshake goes on."""
        if option == c.Option.EXPORT_NAME:
            return self._export_name(data)
        try:
            handler = self._handlers.get(option)
            if handler is None:
                raise _Refused(c.Reply.UNSUPPORTED)
            handler(option, data)
        except _Refused as refused:
            self._reply(option, refused.reply)
            return None
        self._reply(option, c.Reply.ACK)
        return {c.Option.GO: True, c.Option.ABORT: False}.get(c.Option(option))

    def _reply(self, option: int, reply: c.Reply, *content: bytes) -> None:
        head = c.OPTION_REPLY.pack(c.OPTION_REPLY_MAGIC, option, reply, sum(map(len, content)))
        self._wire.send(head, *content)

    def _export_name(self, data: bytes) -> bool:
        """Take the oldest way in: no answer but the export itself, or the end."""
        if not self._disk.is_called(data.decode("utf-8", "replace")):
            return False
        self._wire.send(struct.pack(">QH", self._disk.size, _FLAGS), bytes(124) if self._zeroes else b"")
        return True

    def _abort(self, _option: int, _data: bytes) -> None:
        """Nothing to do: it is acknowledged."""

    def _list(self, option: int, data: bytes) -> None:
        _nothing_left(data)
        name = self._disk.name.encode()
        self._reply(option, c.Reply.SERVER, struct.pack(">I", len(name)), name)

    def _structured_reply(self, _option: int, data: bytes) -> None:
        _nothing_left(data)
        self.structured = True

    def _info(self, option: int, data: bytes) -> None:
        """INFO and GO: whatever was asked for, the size and the block sizes are told."""
        name, rest = _string(data)
        if len(rest) < 2 or len(rest) != 2 + 2 * int.from_bytes(rest[:2], "big"):
            raise _Refused(c.Reply.INVALID)
        self._see_name(name)
        self._reply(option, c.Reply.INFO, c.INFO_EXPORT.pack(c.Info.EXPORT, self._disk.size, _FLAGS))
        self._reply(option, c.Reply.INFO, _BLOCK_SIZE)

    def _meta_context(self, option: int, data: bytes) -> None:
        """LIST and SET: there is one context."""
        setting = option == c.Option.SET_META_CONTEXT
        if setting:
            self.context = None
            if not self.structured:
                raise _Refused(c.Reply.INVALID)
        name, rest = _string(data)
        queries = _queries(rest)
        self._see_name(name)
        wanted = {ALLOCATION} if setting else {ALLOCATION, "base:"}
        if wanted.intersection(queries) or not (queries or setting):
            self._reply(
                option, c.Reply.META_CONTEXT, struct.pack(">I", _CONTEXT if setting else 0), ALLOCATION.encode()
            )
            self.context = _CONTEXT if setting else self.context

    def _see_name(self, name: str) -> None:
        if not self._disk.is_called(name):
            raise _Refused(c.Reply.UNKNOWN)


def _nothing_left(data: bytes) -> None:
    if data:
        raise _Refused(c.Reply.INVALID)


def _string(data: bytes) -> tuple[str, bytes]:
    """Return a string with its length in front, and what follows it."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 or length > len(data) - 4:
        raise _Refused(c.Reply.INVALID)
    if length > c.NAME_LIMIT:
        raise _Refused(c.Reply.TOO_BIG)
    return data[4 : 4 + length].decode("utf-8", "replace"), data[4 + length :]


def _queries(data: bytes) -> list[str]:
    """Return a counted list of strings."""
    count, rest = int.from_bytes(data[:4], "big"), data[4:]
    if len(data) < 4:
        raise _Refused(c.Reply.INVALID)
    if count > _MOST_QUERIES:
        raise _Refused(c.Reply.TOO_BIG)
    queries = []
    for _ in range(count):
        text, rest = _string(rest)
        queries.append(text)
    _nothing_left(rest)
    return queries
