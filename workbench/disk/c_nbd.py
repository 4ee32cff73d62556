"""Numbers and layouts of the network block device protocol, as far as a read-only server needs them.

Source: the NBD protocol document, doc/proto.md of the NetworkBlockDevice project. Integers are big-endian. Refuses to
do anything: only layouts.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag

__all__ = [
    "DONE",
    "EXTENT",
    "GREETING",
    "INFO_BLOCK_SIZE",
    "INFO_EXPORT",
    "NAME_LIMIT",
    "OPTION",
    "OPTION_MAGIC",
    "OPTION_REPLY",
    "OPTION_REPLY_MAGIC",
    "PAYLOAD_LIMIT",
    "REQUEST",
    "REQUEST_MAGIC",
    "SIMPLE_REPLY",
    "SIMPLE_REPLY_MAGIC",
    "STRUCTURED_REPLY",
    "STRUCTURED_REPLY_MAGIC",
    "Chunk",
    "ClientFlag",
    "Command",
    "CommandFlag",
    "Error",
    "Export",
    "Info",
    "Option",
    "Reply",
    "State",
]

# Handshake.

GREETING = struct.pack(">8sQH", b"NBDMAGIC", 0x49484156454F5054, 1 | 2)
"""NBDMAGIC, IHAVEOPT, handshake flags: fixed newstyle, no zeroes."""
OPTION_MAGIC = 0x49484156454F5054
OPTION = struct.Struct(">QII")
"""magic, option, length of its data"""
OPTION_REPLY_MAGIC = 0x0003E889045565A9
OPTION_REPLY = struct.Struct(">QIII")
"""magic, option, reply, length of its data"""
INFO_EXPORT = struct.Struct(">HQH")
"""Info.EXPORT, size, transmission flags"""
INFO_BLOCK_SIZE = struct.Struct(">HIII")
"""Info.BLOCK_SIZE, minimum, preferred, maximum"""
NAME_LIMIT = 4096
"""Bytes of a string at most."""


class ClientFlag(IntFlag):
    """What the client takes up of the greeting."""

    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    """What a client asks for before transmission."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    """Answers to options; errors have the highest bit."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    UNSUPPORTED = 1 << 31 | 1
    INVALID = 1 << 31 | 3
    UNKNOWN = 1 << 31 | 6
    TOO_BIG = 1 << 31 | 9


class Info(IntEnum):
    """Kinds of information about an export."""

    EXPORT = 0
    BLOCK_SIZE = 3


class Export(IntFlag):
    """Transmission flags: what the export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    CAN_MULTI_CONN = 1 << 8


# Transmission.

REQUEST_MAGIC = 0x25609513
REQUEST = struct.Struct(">IHHQQI")
"""magic, command flags, command, cookie, offset, length"""
SIMPLE_REPLY_MAGIC = 0x67446698
SIMPLE_REPLY = struct.Struct(">IIQ")
"""magic, error, cookie"""
STRUCTURED_REPLY_MAGIC = 0x668E33EF
STRUCTURED_REPLY = struct.Struct(">IHHQI")
"""magic, flags, chunk, cookie, length of its data"""
DONE = 1
"""Flag of the last chunk of a reply."""
EXTENT = ">u4"
"""dtype of a block status descriptor's two fields: length, state"""
PAYLOAD_LIMIT = 32 << 20
"""Bytes that every server takes in one request, and a client may count on."""


class Command(IntEnum):
    """What a client asks for in transmission."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """Flags of a command."""

    REQ_ONE = 1 << 3


class Chunk(IntEnum):
    """Kinds of structured replies."""

    NONE = 0
    DATA = 1
    HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 1 << 15 | 1
    ERROR_OFFSET = 1 << 15 | 2


class Error(IntEnum):
    """Errors of commands, whatever the host's numbers are."""

    NONE = 0
    PERM = 1
    IO = 5
    INVAL = 22


class State(IntFlag):
    """Of an extent in the context base:allocation."""

    HOLE = 1
    ZERO = 2
