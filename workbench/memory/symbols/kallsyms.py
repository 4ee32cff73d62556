"""Find and decode kallsyms in a stretch of memory around its token table.

The two layouts are told apart by structure, never by version: a place for `num_syms` counts only where a kernel address
lies at the place of `relative_base` that the layout and the count give, where walking so many names gives the table of
markers exactly, and where the addresses ascend. Work is bounded by the length of the stretch.

Refuses kernels without relative offsets (KALLSYMS_BASE_RELATIVE) or without `relative_base`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import SymbolsError
from workbench.memory.symbols import c_kallsyms as c

__all__ = ["AFTER", "BEFORE", "Kallsyms", "Symbol", "find_digits", "parse_kallsyms", "parse_tokens"]

BEFORE = 24 << 20
AFTER = 24 << 20
"""Bytes around the token table in which the rest of kallsyms is looked for; kernels need 2 to 6 MiB."""

_TOKEN_TABLE = 16 << 10
"""Bytes of a token table at most; kernels have about 1 KiB."""
_DIGIT_OFFSETS = struct.Struct("<HH")
_NAME = 512
"""Characters of a name at most (`KSYM_NAME_LEN`)."""
_VAIN = 16 << 20
"""Bytes of what looks like names that are walked before we give up."""
_TEXT = 64 << 20
"""Characters in all names at most."""

Symbol = tuple[int, str, str]
"""Address as linked, type by `nm`, name."""


@dataclass(frozen=True, slots=True)
class Kallsyms:
    """The symbols of one kernel.

    Attributes
    ----------
    layout : {"A", "B"}
    relative_base : int
        As found: with the KASLR shift in memory, without it in a file.
    offsets : (n,) int32
        In the order of the addresses.
    names : list of str
        Type and name in one: "T_text".
    places : dict of str to int
        Where the tables begin in the stretch of memory, by the kernel's name for them ("kallsyms_names").
    span : (int, int)
        Begin and end of all of them in the stretch.
    content : bytes
        What the symbols are a function of, but for `relative_base`: offsets, names and tokens.
    """

    layout: str
    relative_base: int
    offsets: NDArray[np.int32]
    names: list[str]
    places: dict[str, int]
    span: tuple[int, int]
    content: bytes

    def addresses(self, relative_base: int) -> NDArray[np.uint64]:
        """Return the addresses for a relative base: the one found, or that less the KASLR shift for those as linked.

        Where any offset is negative, those that are not are absolute: offsets of per-cpu variables.
        """
        return _addresses(self.offsets, relative_base)

    def find(self, wanted: frozenset[str]) -> dict[str, int]:
        """Return the addresses, as found, of those names that are there; of the first, where one is there twice."""
        places = {name[1:]: number for number, name in reversed([*enumerate(self.names)]) if name[1:] in wanted}
        addresses = self.addresses(self.relative_base)
        return {name: int(addresses[number]) for name, number in places.items()}

    def symbols(self, relative_base: int) -> list[Symbol]:
        """Return all symbols for a relative base, by address."""
        addresses = self.addresses(relative_base).tolist()
        return [(address, name[0], name[1:]) for address, name in zip(addresses, self.names, strict=True)]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The token table, and where it and its index begin and end in the stretch."""

    table: int
    index: int
    texts: list[bytes]

    @property
    def end(self) -> int:
        return self.index + 2 * c.TOKENS


@dataclass(frozen=True, slots=True)
class _Names:
    """The walked names: start and length of each, with the lengths' bytes left out, and the end of the markers."""

    spans: list[tuple[int, int]]
    end: int
    markers: int
    markers_end: int


@dataclass(frozen=True, slots=True)
class _Place:
    layout: str
    count: int
    num_syms: int
    offsets: int
    relative_base: int


def find_digits(content: bytes) -> Iterator[int]:
    """Yield the places in `content` that look like the digits of a token table."""
    at = content.find(c.DIGITS)
    while at >= 0:
        yield at
        at = content.find(c.DIGITS, at + 1)


def parse_kallsyms(content: bytes, digits: int) -> Kallsyms:
    """Decode the kallsyms around one place that `find_digits` gave.

    Parameters
    ----------
    content : bytes
        A stretch of memory that begins at a multiple of 8: up to `BEFORE` bytes before the digits and `AFTER` behind.
    digits : int
        Their place in it.

    Raises
    ------
    SymbolsError
        If there is no token table there, or nothing around it has either layout.
    """
    tokens = parse_tokens(content, digits)
    budget = min(len(content), _VAIN)
    tried = 0
    for place in _places(content, tokens):
        tried += 1
        names = _walk(content, place, tokens.table, tokens.texts, budget)
        if isinstance(names, int):
            budget -= names
            if budget <= 0:
                break
            continue
        if (found := _decode(content, place, tokens, names)) is not None:
            return found
    raise SymbolsError(
        "a token table of kallsyms, but nothing around it has a layout that we know",
        offset=tokens.table, found=f"{tried} places tried", expected="layout A (to Linux 6.3) or B (from 6.4)",
    )  # fmt: skip


def parse_tokens(content: bytes, digits: int) -> _Tokens:
    """Find the index behind the digits: 256 ascending offsets, of which the digits' are 2 apart, that fit the table.

    Raises
    ------
    SymbolsError
        If there is none.
    """
    first = -(-(digits + len(c.DIGITS)) // c.ALIGN) * c.ALIGN
    for index in range(first, min(digits + _TOKEN_TABLE, len(content) - 2 * c.TOKENS + 1), c.ALIGN):
        zero, one = _DIGIT_OFFSETS.unpack_from(content, index + 2 * c.DIGIT_ZERO)
        if one - zero != 2 or content[index] or content[index + 1]:
            continue
        offsets = np.frombuffer(content, "<u2", c.TOKENS, index).astype(np.int64)
        table = digits - int(offsets[c.DIGIT_ZERO])
        if table < 0 or np.any(np.diff(offsets) < 2) or table + int(offsets[-1]) >= index:
            continue
        texts = content[table:index].split(b"\0")[: c.TOKENS]
        lengths = np.array([len(each) + 1 for each in texts])
        if len(texts) == c.TOKENS and np.array_equal(np.cumsum(lengths[:-1]), offsets[1:]) and _printable(texts):
            return _Tokens(table, index, texts)
    raise SymbolsError("digits in a row, but no token table of kallsyms", offset=digits)


def _printable(texts: list[bytes]) -> bool:
    """No token is long, or has characters that no name has: line feeds separate the names while we decode them."""
    joined = b"".join(texts)
    return all(texts) and max(map(len, texts)) < _NAME and min(joined) > 0x20 and max(joined) < 0x7F


def _places(content: bytes, tokens: _Tokens) -> Iterator[_Place]:
    """Yield the places where num_syms may be, near the token table first.

    They are those with a kernel address where either layout has relative_base.
    """
    words = np.frombuffer(content, "<u8", len(content) // 8)
    before = words[: tokens.table // c.ALIGN]
    numbers = np.flatnonzero((before >= c.FEWEST) & (before <= c.MOST))[::-1]  # 4 bytes of it are padding
    counts = before[numbers].astype(np.int64)
    offsets = -(-counts * c.OFFSET // c.ALIGN)  # in words
    based = (numbers > offsets) & (words[numbers - 1] >= c.KERNEL_MAP)
    for number, count, size in _triples(numbers, counts, offsets, based):
        yield _Place("A", count, number * 8, (number - 1 - size) * 8, (number - 1) * 8)
    behind = tokens.end // c.ALIGN
    base = np.minimum(behind + offsets, len(words) - 1)
    based = (behind + offsets < len(words)) & (words[base] >= c.KERNEL_MAP)
    for number, count, size in _triples(numbers, counts, offsets, based):
        yield _Place("B", count, number * 8, behind * 8, (behind + size) * 8)


def _triples(
    numbers: NDArray[np.int64], counts: NDArray[np.int64], sizes: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> Iterator[tuple[int, int, int]]:
    return zip(*(column[chosen].tolist() for column in (numbers, counts, sizes)), strict=True)


def _walk(content: bytes, place: _Place, limit: int, texts: list[bytes], budget: int) -> _Names | int:
    """Walk the names: each has its length before it, in one byte, or two with 7 bits in the first.

    Returns
    -------
    _Names or int
        How many bytes were walked in vain, where these are not names whose markers follow.
    """
    start = at = place.num_syms + c.ALIGN
    stop = min(limit, start + budget)
    spans: list[tuple[int, int]] = []
    marks: list[int] = []
    for number in range(place.count):
        if not number % c.MARKED:
            marks.append(at - start)
        if at + 2 > stop:
            return at - start + 1
        length = content[at]
        at += 1
        if length & 0x80:
            length = length & 0x7F | content[at] << 7
            at += 1
        if not length or at + length > stop or texts[content[at]][0] not in c.TYPES:
            return at - start
        spans.append((at, length))
        at += length
    markers = -(-at // c.ALIGN) * c.ALIGN
    wanted = np.array(marks, "<u4").tobytes()
    if content[markers : markers + len(wanted)] != wanted or markers + len(wanted) > limit:
        return at - start
    return _Names(spans, at, markers, markers + len(wanted))


def _decode(content: bytes, place: _Place, tokens: _Tokens, names: _Names) -> Kallsyms | None:
    offsets = np.frombuffer(content, "<i4", place.count, place.offsets)
    base = int.from_bytes(content[place.relative_base : place.relative_base + 8], "little")
    addresses = _addresses(offsets, base)
    if np.any(addresses[1:] < addresses[:-1]):
        return None
    places = {
        "num_syms": place.num_syms, "names": place.num_syms + c.ALIGN, "markers": names.markers,
        "token_table": tokens.table, "token_index": tokens.index, "offsets": place.offsets,
        "relative_base": place.relative_base,
    }  # fmt: skip
    ends = [tokens.end, place.relative_base + 8]
    if (sequences := _sequences(content, place, tokens, names)) is not None:
        places["seqs_of_names"] = sequences
        ends.append(sequences + c.SEQUENCE * place.count)
    parts = (
        content[place.offsets : place.offsets + c.OFFSET * place.count],
        content[place.num_syms : names.markers_end],
        content[tokens.table : tokens.end],
    )
    named = {f"kallsyms_{name}": at for name, at in sorted(places.items())}
    span = min(places.values()), max(ends)
    return Kallsyms(place.layout, base, offsets, _expand(content, names, tokens.texts), named, span, b"".join(parts))


def _sequences(content: bytes, place: _Place, tokens: _Tokens, names: _Names) -> int | None:
    """Return where seqs_of_names is: kernels before 6.2 have none, but some distributions' do."""
    length = c.SEQUENCE * place.count
    if place.layout == "B":
        at = place.relative_base + 8
        return at if at + length <= len(content) else None
    at = -(-names.markers_end // c.ALIGN) * c.ALIGN
    return at if at + length <= tokens.table else None


def _addresses(offsets: NDArray[np.int32], relative_base: int) -> NDArray[np.uint64]:
    wide = offsets.astype(np.int64)
    base = np.int64(relative_base - (1 << 64) if relative_base >> 63 else relative_base)
    found = np.where(wide < 0, base - 1 - wide, wide) if np.any(wide < 0) else base + wide
    return found.view(np.uint64)


def _expand(content: bytes, names: _Names, texts: list[bytes]) -> list[str]:
    """Return the names with their tokens expanded."""
    lengths = np.array([len(each) for each in texts], np.int64)
    codes = np.frombuffer(content, np.uint8, names.end)
    total = int(lengths[codes[names.spans[0][0] :]].sum())
    if total > _TEXT:
        raise SymbolsError("the names of kallsyms add up to too much", found=total, expected=_TEXT)
    strings = [each.decode("ascii") for each in texts]
    get, join = strings.__getitem__, "".join
    found = [join(map(get, content[at : at + length])) for at, length in names.spans]
    if (longest := max(map(len, found))) > _NAME:
        raise SymbolsError("a name in kallsyms is too long", found=longest, expected=_NAME)
    return found
