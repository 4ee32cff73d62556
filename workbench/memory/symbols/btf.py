"""Read BTF, as untrusted bytes, into plain records.

Every offset, count and type id is a claim: it is held against what is there before it is used, so that whoever has a
`Btf` may index with its ids. Work and memory are bounded by the length of the blob. Chains of types may still be loops:
`Btf.strip` follows them no further than `CHAIN` links.

Refuses split BTF (a module's), big-endian BTF, kinds it does not know, and names that begin inside other names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from workbench.errors import SymbolsError
from workbench.memory.symbols import c_btf as c
from workbench.memory.symbols.c_btf import Kind

__all__ = ["CHAIN", "LONGEST_BTF", "Btf", "Member", "Type", "parse_btf"]

LONGEST_BTF = 64 << 20
"""Bytes of BTF that are believed; kernels have 4 to 10 MiB."""

CHAIN = 32
"""Links of a chain of types (pointer to const of typedef of ...) that are followed; compilers write about ten."""

_NAME = 512
"""Characters in a name at most (`KSYM_NAME_LEN`)."""
_NAMES = 64 << 20
"""Characters in all uses of names together at most, for what is made of them repeats them."""

Member = tuple[str, int, int]
"""Of a struct or union: name, type id, offset in bits (with a bit-field's width above bit 24 when `Type.flag`). Of an
enum: name, value, 0. Of a section: "", variable's type id, offset."""


class Type(NamedTuple):
    """One type.

    Attributes
    ----------
    kind : Kind
    name : str
        "" for an anonymous one.
    size : int
        Bytes, for kinds that have a size (int, struct, union, enum, float, section).
    target : int
        Type id, for kinds that refer to one; the element's type for an array.
    flag : bool
        The kind flag: bit-fields in a struct, signed values in an enum, a union in a forward declaration.
    detail : int
        The encoding word of an int, the count of an array.
    members : list of Member
    """

    kind: Kind
    name: str
    size: int
    target: int
    flag: bool
    detail: int
    members: list[Member]


@dataclass(frozen=True, slots=True)
class Btf:
    """All types of a kernel; the position in `types` is the type id, and id 0 is void."""

    types: list[Type]

    def strip(self, number: int) -> int:
        """Return the id behind typedefs and qualifiers.

        Raises
        ------
        SymbolsError
            If the chain has more than `CHAIN` links, or is a loop.
        """
        types = self.types
        for _ in range(CHAIN):
            found = types[number]
            if found.kind not in c.MODIFIERS:
                return number
            number = found.target
        raise SymbolsError(
            "a chain of types in BTF is too long or a loop", type=number, expected=f"at most {CHAIN} links"
        )


_SIZED = frozenset({Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FLOAT, Kind.SECTION, Kind.ENUM64})
_TARGETED = c.MODIFIERS | {Kind.POINTER, Kind.FUNCTION, Kind.VARIABLE, Kind.DECL_TAG}
_KINDS = tuple(Kind)
_EXTRA = tuple(c.WORDS.get(kind, 0) for kind in Kind)
_ENTRY = tuple(c.ENTRY.get(kind, 0) for kind in Kind)
_VOID = Type(Kind.VOID, "void", 0, 0, False, 0, [])


def parse_btf(blob: bytes) -> Btf:
    """Read a BTF blob.

    Parameters
    ----------
    blob : bytes
        Header, types and strings, of exactly that length.

    Raises
    ------
    SymbolsError
        If it is not whole BTF of a kernel; names the offset, what was expected and what was found.
    """
    types_at, types_end, strings_at = _sections(blob)
    reader = _Reader(blob, types_at, types_end, _strings(blob[strings_at:]))
    types = reader.types()
    if reader.highest >= len(types):
        raise SymbolsError("BTF refers to a type that is not there", found=reader.highest, expected=len(types) - 1)
    return Btf(types)


def _sections(blob: bytes) -> tuple[int, int, int]:
    if not c.HEADER.size <= len(blob) <= LONGEST_BTF:
        raise SymbolsError("BTF of an impossible length", found=len(blob), expected=f"{c.HEADER.size} to {LONGEST_BTF}")
    magic, version, _, header, types, types_length, strings, strings_length = c.HEADER.unpack_from(blob)
    if (magic, version) != (c.MAGIC, c.VERSION):
        raise SymbolsError("not BTF", offset=0, found=(hex(magic), version), expected=(hex(c.MAGIC), c.VERSION))
    sound = header >= c.HEADER.size and types % 4 == 0 and types_length % 4 == 0 and types + types_length <= strings
    if not sound or header + strings + strings_length != len(blob):
        found = (header, types, types_length, strings, strings_length)
        raise SymbolsError("the sections of BTF do not fit its length", offset=4, found=found, expected=len(blob))
    return header + types, header + types + types_length, header + strings


def _strings(section: bytes) -> dict[int, str]:
    """Return the strings by offset. Each is whole: linkers of BTF share strings, never their tails."""
    if not section or section[0] or section[-1]:
        raise SymbolsError("the strings of BTF do not begin and end with NUL", found=section[:1] + section[-1:])
    parts = section[:-1].decode("latin-1").split("\0")
    if (longest := max(map(len, parts))) > _NAME:
        raise SymbolsError("a name in BTF is too long", found=longest, expected=_NAME)
    return dict(zip(accumulate((len(part) + 1 for part in parts), initial=0), parts, strict=False))


class _Reader:
    """Walks the type section once. `highest` is the highest type id referred to so far."""

    def __init__(self, blob: bytes, at: int, end: int, strings: dict[int, str]) -> None:
        self._blob, self._at, self._end, self._strings = blob, at, end, strings
        self._named = 0
        self.highest = 0

    def types(self) -> list[Type]:
        found = [_VOID]
        at, end, blob, unpack = self._at, self._end, self._blob, c.TYPE.unpack_from
        while at < end:
            if at + c.TYPE.size > end:
                raise SymbolsError("BTF ends inside a type", offset=at, expected=c.TYPE.size, found=end - at)
            name, info, last = unpack(blob, at)
            kind, count = info >> 24 & 31, info & 0xFFFF
            if not 0 < kind < len(_KINDS):
                raise SymbolsError("an unknown kind of type in BTF", offset=at, found=kind, expected="1 to 19")
            words = _EXTRA[kind] + _ENTRY[kind] * count
            after = at + c.TYPE.size + 4 * words
            if after > end:
                raise SymbolsError("a type in BTF is longer than the section", offset=at, found=after, expected=end)
            rest = struct.unpack_from(f"<{words}I", blob, at + c.TYPE.size) if words else ()
            try:
                found.append(self._type(_KINDS[kind], self._strings[name], info >> 31 == 1, last, rest))
            except KeyError as error:
                raise SymbolsError("a name in BTF is not a string of it", offset=at, found=error.args[0]) from None
            at = after
        return found

    def _type(self, kind: Kind, name: str, flag: bool, last: int, rest: tuple[int, ...]) -> Type:
        if kind in (Kind.STRUCT, Kind.UNION):
            return Type(kind, name, last, 0, flag, 0, self._fields(rest))
        if kind in (Kind.ENUM, Kind.ENUM64):
            return Type(kind, name, self._enum_size(last), 0, flag, 0, self._constants(kind, flag, rest))
        if kind is Kind.SECTION:
            self._refer(*rest[::3])
            return Type(kind, name, last, 0, flag, 0, [("", *pair) for pair in zip(rest[::3], rest[1::3], strict=True)])
        if kind is Kind.ARRAY:
            self._refer(rest[0])
            return Type(kind, name, 0, rest[0], flag, rest[2], [])
        if kind in _TARGETED:
            self._refer(last)
            return Type(kind, name, 0, last, flag, 0, [])
        return Type(kind, name, last if kind in _SIZED else 0, 0, flag, rest[0] if kind is Kind.INT else 0, [])

    def _refer(self, *numbers: int) -> None:
        self.highest = max(self.highest, *numbers) if numbers else self.highest

    def _names(self, offsets: tuple[int, ...]) -> list[str]:
        names = [self._strings[offset] for offset in offsets]
        self._named += sum(map(len, names))
        if self._named > _NAMES:
            raise SymbolsError("the names in BTF add up to too much", found=self._named, expected=_NAMES)
        return names

    def _fields(self, rest: tuple[int, ...]) -> list[Member]:
        self._refer(*rest[1::3])
        return list(zip(self._names(rest[::3]), rest[1::3], rest[2::3], strict=True))

    @staticmethod
    def _enum_size(size: int) -> int:
        if size not in (1, 2, 4, 8):
            raise SymbolsError("an enum of an impossible size in BTF", found=size, expected="1, 2, 4 or 8")
        return size

    def _constants(self, kind: Kind, signed: bool, rest: tuple[int, ...]) -> list[Member]:
        step, bits = c.ENTRY[kind], 64 if kind is Kind.ENUM64 else 32
        values = (
            rest[1::2] if step == 2 else [low | high << 32 for low, high in zip(rest[1::3], rest[2::3], strict=True)]
        )
        top = 1 << bits - 1 if signed else 1 << bits
        return [
            (name, value - (1 << bits) if value >= top else value, 0)
            for name, value in zip(self._names(rest[::step]), values, strict=True)
        ]
