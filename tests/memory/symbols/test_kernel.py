"""The kernel in physical memory: found wherever it lies, and never guessed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from kernelbuilder import BANNER, LINK, FakeMemory, MadeKernel, make_kallsyms, small_btf
from numpy.typing import NDArray

from workbench.errors import SymbolsError
from workbench.memory.symbols.c_kallsyms import DIGITS
from workbench.memory.symbols.kernel import Kernel, find_kernel, read_sources, still_there
from workbench.memory.symbols.sources import Sources
from workbench.memory.symbols.walk import translate

LAYOUTS = pytest.mark.parametrize("layout", ["A", "B"])


@LAYOUTS
@pytest.mark.parametrize("levels", [4, 5])
def test_what_was_planted_is_found(layout: str, levels: int) -> None:
    made = MadeKernel(layout, levels=levels)
    found = find_kernel(made.memory())
    assert found.banner == BANNER
    assert found.release == "6.1.0-made-up"
    assert (found.shift, found.delta) == (made.shift, made.delta)
    assert found.page_table_root == made.physical + 0x300000
    assert found.levels == levels
    assert found.vmcoreinfo == "agrees"
    assert (found.banner_at, found.btf_at) == (made.physical + 0x1FFFE0, made.physical + 0x400000)


def test_the_demo_kernel_is_found_where_it_was_laid_out(
    booted: tuple[FakeMemory, int, int], file_sources: Sources
) -> None:
    memory, shift, delta = booted
    found = find_kernel(memory)
    assert (found.shift, found.delta, found.levels) == (shift, delta, 4)
    assert found.banner == file_sources.banner
    assert found.build == file_sources.build


def test_a_kernel_without_shift_and_far_up_in_memory_is_found() -> None:
    made = MadeKernel(shift=0, physical=0x1_4000_0000)
    assert (find_kernel(made.memory()).shift, find_kernel(made.memory()).delta) == (0, made.delta)


def test_runs_may_cut_through_anything() -> None:
    class Cut(FakeMemory):
        def runs(self, *, most: int = 4096) -> Iterator[tuple[int, NDArray[np.uint8]]]:
            for address, content in super().runs(most=4096):
                yield address, content[:13]
                yield address + 13, content[13:]

    made = MadeKernel()
    assert find_kernel(Cut(made.parts())) == find_kernel(made.memory())


def test_memory_behind_the_kernel_is_not_read() -> None:
    made = MadeKernel()
    memory = FakeMemory({**made.parts(), 0x4000_0000: b"\xaa" * (64 << 20)})
    find_kernel(memory)
    assert memory.bytes_read < 64 << 20


def test_a_kernel_goes_through_json() -> None:
    found = find_kernel(MadeKernel().memory())
    assert Kernel.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "changed",
    [
        {"banner_at": -1}, {"banner_at": 1 << 60}, {"banner_at": "0"}, {"banner_at": True}, {"btf_length": 1 << 40},
        {"kallsyms_length": 0}, {"levels": 3}, {"build": "*"}, {"build": "../" * 8 + "abcdefgh"}, {"release": 6},
        {"vmcoreinfo": "perhaps"}, {"banner": ""}, {"banner": "x" * 5000}, {"more": 1},
    ],
)  # fmt: skip
def test_a_record_that_someone_changed_is_held_against_what_may_be(changed: dict[str, object]) -> None:
    record = json.loads(find_kernel(MadeKernel().memory()).to_json())
    with pytest.raises(SymbolsError, match="not a kernel's record"):
        Kernel.from_json(json.dumps({**record, **changed}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"banner": 1}', '{"banner": "x"}'])
def test_what_is_no_kernels_record_is_refused(text: str) -> None:
    with pytest.raises(SymbolsError, match="not a kernel's record"):
        Kernel.from_json(text)


def test_a_kernel_found_once_is_known_again_in_the_next_capture() -> None:
    made = MadeKernel()
    memory = made.memory()
    found = find_kernel(memory)
    memory.write(made.physical + 0x304000, b"something else changed")
    assert still_there(memory, found)


def test_another_boot_or_another_kernel_is_not_taken_for_it() -> None:
    made = MadeKernel()
    found = find_kernel(made.memory())
    assert not still_there(MadeKernel(physical=0x07000000).memory(), found)
    assert not still_there(MadeKernel(shift=0x10000000).memory(), found)
    assert not still_there(MadeKernel(banner=BANNER.replace(b"6.1", b"6.2")).memory(), found)
    assert not still_there(FakeMemory({0: bytes(4096)}), found)


def test_one_build_has_one_key_and_another_has_another() -> None:
    build = find_kernel(MadeKernel().memory()).build
    assert find_kernel(MadeKernel(shift=0, physical=0x10000000, levels=5).memory()).build == build
    assert find_kernel(MadeKernel("B").memory()).build != build
    assert find_kernel(MadeKernel(banner=BANNER.replace(b"#1", b"#2")).memory()).build != build
    assert find_kernel(MadeKernel(more=((LINK + 16, "tone_more"),)).memory()).build != build
    assert find_kernel(MadeKernel(btf=small_btf().replace(b"tgid", b"tgie")).memory()).build != build


def test_sources_that_changed_since_are_refused() -> None:
    made = MadeKernel()
    memory = made.memory()
    found = find_kernel(memory)
    memory.write(found.btf_at + found.btf_length - 5, b"x")
    with pytest.raises(SymbolsError, match="changed since"):
        read_sources(memory, found)
    with pytest.raises(SymbolsError, match="not in memory any more"):
        read_sources(FakeMemory({0: bytes(4096)}), found)


class TestSeveralKernels:
    """A reboot leaves things behind; only what the page tables map is a kernel."""

    def test_a_leftover_whose_page_tables_are_gone_is_passed_over(self) -> None:
        old, new = MadeKernel(physical=0x02000000, mapped=False), MadeKernel(physical=0x08000000, shift=0x8000000)
        found = find_kernel(FakeMemory({**old.parts(), **new.parts()}))
        assert (found.delta, found.shift) == (new.delta, new.shift)

    def test_a_whole_leftover_whose_tasks_are_gone_is_passed_over(self) -> None:
        old = MadeKernel(physical=0x02000000, running=False)
        new = MadeKernel(physical=0x08000000, shift=0x8000000)
        assert find_kernel(FakeMemory({**old.parts(), **new.parts()})).delta == new.delta

    def test_one_of_which_nothing_says_that_it_runs_is_taken_where_there_is_no_other(self) -> None:
        made = MadeKernel(running=False)
        assert find_kernel(made.memory()) == find_kernel(MadeKernel().memory())
        without = MadeKernel(without=frozenset({"init_task"}))
        assert find_kernel(without.memory()).delta == without.delta

    def test_a_copy_whose_page_tables_map_the_original_is_passed_over(self) -> None:
        original = MadeKernel(physical=0x08000000)
        ((_, content),) = original.parts().items()
        found = find_kernel(FakeMemory({0x02000000: content, 0x08000000: content}))
        assert found.delta == original.delta

    def test_banners_in_logs_and_digits_in_strings_do_not_matter(self) -> None:
        made = MadeKernel()
        noise = (BANNER + b"0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0" + bytes(100)) * 200
        memory = FakeMemory({0x1000: noise + bytes(-len(noise) % 4096), **made.parts()})
        assert find_kernel(memory).delta == made.delta


class TestHostileMemory:
    """A guest may fill its memory with what we look for: an answer or an error comes all the same, and soon."""

    SIZE = 8 << 20

    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("pattern", [DIGITS, BANNER, BANNER + DIGITS + b"\0\0"])
    def test_filled_with_patterns(self, pattern: bytes) -> None:
        memory = FakeMemory({0: (pattern * (self.SIZE // len(pattern) + 1))[: self.SIZE]})
        with pytest.raises(SymbolsError):
            find_kernel(memory)

    @pytest.mark.timeout(600)
    def test_filled_with_whole_tables(self) -> None:
        content, _ = make_kallsyms(MadeKernel().symbols())
        memory = FakeMemory({0: BANNER.ljust(4096, b"\0") + content.ljust(32 << 10, b"\0") * 128})
        with pytest.raises(SymbolsError, match="no banner where it says") as refusal:
            find_kernel(memory)
        assert "32 token tables" in str(refusal.value.facts["found"])

    @pytest.mark.timeout(600)
    def test_filled_with_token_tables_behind_names_without_end(self) -> None:
        content, digits = make_kallsyms(MadeKernel().symbols(), "B")
        tokens = content[digits - 500 - (digits - 500) % 8 :][:2600].ljust(4096, b"\0")
        trap = b"\x07A\xff\xff\xff\xff\xff\xff" + b"\x07A\x01\0\0\0\0\0"
        memory = FakeMemory({0: BANNER.ljust(4096, b"\0") + trap * (1 << 15) + tokens * 500})
        with pytest.raises(SymbolsError):
            find_kernel(memory)

    def test_flipped_bits_of_a_kernel_are_an_answer_or_a_refusal(self) -> None:
        parts = MadeKernel().parts()
        chance = random.Random(2)
        for _ in range(60):
            memory = FakeMemory(parts)
            for content in memory.parts.values():
                for _ in range(200):
                    place = chance.choice((0x1FFFE0, 0x300000, 0x400000, 0x600000)) + chance.randrange(0x4000)
                    content[place] ^= 1 << chance.randrange(8)
            with suppress(SymbolsError):
                read_sources(memory, find_kernel(memory)).isf()


class TestRefusals:
    """Each says what was looked for and what was missing."""

    def test_memory_without_linux(self) -> None:
        memory = FakeMemory({0: b"not a penguin anywhere ".ljust(8192, b"\1")})
        with pytest.raises(SymbolsError, match="not a Linux kernel") as refusal:
            find_kernel(memory)
        assert "banner" in str(refusal.value.facts["missing"])

    def test_empty_memory(self) -> None:
        with pytest.raises(SymbolsError, match="not a Linux kernel"):
            find_kernel(FakeMemory({}))

    def test_a_banner_without_kallsyms(self) -> None:
        with pytest.raises(SymbolsError, match="without kallsyms"):
            find_kernel(FakeMemory({0: BANNER.ljust(4096, b"\0")}))

    @pytest.mark.parametrize("table", ["relative_base", "num_syms", "markers"])
    def test_kallsyms_in_an_unknown_layout(self, table: str) -> None:
        memory = MadeKernel().memory()
        found = find_kernel(memory)
        place = read_sources(memory, found).kallsyms.places[f"kallsyms_{table}"]
        memory.write(found.kallsyms_at + place, b"\1" + bytes(7))
        with pytest.raises(SymbolsError, match="layout that we know"):
            find_kernel(memory)

    @pytest.mark.parametrize(
        ("without", "message"),
        [
            ("__start_BTF", "CONFIG_DEBUG_INFO_BTF"),
            ("__stop_BTF", "CONFIG_DEBUG_INFO_BTF"),
            ("init_top_pgt", "without the kernel's page tables"),
            ("linux_banner", "no banner where it says"),
            ("_text", "without the start of the kernel"),
        ],
    )
    def test_kallsyms_without_a_symbol_that_is_needed(self, without: str, message: str) -> None:
        with pytest.raises(SymbolsError, match=message):
            find_kernel(MadeKernel(without=frozenset({without})).memory())

    def test_no_btf_where_it_should_be(self) -> None:
        made = MadeKernel()
        memory = made.memory()
        memory.write(made.physical + 0x400000, b"\0\0\0\0")
        with pytest.raises(SymbolsError, match="no BTF where kallsyms says"):
            find_kernel(memory)

    def test_btf_outside_of_memory(self) -> None:
        made = MadeKernel(more=((LINK + (32 << 20), "D__stop_BTF"),), without=frozenset({"__stop_BTF"}))
        with pytest.raises(SymbolsError, match="outside of memory"):
            find_kernel(made.memory())

    def test_btf_of_an_impossible_length(self) -> None:
        made = MadeKernel(more=((LINK + (512 << 20), "D__stop_BTF"),), without=frozenset({"__stop_BTF"}))
        with pytest.raises(SymbolsError, match="impossible length"):
            find_kernel(made.memory())

    def test_page_tables_that_do_not_map_it(self) -> None:
        with pytest.raises(SymbolsError, match="page tables do not map it"):
            find_kernel(MadeKernel(mapped=False).memory())

    def test_a_banner_without_an_end(self) -> None:
        with pytest.raises(SymbolsError, match="banner does not end"):
            find_kernel(MadeKernel(banner=BANNER[:-2] + b"x" * 2000).memory())

    def test_kallsyms_outside_of_its_kernel(self) -> None:
        made = MadeKernel(more=((LINK + 0x500000, "B_end"),), without=frozenset({"_end"}))
        with pytest.raises(SymbolsError, match="outside of the kernel"):
            find_kernel(made.memory())


class TestNote:
    """VMCOREINFO cross-checks, and decides nothing: page tables are what the processor went by."""

    @pytest.mark.parametrize(
        "said",
        [{"KERNELOFFSET": "1000000"}, {"NUMBER__phys_base": 0}, {"NUMBER__pgtable_l5_enabled": 1},
         {"SYMBOL__init_top_pgt": "ffffffff82000000"}],
    )  # fmt: skip
    def test_a_note_that_says_something_else_is_told(self, said: dict[str, object]) -> None:
        made = MadeKernel(noted=said)
        found = find_kernel(made.memory())
        assert found.vmcoreinfo == "differs"
        assert replace(found, vmcoreinfo="agrees") == find_kernel(MadeKernel().memory())

    @pytest.mark.parametrize("said", [{"KERNELOFFSET": "nonsense"}, {"KERNELOFFSET": "x" * 5000}])
    def test_a_note_that_cannot_be_read_is_no_note(self, said: dict[str, object]) -> None:
        assert find_kernel(MadeKernel(noted=said).memory()).vmcoreinfo == "absent"

    def test_a_kernel_without_a_note(self) -> None:
        made = MadeKernel(without=frozenset({"vmcoreinfo_note"}))
        assert find_kernel(made.memory()).vmcoreinfo == "absent"


class TestWalk:
    """Page tables are the guest's: they may point anywhere."""

    def test_what_is_not_mapped_or_outside_of_memory_has_no_place(self) -> None:
        memory = FakeMemory({0: bytes(4096)})
        assert translate(memory, 0, 4, LINK) is None
        assert translate(memory, 1 << 40, 4, LINK) is None

    def test_tables_that_point_to_themselves_end(self) -> None:
        memory = FakeMemory({0: (0x3).to_bytes(8, "little") * 512})
        assert translate(memory, 0, 5, LINK + 5) == 5

    def test_small_and_large_pages(self) -> None:
        memory = FakeMemory({0: bytes(4 * 4096)})
        for table in (0, 0x1000, 0x2000):
            memory.write(table, (table + 0x1003).to_bytes(8, "little"))
        memory.write(0x3000 + 8, (0x7000 | 1 | 1 << 63).to_bytes(8, "little"))
        assert translate(memory, 0, 4, 0x1234) == 0x7234
        memory.write(0x2000, (0x60_0000 | 0x81).to_bytes(8, "little"))
        assert translate(memory, 0, 4, 0x1234) == 0x60_1234
        memory.write(0x1000, (0x8000_0000 | 0x81).to_bytes(8, "little"))
        assert translate(memory, 0, 4, 0x1234) == 0x8000_1234
