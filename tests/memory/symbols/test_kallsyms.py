"""Kallsyms of a hostile guest, in both layouts: told apart by structure, accepted only where all of it agrees."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelbuilder import LINK, make_kallsyms

from workbench.errors import SymbolsError
from workbench.memory.symbols.kallsyms import Kallsyms, find_digits, parse_kallsyms
from workbench.memory.symbols.sources import Sources

PADDING = 4096
SYMBOLS = [
    (0, "A__per_cpu_start"),
    (0x1F000, "Acpu_number"),
    (LINK, "T_text"),
    *((LINK + 0x100 * number, f"tf_{number}") for number in range(1, 700)),
    (LINK + 0x200000, "Dlong_" + "x" * 300),
    (LINK + 0x300000, "B_end"),
]
LAYOUTS = pytest.mark.parametrize("layout", ["A", "B"])


def _parse(content: bytes, digits: int) -> Kallsyms:
    return parse_kallsyms(bytes(PADDING) + content + bytes(PADDING), digits + PADDING)


@LAYOUTS
@pytest.mark.parametrize("sequences", [True, False])
def test_symbols_come_out_as_they_went_in(layout: str, sequences: bool) -> None:
    found = _parse(*make_kallsyms(SYMBOLS, layout, shift=0x1000000, sequences=sequences))
    assert found.layout == layout
    assert found.relative_base == LINK + 0x1000000
    assert found.symbols(LINK) == [(address, name[0], name[1:]) for address, name in SYMBOLS]


@LAYOUTS
def test_addresses_as_found_are_moved_and_those_of_per_cpu_variables_are_not(layout: str) -> None:
    found = _parse(*make_kallsyms(SYMBOLS, layout, shift=0x1000000))
    assert found.find(frozenset({"_text", "cpu_number", "nothing"})) == {
        "_text": LINK + 0x1000000,
        "cpu_number": 0x1F000,
    }


@LAYOUTS
def test_offsets_without_absolute_ones_are_all_moved(layout: str) -> None:
    symbols = [each for each in SYMBOLS if each[0] >= LINK]
    found = _parse(*make_kallsyms(symbols, layout, absolute=False))
    assert found.symbols(LINK) == [(address, name[0], name[1:]) for address, name in symbols]


@LAYOUTS
def test_places_of_the_tables_are_told(layout: str) -> None:
    content, digits = make_kallsyms(SYMBOLS, layout)
    found = parse_kallsyms(content, digits)
    assert content[found.places["kallsyms_num_syms"] :][:4] == len(SYMBOLS).to_bytes(4, "little")
    assert content[found.places["kallsyms_names"] + 1 :].startswith(b"A__per_cpu_start")
    assert content[found.places["kallsyms_relative_base"] :][:8] == LINK.to_bytes(8, "little")
    assert content[found.places["kallsyms_token_table"] :].startswith(b"_x\0")
    assert "kallsyms_seqs_of_names" in found.places
    assert found.span == (0, len(content)) or found.span[1] <= len(content)


@LAYOUTS
def test_the_span_holds_all_that_is_needed(layout: str) -> None:
    content, digits = make_kallsyms(SYMBOLS, layout)
    first, last = parse_kallsyms(bytes(800) + content + bytes(800), digits + 800).span
    narrow = (bytes(800) + content + bytes(800))[first:last]
    again = parse_kallsyms(narrow, digits + 800 - first)
    assert again.names == parse_kallsyms(content, digits).names


def test_the_demo_kernel_re_laid_in_the_later_layout_gives_the_same_symbols(file_sources: Sources) -> None:
    symbols = file_sources.kallsyms.symbols(LINK)
    content, digits = make_kallsyms([(address, kind + name) for address, kind, name in symbols], "B")
    found = parse_kallsyms(content, digits)
    assert (found.layout, file_sources.kallsyms.layout) == ("B", "A")
    assert found.symbols(LINK) == symbols


def test_the_demo_kernel_has_the_symbols_that_every_kernel_has(file_sources: Sources) -> None:
    symbols = {name: address for address, _, name in file_sources.kallsyms.symbols(LINK)}
    assert len(symbols) > 50_000
    assert symbols["_text"] == LINK
    assert symbols["_text"] < symbols["linux_banner"] < symbols["_end"]


@LAYOUTS
@pytest.mark.parametrize("table", ["markers", "names", "num_syms", "relative_base", "offsets"])
def test_one_wrong_byte_in_a_table_and_none_of_it_is_believed(layout: str, table: str) -> None:
    content, digits = make_kallsyms(SYMBOLS, layout)
    place = parse_kallsyms(content, digits).places[f"kallsyms_{table}"]
    changed = bytearray(content)
    changed[place + 7 if table == "relative_base" else place + 3] ^= 0x55
    if table == "names":
        changed[place] ^= 1  # a name's length
    with pytest.raises(SymbolsError, match="has a layout that we know"):
        parse_kallsyms(bytes(changed), digits)


def test_digits_without_a_token_table_are_refused() -> None:
    content = bytes(64) + b"0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0" + bytes(4096)
    digits = next(find_digits(content))
    with pytest.raises(SymbolsError, match="no token table"):
        parse_kallsyms(content, digits)


@LAYOUTS
def test_what_is_cut_off_is_refused(layout: str) -> None:
    content, digits = make_kallsyms(SYMBOLS, layout, sequences=False)
    for end in range(digits + 20, len(content), 97):
        with pytest.raises(SymbolsError):
            parse_kallsyms(content[:end], digits)


def test_names_walked_in_vain_are_bounded() -> None:
    """Every word before the token table looks like a count with names behind it, and every base is a kernel's."""
    content, digits = make_kallsyms(SYMBOLS)
    table = parse_kallsyms(content, digits).places["kallsyms_token_table"]
    trap = (b"\x07A\xff\xff\xff\xff\xff\xff" + b"\x07A\x01\0\0\0\0\0") * 100_000
    with pytest.raises(SymbolsError, match="has a layout that we know"):
        parse_kallsyms(trap + content[table:], digits - table + len(trap))


@settings(max_examples=150)
@given(st.sampled_from("AB"), st.lists(st.tuples(st.integers(0, 19_999), st.integers(0, 255)), min_size=1, max_size=5))
def test_changed_bytes_are_read_or_refused(layout: str, changes: list[tuple[int, int]]) -> None:
    content, digits = make_kallsyms(SYMBOLS, layout)
    changed = bytearray(content)
    for at, value in changes:
        changed[at % len(changed)] = value
    with suppress(SymbolsError):
        parse_kallsyms(bytes(changed), digits)


@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_garbage_is_refused(garbage: bytes, place: int) -> None:
    with pytest.raises(SymbolsError):
        parse_kallsyms(garbage, min(place, len(garbage)))


def test_flipped_bytes_of_the_demo_kernel_are_read_or_refused(file_sources: Sources) -> None:
    content = bytearray(make_kallsyms([(a, k + n) for a, k, n in file_sources.kallsyms.symbols(LINK)][:20_000], "A")[0])
    digits = next(find_digits(bytes(content)))
    chance = random.Random(1)
    for _ in range(30):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 3, 100))):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        with suppress(SymbolsError):
            parse_kallsyms(bytes(changed), digits)
