"""The symbol table: what Volatility needs is in it, and its bytes are a function of the kernel's build."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest
from kernelbuilder import BANNER, LINK, BtfBuilder, FakeMemory, MadeKernel, small_btf

from workbench.memory.symbols.btf import parse_btf
from workbench.memory.symbols.c_btf import Kind
from workbench.memory.symbols.isf import build_isf, global_types
from workbench.memory.symbols.isf_types import IsfTypes
from workbench.memory.symbols.kernel import find_kernel, read_sources
from workbench.memory.symbols.sources import Sources

Table = dict[str, Any]
SYMBOLS = [
    (LINK, "T", "_text"),
    (LINK + 8, "d", "init_task"),
    (LINK + 16, "R", "linux_banner"),
    (0, "A", "current_task"),
]


@cache
def _small() -> Table:
    return _table(small_btf(), SYMBOLS)


def _table(btf: bytes, symbols: list[tuple[int, str, str]]) -> Table:
    found: Table = json.loads(build_isf(parse_btf(btf), symbols, BANNER))
    return found


@pytest.fixture(scope="module")
def demo_table(file_sources: Sources) -> Table:
    """The table of the demo guest's kernel."""
    found: Table = json.loads(file_sources.isf())
    return found


def test_it_says_its_format_and_who_made_it_of_what() -> None:
    metadata = _small()["metadata"]
    assert metadata["format"] == "6.2.0"
    assert metadata["producer"]["name"] == "dwarf2json"  # hidden_modules asks for that name and at least 0.8.0
    assert all("rewind-workbench" in each["name"] for kind in metadata["linux"].values() for each in kind)


def test_structs_have_their_fields_at_their_bytes() -> None:
    task = _small()["user_types"]["task_struct"]
    assert (task["kind"], task["size"]) == ("struct", 16)
    assert task["fields"]["tgid"] == {"type": {"kind": "base", "name": "int"}, "offset": 4}
    pointer = {"kind": "pointer", "subtype": {"kind": "struct", "name": "task_struct"}}
    assert task["fields"]["next"] == {"type": pointer, "offset": 8}


def test_base_types_that_btf_lacks_are_there() -> None:
    base = _small()["base_types"]
    assert base["void"] == {"size": 0, "signed": False, "kind": "void", "endian": "little"}
    assert base["pointer"]["size"] == 8
    assert base["long unsigned int"] == {"size": 8, "signed": False, "kind": "int", "endian": "little"}


def test_enums_have_a_base_by_size_and_sign() -> None:
    assert _small()["enums"]["state"] == {"size": 4, "base": "int", "constants": {"RUNNING": 0, "DEAD": -1}}


def test_the_banner_is_there_as_bytes_with_its_end() -> None:
    banner = _small()["symbols"]["linux_banner"]
    assert base64.b64decode(banner["constant_data"]) == BANNER
    assert banner["type"] == {"kind": "array", "subtype": {"kind": "base", "name": "char"}, "count": len(BANNER)}


def test_variables_have_types_from_the_list_and_from_btf() -> None:
    symbols = _small()["symbols"]
    assert symbols["init_task"]["type"] == {"kind": "struct", "name": "task_struct"}
    assert symbols["current_task"]["type"]["kind"] == "pointer"


def test_a_variable_whose_struct_this_kernel_lacks_has_no_type() -> None:
    table = _table(small_btf(), [(LINK, "D", "modules")])
    assert table["symbols"]["modules"]["type"] == {"kind": "base", "name": "void"}


def test_timekeeping_is_known_by_its_shape() -> None:
    table = _table(small_btf(), [(LINK, "d", "tk_core")])
    name = table["symbols"]["tk_core"]["type"]["name"]
    assert set(table["user_types"][name]["fields"]) == {"seq", "timekeeper"}


def test_of_symbols_with_one_name_a_global_one_wins_else_the_first() -> None:
    both = [(LINK, "t", "f"), (LINK + 1, "T", "f"), (LINK + 2, "T", "f"), (LINK + 3, "t", "g"), (LINK + 4, "t", "g")]
    symbols = _table(small_btf(), both)["symbols"]
    assert (symbols["f"]["address"], symbols["g"]["address"]) == (LINK + 1, LINK + 3)


def test_an_anonymous_struct_has_its_typedefs_names() -> None:
    btf = BtfBuilder()
    number = btf.integer("int", 4, 1)
    nameless = btf.struct("", 4, ("counter", number, 0))
    for name in ("atomic_t", "also_t"):
        btf.add(Kind.TYPEDEF, name, nameless)
    btf.struct("s", 8, ("a", nameless, 0), ("", nameless, 32))
    user = IsfTypes(parse_btf(btf.pack())).user
    assert user["atomic_t"] == user["also_t"]
    assert user["s"]["fields"]["a"]["type"] == {"kind": "struct", "name": "atomic_t"}
    assert user["s"]["fields"]["unnamed_field_0"]["anonymous"] is True


def test_a_typedef_of_a_named_struct_is_a_name_of_it_too() -> None:
    btf = BtfBuilder()
    number = btf.integer("int", 4, 1)
    named = btf.struct("elf64_hdr", 4, ("e_type", number, 0))
    btf.add(Kind.TYPEDEF, "Elf64_Ehdr", btf.add(Kind.CONST, last=named))
    user = IsfTypes(parse_btf(btf.pack())).user
    assert user["Elf64_Ehdr"] == user["elf64_hdr"]


def test_of_structs_with_one_name_the_first_keeps_it() -> None:
    btf = BtfBuilder()
    number = btf.integer("int", 4, 1)
    btf.struct("twice", 4, ("first", number, 0))
    second = btf.struct("twice", 8, ("second", number, 0))
    btf.struct("s", 8, ("a", second, 0))
    user = IsfTypes(parse_btf(btf.pack())).user
    assert set(user["twice"]["fields"]) == {"first"}
    assert set(user[user["s"]["fields"]["a"]["type"]["name"]]["fields"]) == {"second"}


def test_bit_fields_lie_in_units_of_their_type() -> None:
    btf = BtfBuilder()
    word = btf.integer("unsigned int", 4)
    btf.struct("flags", 8, ("plain", word, 0), ("low", word, 3 << 24 | 32), ("high", word, 5 << 24 | 50), flag=True)
    fields = IsfTypes(parse_btf(btf.pack())).user["flags"]["fields"]
    assert fields["plain"] == {"type": {"kind": "base", "name": "unsigned int"}, "offset": 0}
    assert (fields["low"]["offset"], fields["low"]["type"]["bit_position"], fields["low"]["type"]["bit_length"]) == (
        4,
        0,
        3,
    )
    assert (fields["high"]["offset"], fields["high"]["type"]["bit_position"]) == (4, 18)


def test_arrays_unions_functions_and_forward_declarations_are_described() -> None:
    btf = BtfBuilder()
    number = btf.integer("int", 4, 1)
    array = btf.add(Kind.ARRAY, words=[number, number, 7])
    arrays = btf.add(Kind.ARRAY, words=[array, number, 3])
    function = btf.add(Kind.POINTER, last=btf.add(Kind.PROTOTYPE, last=number, words=[0, number], vlen=1))
    forward = btf.add(Kind.FORWARD, "later", flag=True)
    union = btf.add(Kind.UNION, "either", 4, [btf.name("x"), number, 0], 1)
    members = (("a", arrays, 0), ("f", function, 96), ("l", forward, 160), ("u", union, 160), ("v", 0, 0))
    btf.struct("s", 24, *members)
    fields = {name: each["type"] for name, each in IsfTypes(parse_btf(btf.pack())).user["s"]["fields"].items()}
    inner = {"kind": "array", "subtype": {"kind": "base", "name": "int"}, "count": 7}
    assert fields["a"] == {"kind": "array", "subtype": inner, "count": 3}
    assert fields["f"] == {"kind": "pointer", "subtype": {"kind": "function"}}
    assert (fields["l"], fields["u"]) == ({"kind": "union", "name": "later"}, {"kind": "union", "name": "either"})
    assert fields["v"] == {"kind": "base", "name": "void"}


def test_the_list_of_variables_is_in_cs_words() -> None:
    types = global_types()
    assert types["registered_fb"] == {
        "kind": "array", "count": 32, "subtype": {"kind": "pointer", "subtype": {"kind": "struct", "name": "fb_info"}},
    }  # fmt: skip
    assert types["mem_section"]["subtype"]["kind"] == "pointer"
    assert len(types) > 90


def test_the_tables_of_kallsyms_are_symbols_too() -> None:
    made = MadeKernel()
    memory = made.memory()
    symbols = json.loads(read_sources(memory, find_kernel(memory)).isf())["symbols"]
    assert symbols["kallsyms_offsets"]["address"] == LINK + 0x600000
    assert symbols["kallsyms_names"]["type"]["kind"] == "array"
    tables = {name for name in symbols if name.startswith("kallsyms_")}
    assert len(tables) == 8


def test_memory_and_file_give_the_same_bytes(booted: tuple[FakeMemory, int, int], file_sources: Sources) -> None:
    memory, _, _ = booted
    assert read_sources(memory, find_kernel(memory)).isf() == file_sources.isf()


@pytest.mark.parametrize("layout", ["A", "B"])
def test_two_boots_give_the_same_bytes(layout: str) -> None:
    boots = [MadeKernel(layout).memory(), MadeKernel(layout, shift=0x8000000, physical=0x10000000, levels=5).memory()]
    first, second = (read_sources(memory, find_kernel(memory)).isf() for memory in boots)
    assert first == second


class TestDemoKernel:
    """The table of a real kernel."""

    def test_every_name_that_is_referred_to_is_there_or_only_declared(
        self, demo_table: Table, file_sources: Sources
    ) -> None:
        declared = {each.name for each in parse_btf(file_sources.btf).types if each.kind is Kind.FORWARD}
        for name in set(_named(demo_table["user_types"])) | set(_named(demo_table["symbols"])):
            kind, _, text = name.partition(" ")
            section = {"base": "base_types", "enum": "enums"}.get(kind, "user_types")
            assert text in demo_table[section] or text in declared, name

    def test_what_plugins_start_from_has_a_type(self, demo_table: Table) -> None:
        for name in (
            "init_task",
            "modules",
            "mod_tree",
            "prb",
            "idt_table",
            "iomem_resource",
            "tk_core",
            "net_namespace_list",
        ):
            assert demo_table["symbols"][name]["type"] != {"kind": "base", "name": "void"}, name

    def test_names_by_typedef_are_there(self, demo_table: Table) -> None:
        assert {"Elf64_Ehdr", "Elf64_Sym", "atomic_t", "pgd_t"} <= set(demo_table["user_types"])


def _named(table: Table) -> list[str]:
    """Return all types that are named anywhere in a section."""
    pending, found = list(table.values()), []
    while pending:
        each = pending.pop()
        if "name" in each and isinstance(each.get("kind"), str):
            found.append(f"{each['kind']} {each['name']}")
        pending += [value for value in each.values() if isinstance(value, dict)]
    return found
