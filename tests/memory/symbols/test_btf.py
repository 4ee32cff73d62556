"""BTF of a hostile guest: read right where it is right, and refused with a reason where it is not."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelbuilder import BtfBuilder, small_btf

from workbench.errors import SymbolsError
from workbench.memory.symbols.btf import CHAIN, parse_btf
from workbench.memory.symbols.c_btf import Kind
from workbench.memory.symbols.isf_types import IsfTypes
from workbench.memory.symbols.sources import Sources


def _with(offset: int, word: int, blob: bytes | None = None) -> bytes:
    changed = bytearray(small_btf() if blob is None else blob)
    struct.pack_into("<I", changed, offset, word)
    return bytes(changed)


def test_types_are_read_as_written() -> None:
    types = parse_btf(small_btf()).types
    task = types[2]
    assert (task.kind, task.name, task.size) == (Kind.STRUCT, "task_struct", 16)
    assert task.members == [("pid", 1, 0), ("tgid", 1, 32), ("next", 3, 64)]
    assert (types[3].kind, types[3].target) == (Kind.POINTER, 2)
    assert [member[:2] for member in types[6].members] == [("RUNNING", 0), ("DEAD", -1)]
    assert types[8].members == [("", 7, 0)]


def test_64_bit_enums_have_signed_and_unsigned_values() -> None:
    btf = BtfBuilder()
    words = [btf.name("low"), 0xFFFFFFFE, 0xFFFFFFFF]
    btf.add(Kind.ENUM64, "signed", 8, words, 1, flag=True)
    btf.add(Kind.ENUM64, "unsigned", 8, words, 1)
    types = parse_btf(btf.pack()).types
    assert types[1].members == [("low", -2, 0)]
    assert types[2].members == [("low", (1 << 64) - 2, 0)]


def test_the_demo_kernel_has_the_types_that_its_headers_say(file_sources: Sources) -> None:
    types = parse_btf(file_sources.btf).types
    by_name = {each.name: each for each in types if each.kind is Kind.STRUCT}
    assert len(types) > 50_000
    assert [name for name, _, _ in by_name["list_head"].members] == ["next", "prev"]
    assert by_name["list_head"].size == 16
    assert {"pid", "comm", "mm", "tasks"} <= {name for name, _, _ in by_name["task_struct"].members}


LAST = len(small_btf())


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "impossible length"),
        (b"\0" * 24, "not BTF"),
        (_with(0, 0x0002EB9F), "not BTF"),
        (_with(4, 1 << 30), "do not fit"),
        (_with(12, 0xFFFFFFFC), "do not fit"),
        (_with(16, 3), "do not fit"),
        (_with(20, 7), "do not fit"),
        (small_btf()[:-1], "do not fit"),
        (small_btf() + b"\0", "do not fit"),
        (small_btf()[:-1] + b"x", "begin and end with NUL"),
        (_with(28, 31 << 24), "unknown kind"),
        (_with(28, 0), "unknown kind"),
        (_with(28, Kind.STRUCT << 24 | 0xFFFF), "longer than the section"),
        (_with(24, 3), "not a string"),
        (_with(24, 0x7FFFFFFF), "not a string"),
        (_with(24 + 16 + 16, 4000), "refers to a type that is not there"),
    ],
)
def test_each_impossible_claim_is_refused(blob: bytes, message: str) -> None:
    with pytest.raises(SymbolsError, match=message):
        parse_btf(blob)


def test_a_refusal_tells_where_what_and_what_was_expected() -> None:
    with pytest.raises(SymbolsError) as refusal:
        parse_btf(_with(28, 31 << 24))
    assert refusal.value.facts == {"offset": 24, "found": 31, "expected": "1 to 19"}


def test_types_that_end_inside_one_are_refused() -> None:
    btf = BtfBuilder()
    btf.types = b"\0" * 8
    with pytest.raises(SymbolsError, match="ends inside a type"):
        parse_btf(btf.pack())


def test_a_long_name_is_refused() -> None:
    btf = BtfBuilder()
    btf.integer("x" * 5000, 4)
    with pytest.raises(SymbolsError, match="name in BTF is too long"):
        parse_btf(btf.pack())


def test_names_used_over_and_over_are_counted() -> None:
    btf = BtfBuilder()
    btf.integer("int", 4)
    at = btf.name("x" * 500)
    words = [word for number in range(60_000) for word in (at, 1, number)]
    for _ in range(3):
        btf.add(Kind.STRUCT, "s", 4, words, 60_000)
    with pytest.raises(SymbolsError, match="add up to too much"):
        parse_btf(btf.pack())


def test_an_enum_of_no_size_is_refused() -> None:
    btf = BtfBuilder()
    btf.add(Kind.ENUM, "e", 3)
    with pytest.raises(SymbolsError, match="enum of an impossible size"):
        parse_btf(btf.pack())


@pytest.mark.parametrize("kind", [Kind.TYPEDEF, Kind.CONST, Kind.POINTER])
def test_a_loop_of_types_ends_in_a_refusal(kind: Kind) -> None:
    btf = BtfBuilder()
    btf.add(kind, "a" if kind is Kind.TYPEDEF else "", 2)
    btf.add(kind, "b" if kind is Kind.TYPEDEF else "", 1)
    btf.struct("s", 8, ("loop", 1, 0))
    with pytest.raises(SymbolsError, match="too long or a loop"):
        IsfTypes(parse_btf(btf.pack()))


def test_a_long_chain_of_pointers_is_refused_and_a_short_one_is_not() -> None:
    for length, refused in ((CHAIN, False), (CHAIN + 1, True), (100_000, True)):
        btf = BtfBuilder()
        last = btf.integer("int", 4)
        for _ in range(length):
            last = btf.add(Kind.POINTER, last=last)
        btf.struct("s", 8, ("deep", last, 0))
        if refused:
            with pytest.raises(SymbolsError, match="too long or a loop"):
                IsfTypes(parse_btf(btf.pack()))
        else:
            assert IsfTypes(parse_btf(btf.pack())).user["s"]["fields"]["deep"]["type"]["kind"] == "pointer"


def test_copies_of_a_large_struct_under_many_names_are_counted() -> None:
    btf = BtfBuilder()
    number = btf.integer("int", 4)
    large = btf.struct("large", 4, *((f"f{each}", number, 0) for each in range(5000)))
    at = btf.name("t")
    for each in range(3000):
        btf.types += struct.pack("<III", at if each else 0, Kind.TYPEDEF << 24, large)
    btf.strings += b"".join(b"t%d\0" % each for each in range(3000))
    offset, changed = btf.strings.index(b"\0t0\0") + 1, bytearray(btf.types)
    for each in range(3000):
        struct.pack_into("<I", changed, len(changed) - 12 * (3000 - each), offset)
        offset = btf.strings.index(b"\0", offset) + 1
    btf.types = bytes(changed)
    with pytest.raises(SymbolsError, match="too large a table"):
        IsfTypes(parse_btf(btf.pack()))


@given(st.binary(max_size=300))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(SymbolsError):
        parse_btf(garbage)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, LAST - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    blob = bytearray(small_btf())
    for at, value in changes:
        blob[at] = value
    with suppress(SymbolsError):
        IsfTypes(parse_btf(bytes(blob)))


def test_flipped_bytes_of_the_demo_kernels_types_are_read_or_refused(file_sources: Sources) -> None:
    chance = random.Random(3)
    for count in (1, 1, 3, 30):
        blob = bytearray(file_sources.btf)
        for _ in range(count):
            blob[chance.randrange(len(blob))] ^= 1 << chance.randrange(8)
        with suppress(SymbolsError):
            IsfTypes(parse_btf(bytes(blob)))
