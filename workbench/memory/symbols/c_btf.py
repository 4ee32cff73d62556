"""Byte layout of BTF, the kernel's own description of its types.

Source: Linux `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst`. Integers are little-endian on x86-64.
Refuses to do anything: only layouts.
"""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = [
    "ENTRY",
    "HEADER",
    "INT_BOOL",
    "INT_CHAR",
    "INT_SIGNED",
    "MAGIC",
    "MODIFIERS",
    "TYPE",
    "VERSION",
    "WORDS",
    "Kind",
]

MAGIC = 0xEB9F
VERSION = 1

HEADER = struct.Struct("<HBBIIIII")
"""magic, version, flags, header length, types offset, types length, strings offset, strings length; offsets count from
the header's end"""

TYPE = struct.Struct("<III")
"""name offset; info (16 bits of vlen, kind at bit 24, kind flag at bit 31); size in bytes, or type"""


class Kind(IntEnum):
    """What a type is (`BTF_KIND_*`)."""

    VOID = 0
    INT = 1
    POINTER = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FORWARD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNCTION = 12
    PROTOTYPE = 13
    VARIABLE = 14
    SECTION = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
"""Kinds that name or qualify one other type and have its layout."""

WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VARIABLE: 1, Kind.DECL_TAG: 1}
"""Words of 4 bytes that follow a type of the kind, once."""

ENTRY = {Kind.STRUCT: 3, Kind.UNION: 3, Kind.ENUM: 2, Kind.PROTOTYPE: 2, Kind.SECTION: 3, Kind.ENUM64: 3}
"""Words of 4 bytes that follow a type of the kind, vlen times."""

INT_SIGNED = 1 << 24
INT_CHAR = 2 << 24
INT_BOOL = 4 << 24
