"""The types of a symbol table, made from BTF: base types, structs and unions, enums, and descriptors of types.

Source of the format: Volatility 3, schema 6.2.0 (`volatility3/schemas/schema-6.2.0.json`), which has named types only.
So an anonymous struct takes the name of its first typedef; a typedef of a struct is a copy under its own name; of two
types with one name the first keeps it, and the others get their BTF id as a suffix.

Refuses BTF whose table would be far larger than any kernel's: what repeats names and copies is counted as it is made.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from workbench.errors import SymbolsError
from workbench.memory.symbols import c_btf as c
from workbench.memory.symbols.btf import CHAIN, Btf, Member, Type
from workbench.memory.symbols.c_btf import Kind

__all__ = ["VOID", "Descriptor", "IsfTypes"]

Descriptor = dict[str, Any]
"""A type as the format describes it: `{"kind": "pointer", "subtype": {...}}`."""

VOID: Descriptor = {"kind": "base", "name": "void"}
_MOST = 256 << 20
"""Characters of the table, roughly; kernels' have 15 to 40 million."""

_AGGREGATES = frozenset({Kind.STRUCT, Kind.UNION})
_ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_BASES = {  # of x86-64; the names are GCC's
    "char": (1, True, "char"), "signed char": (1, True, "char"), "unsigned char": (1, False, "char"),
    "short int": (2, True, "int"), "short unsigned int": (2, False, "int"), "int": (4, True, "int"),
    "unsigned int": (4, False, "int"), "long int": (8, True, "int"), "long unsigned int": (8, False, "int"),
    "long long int": (8, True, "int"), "long long unsigned int": (8, False, "int"), "_Bool": (1, False, "bool"),
    "void": (0, False, "void"), "pointer": (8, False, "int"),
}  # fmt: skip
_ENUM_BASES = {
    (1, False): "unsigned char", (1, True): "signed char", (2, False): "short unsigned int", (2, True): "short int",
    (4, False): "unsigned int", (4, True): "int", (8, False): "long unsigned int", (8, True): "long int",
}  # fmt: skip


class IsfTypes:
    """All types of a kernel.

    Attributes
    ----------
    base, user, enums : dict
        The sections `base_types`, `user_types` and `enums` of the table.
    variables : dict of str to Descriptor
        Types of the variables that BTF knows: the per-cpu ones, and all since pahole 1.28 where asked for.

    Raises
    ------
    SymbolsError
        If a chain of types is too long or a loop, or the table grows too large.
    """

    def __init__(self, btf: Btf) -> None:
        self._btf, self._types = btf, btf.types
        self._spent = 0
        self._weights: dict[int, int] = {}
        self._described: dict[int, tuple[Descriptor, int]] = {}
        self._aliases = self._find_aliases()
        self._names = self._find_names()
        self.base = self._base_types()
        self.user: dict[str, Any] = {}
        self.enums: dict[str, Any] = {}
        self._fill()
        self.variables: dict[str, Descriptor] = {}
        for each in self._types:
            if each.kind is Kind.VARIABLE:
                self.variables.setdefault(each.name, self.describe(each.target))

    def _spend(self, characters: int) -> None:
        self._spent += characters
        if self._spent > _MOST:
            raise SymbolsError("the types in BTF make too large a table", found=self._spent, expected=_MOST)

    def _find_aliases(self) -> dict[int, list[str]]:
        """Return the typedef names of each struct, union and enum, in BTF's order."""
        found: dict[int, list[str]] = defaultdict(list)
        for each in self._types:
            if each.kind is Kind.TYPEDEF:
                target = self._btf.strip(each.target)
                if self._types[target].kind in _AGGREGATES or self._types[target].kind in _ENUMS:
                    found[target].append(each.name)
        return dict(found)

    def _find_names(self) -> dict[int, str]:
        names: dict[int, str] = {}
        used: tuple[set[str], set[str]] = (set(), set())
        for number, each in enumerate(self._types):
            if each.kind in _AGGREGATES or each.kind in _ENUMS:
                taken = used[each.kind in _ENUMS]
                name = each.name or self._aliases.get(number, [f"unnamed_{number:x}"])[0]
                name = f"{name}__{number:x}" if name in taken else name
                taken.add(name)
                names[number] = name
        return names

    def _base_types(self) -> dict[str, Any]:
        found: dict[str, tuple[int, bool, str]] = {}
        for each in self._types:
            if each.kind is Kind.INT:
                found.setdefault(each.name, _integer(each))
            elif each.kind is Kind.FLOAT:
                found.setdefault(each.name, (each.size, True, "float"))
        return {
            name: {"size": size, "signed": signed, "kind": kind, "endian": "little"}
            for name, (size, signed, kind) in {**_BASES, **found}.items()
        }

    def _fill(self) -> None:
        for number, each in enumerate(self._types):
            if each.kind in _AGGREGATES:
                self._add(self.user, number, *self._aggregate(each))
            elif each.kind in _ENUMS:
                self._add(self.enums, number, *_enum(each))
        for number, aliases in self._aliases.items():
            table = self.user if self._types[number].kind in _AGGREGATES else self.enums
            content = table[self._names[number]]
            for alias in aliases:
                if alias not in table:
                    self._spend(self._weights[number])
                    table[alias] = content

    def _add(self, table: dict[str, Any], number: int, content: dict[str, Any], weight: int) -> None:
        self._spend(weight)
        if number in self._aliases:
            self._weights[number] = weight
        table[self._names[number]] = content

    def describe(self, number: int) -> Descriptor:
        """Describe a type by its BTF id.

        Raises
        ------
        SymbolsError
            If the chain of types is too long or a loop.
        """
        return self._describe(number)[0]

    def _describe(self, number: int) -> tuple[Descriptor, int]:
        """Return the descriptor and about how many characters it has. No recursion: the chain is the guest's claim."""
        known = self._described.get(number)
        if known is not None:
            return known
        wrappers: list[Type] = []
        at = self._btf.strip(number)
        while self._types[at].kind in (Kind.POINTER, Kind.ARRAY, Kind.VARIABLE):
            if len(wrappers) >= CHAIN:
                raise SymbolsError("a chain of types in BTF is too long or a loop", type=number, expected=CHAIN)
            wrappers.append(self._types[at])
            at = self._btf.strip(self._types[at].target)
        described = self._end(at)
        for each in reversed(wrappers):
            if each.kind is Kind.POINTER:
                described = {"kind": "pointer", "subtype": described}
            elif each.kind is Kind.ARRAY:
                described = {"kind": "array", "subtype": described, "count": each.detail}
        result = described, 40 * (len(wrappers) + 1) + len(self._types[at].name)
        self._described[number] = result
        return result

    def _end(self, number: int) -> Descriptor:
        """Describe a type that is no pointer and no array."""
        found = self._types[number]
        if number in self._names:
            kind = "enum" if found.kind in _ENUMS else "union" if found.kind is Kind.UNION else "struct"
            return {"kind": kind, "name": self._names[number]}
        if found.kind in (Kind.INT, Kind.FLOAT):
            return {"kind": "base", "name": found.name}
        if found.kind is Kind.FORWARD:
            return {"kind": "union" if found.flag else "struct", "name": found.name}
        if found.kind in (Kind.FUNCTION, Kind.PROTOTYPE):
            return {"kind": "function"}
        return VOID

    def _aggregate(self, found: Type) -> tuple[dict[str, Any], int]:
        fields: dict[str, Any] = {}
        weight = unnamed = 0
        for member in found.members:
            described, size = self._describe(member[1])
            field = self._field(member, found.flag, described)
            name = member[0]
            if not name:
                name = f"unnamed_field_{unnamed:x}"
                unnamed += 1
                field["anonymous"] = True
            fields[name] = field
            weight += len(name) + size + 30
        kind = "struct" if found.kind is Kind.STRUCT else "union"
        return {"kind": kind, "size": found.size, "fields": fields}, weight + len(found.name)

    def _field(self, member: Member, flag: bool, described: Descriptor) -> dict[str, Any]:
        offset, width = member[2], 0
        if flag:  # bit-fields may be: the upper 8 bits are the width
            width, offset = offset >> 24, offset & 0xFFFFFF
        if not width:
            return {"type": described, "offset": offset // 8}
        unit = 8 * max(1, min(8, self._size(member[1])))
        begin = offset // unit * unit
        if offset - begin + width > unit:  # a packed one, across its unit's end
            begin = offset // 8 * 8
        bits = {"kind": "bitfield", "bit_position": offset - begin, "bit_length": width, "type": described}
        return {"type": bits, "offset": begin // 8}

    def _size(self, number: int) -> int:
        found = self._types[self._btf.strip(number)]
        return found.size if found.kind is Kind.INT or found.kind in _ENUMS else 4


def _integer(found: Type) -> tuple[int, bool, str]:
    signed = bool(found.detail & c.INT_SIGNED) or found.name in ("char", "signed char")  # x86-64's char is signed
    if found.detail & c.INT_BOOL or found.name == "_Bool":
        return found.size, signed, "bool"
    if found.detail & c.INT_CHAR or found.name in ("char", "signed char", "unsigned char"):
        return found.size, signed, "char"
    return found.size, signed, "int"


def _enum(found: Type) -> tuple[dict[str, Any], int]:
    constants = {name: value for name, value, _ in found.members}
    signed = found.flag or any(value < 0 for value in constants.values())
    weight = sum(map(len, constants)) + 24 * len(constants) + len(found.name)
    return {"size": found.size, "base": _ENUM_BASES[found.size, signed], "constants": constants}, weight
