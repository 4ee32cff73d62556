"""Where memory is: QEMU's words parsed, held against the kernel's, and true for real guests of several shapes."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import until

from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import GuestError, GuestGoneError
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.memory import MemoryBlock, MemoryMap, memory_signature, read_memory_map
from workbench.guest.mtree import parse_blocks, parse_ranges
from workbench.guest.process import HeldProcess, Vma, covering
from workbench.model import PAGE

RAMBLOCK_72 = (
    "              Block Name    PSize              Offset               Used              Total\r\n"
    "                  pc.ram    4 KiB  0x0000000000000000 0x0000000008000000 0x0000000008000000\r\n"
    "   0000:00:01.0/vga.vram    2 MiB  0x00000000c00c0000 0x0000000001000000 0x0000000002000000\r\n"
    "0000:00:02.0:00.0/virtio-net-pci.rom    4 KiB  0x00000000c0080000 0x0000000000040000 0x0000000000040000\r\n"
)
RAMBLOCK_80 = (
    "              Block Name    PSize              Offset               Used              Total       HVA  RO\n"
    "                  pc.ram    1 GiB  0x0000000000000000 0x0000000008000000 0x0000000008000000 0x7f0000000000 rw\n"
    "                 pc.bios    4 KiB  0x00000000c0000000 0x0000000000040000 0x0000000000040000 0x7f1000000000 ro\n"
)
MTREE = """address-space: VGA
  0000000000000000-ffffffffffffffff (prio 0, i/o): bus master container

address-space: cpu-smm-0
  0000000000000000-ffffffffffffffff (prio 0, i/o): memory
    0000000000000000-ffffffffffffffff (prio 0, ram): alias everything @pc.ram 0000000000000000-ffffffffffffffff

address-space: cpu-memory-0
address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
    0000000000000000-0000000007ffffff (prio 0, ram): alias low @pc.ram 0000000000000000-0000000007ffffff
    0000000000000000-ffffffffffffffff (prio -1, i/o): pci
      00000000000a0000-00000000000bffff (prio 1, i/o): cards
        00000000000a0000-00000000000affff (prio 0, ram): alias bank @vga.vram 0000000000010000-000000000001ffff
      00000000fc000000-00000000fcffffff (prio 1, ramd): 0000:01:00.0 BAR 0 mmaps[0]
      00000000fd000000-00000000fdffffff (prio 1, i/o): alias bridge @bus 00000000fd000000-00000000fdffffff
      00000000fe000000-00000000fe000fff (prio 1, i/o): registers
    00000000000a0000-00000000000bffff (prio 1, i/o): alias smram @pci 00000000000a0000-00000000000bffff
    00000000000c0000-00000000000c3fff (prio 1, ram): alias pam-rom @pc.ram 00000000000c0000-00000000000c3fff
    00000000000c2000-00000000000c2fff (prio 9, i/o): registers
    00000000000c4000-00000000000c7fff (prio 1, rom): alias off @pc.ram 00000000000c4000-00000000000c7fff [disabled]
    00000000000c8000-00000000000cbfff (prio 1, i/o): off [disabled]
      00000000000c8000-00000000000c8fff (prio 1, ram): off too
    0000000100000000-000000010fffffff (prio 0, nv-ram): /objects/nvdimm0

memory-region: pc.ram
  0000000000000000-0000000007ffffff (prio 0, ram): pc.ram

memory-region: vga.vram
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram

memory-region: bus
  0000000000000000-ffffffffffffffff (prio 0, i/o): bus

memory-region: bus
  0000000000000000-ffffffffffffffff (prio 0, i/o): bus
    00000000fd000000-00000000fd00000f (prio 1, romd): system.flash0
    00000000fdff0000-00000000fe00ffff (prio 1, ram): reaches out

memory-region: pci
  0000000000000000-ffffffffffffffff (prio -1, i/o): pci
    00000000000a0000-00000000000bffff (prio 1, i/o): cards
      00000000000a0000-00000000000affff (prio 0, ram): alias bank @vga.vram 0000000000010000-000000000001ffff

"""


def test_blocks_of_a_qemu_that_prints_no_addresses() -> None:
    assert parse_blocks(RAMBLOCK_72) == {
        "pc.ram": (0x8000000, 0),
        "0000:00:01.0/vga.vram": (0x1000000, 0),
        "0000:00:02.0:00.0/virtio-net-pci.rom": (0x40000, 0),
    }


def test_blocks_of_a_qemu_that_prints_addresses() -> None:
    assert parse_blocks(RAMBLOCK_80) == {"pc.ram": (0x8000000, 0x7F0000000000), "pc.bios": (0x40000, 0x7F1000000000)}


@pytest.mark.parametrize("text", [MTREE, MTREE.replace("\n", "\r\n")])
def test_the_flat_view_of_memory_is_worked_out_of_the_tree(text: str) -> None:
    assert [tuple(each) for each in parse_ranges(text)] == [
        (0, 0xA0000, "pc.ram", 0, False),
        (0xA0000, 0x10000, "vga.vram", 0x10000, False),
        (0xB0000, 0x10000, "pc.ram", 0xB0000, False),
        (0xC0000, 0x2000, "pc.ram", 0xC0000, True),
        (0xC3000, 0x1000, "pc.ram", 0xC3000, True),
        (0xC4000, 0x7F3C000, "pc.ram", 0xC4000, False),
        (0xFD000000, 0x10, "system.flash0", 0, True),
        (0xFDFF0000, 0x10000, "reaches out", 0, False),
        (0x100000000, 0x10000000, "/objects/nvdimm0", 0, False),
    ]


def test_regions_without_end_are_refused() -> None:
    circle = f"memory-region: a\n  {0:016x}-{9:016x} (prio 0, i/o): alias b @a {0:016x}-{9:016x}\n"
    with pytest.raises(GuestError, match="more memory regions"):
        parse_ranges(
            f"address-space: memory\n  {0:016x}-{9:016x} (prio 0, i/o): alias b @a {0:016x}-{9:016x}\n\n{circle}"
        )
    many = f"memory-region: a\n  {0:016x}-{9:016x} (prio 0, ram): a\n\n" * 150
    line = f"  {0:016x}-{9:016x} (prio 0, i/o): alias b @a {0:016x}-{9:016x}\n"
    with pytest.raises(GuestError, match="more memory regions"):
        parse_ranges(f"address-space: memory\n{line * 150}\n{many}")


@pytest.mark.parametrize(
    "text",
    ["", "unknown command", "address-space: I/O\n  0-1\n", MTREE.replace("ram)", "i/o)").replace("rom", "i/o")],
)
def test_words_without_memory_are_refused(text: str) -> None:
    with pytest.raises(GuestError):
        parse_ranges(text)
    with pytest.raises(GuestError):
        parse_blocks(text)


class Words:
    """A monitor that says what it was told to, about memory of this very process.

    `view` has start, length, region and offset of each range of the guest's memory, `at` the host address of each range
    by its start, `called` what the host addresses are said to be of, if not of what they are.
    """

    def __init__(self, blocks: dict[str, tuple[int, int]], view: list[tuple[int, int, str, int]]) -> None:
        self.blocks, self.view, self.asked = blocks, view, 0
        self.at: dict[int, int] = {}
        self.called = ""

    def human(self, line: str) -> str:
        if line == "info ramblock":
            rows = [f"{name} 4 KiB 0x0 {size:#x} {size:#x}" for name, (size, _hva) in self.blocks.items()]
            return "\n".join(["Block Name PSize Offset Used Total", *rows])
        if line == "info mtree":
            rows = [
                f"  {s:016x}-{s + n - 1:016x} (prio 0, ram): "
                + (f"alias part @{r} {o:016x}-{o + n - 1:016x}" if o else r)
                for s, n, r, o in self.view
            ]
            aliased = [
                f"\nmemory-region: {r}\n  {0:016x}-{1 << 40:016x} (prio 0, ram): {r}" for _, _, r, o in self.view if o
            ]
            return "\n".join(["address-space: memory", *rows, *aliased])
        self.asked += 1
        asked = int(line.split()[1], 16)
        for start, length, region, _ in self.view:
            if start <= asked < start + length:
                hva = self.at[start] + asked - start
                return f"Host virtual address for {asked:#x} ({self.called or region}) is {hva:#x}"
        return f"No memory is mapped at address {asked:#x}"

    def execute(self, command: str) -> Any:
        assert command == "query-pci"
        devices = [
            {"bus": 0, "slot": slot, "function": 0, "regions": [{"type": "memory", "address": slot << 24}]}
            for slot in (2, 3)
        ]
        return [{"bus": 0, "devices": devices}]


@pytest.fixture
def memory() -> Iterator[int]:
    """Give the address of 16 pages of this process."""
    area = mmap.mmap(-1, 16 * PAGE)
    view = ctypes.c_char.from_buffer(area)
    yield ctypes.addressof(view)
    del view
    area.close()


def fake(words: Words) -> Guest:
    return SimpleNamespace(name="fake", pid=os.getpid(), monitor=words)  # type: ignore[return-value]


def test_a_block_is_found_through_its_largest_range(memory: int) -> None:
    words = Words(
        {"ram": (8 * PAGE, 0), "hidden": (PAGE, 0)}, [(0, PAGE, "ram", 0), (1 << 32, 4 * PAGE, "ram", 4 * PAGE)]
    )
    words.at = {0: memory, 1 << 32: memory + 4 * PAGE}
    found = read_memory_map(fake(words))
    assert found.blocks == (MemoryBlock("ram", 8 * PAGE, memory),)
    assert found.unlocated == ("hidden",)
    assert [(r.start, r.block, r.offset) for r in found.ranges] == [(0, "ram", 0), (1 << 32, "ram", 4 * PAGE)]
    assert found.signature == memory_signature(fake(words))


def test_a_size_that_is_no_multiple_of_pages(memory: int) -> None:
    words = Words({"rom": (PAGE + 100, 0)}, [(0, PAGE + 100, "rom", 0)])
    words.at = {0: memory}
    (block,) = read_memory_map(fake(words)).blocks
    assert (block.size, block.pages, block.end) == (PAGE + 100, 2, memory + PAGE + 100)


@pytest.mark.parametrize("wrong", [0x1000, 0x7FFFFFFF0000000])
def test_an_address_that_the_kernel_does_not_know_is_refused(wrong: int) -> None:
    words = Words({"ram": (8 * PAGE, 0)}, [(0, 8 * PAGE, "ram", 0)])
    words.at = {0: wrong}
    with pytest.raises(GuestError, match="hold still"):
        read_memory_map(fake(words))


def test_an_answer_about_another_block_is_refused(memory: int) -> None:
    words = Words({"ram": (8 * PAGE, 0)}, [(0, 8 * PAGE, "ram", 0)])
    words.at, words.called = {0: memory}, "evil"
    with pytest.raises(GuestError, match="hold still"):
        read_memory_map(fake(words))
    assert words.asked == 5


def test_a_view_that_is_not_the_one_qemu_has_is_refused(memory: int) -> None:
    """The block is where it was said to be, and yet its second half is not what the guest sees there."""
    words = Words({"ram": (8 * PAGE, 0)}, [(0, 4 * PAGE, "ram", 0), (1 << 20, 3 * PAGE, "ram", 4 * PAGE)])
    words.at = {0: memory, 1 << 20: memory + 5 * PAGE}
    with pytest.raises(GuestError, match="hold still"):
        read_memory_map(fake(words))


def test_blocks_that_overlap_are_refused(memory: int) -> None:
    words = Words({"a": (8 * PAGE, 0), "b": (8 * PAGE, 0)}, [(0, 8 * PAGE, "a", 0), (1 << 20, 8 * PAGE, "b", 0)])
    words.at = {0: memory, 1 << 20: memory + 4 * PAGE}
    with pytest.raises(Exception, match="share memory"):
        read_memory_map(fake(words))


def test_two_cards_of_a_kind_are_told_apart_by_their_bars(memory: int) -> None:
    names = {"0000:00:02.0/vga.vram": (4 * PAGE, 0), "0000:00:03.0/vga.vram": (4 * PAGE, 0)}
    words = Words(names, [(2 << 24, 4 * PAGE, "vga.vram", 0), (3 << 24, 4 * PAGE, "vga.vram", 0)])
    words.at = {2 << 24: memory, 3 << 24: memory + 8 * PAGE}
    found = read_memory_map(fake(words))
    assert {block.name: block.hva - memory for block in found.blocks} == dict(zip(names, (0, 8 * PAGE), strict=True))


def test_a_block_out_of_view_keeps_the_address_it_had(memory: int) -> None:
    words = Words({"ram": (PAGE, 0), "vram": (2 * PAGE, 0)}, [(0, PAGE, "ram", 0), (1 << 20, 2 * PAGE, "vram", 0)])
    words.at = {0: memory, 1 << 20: memory + PAGE}
    known = read_memory_map(fake(words))
    asked = words.asked
    assert read_memory_map(fake(words), known) is known
    assert words.asked == asked
    del words.view[1]
    assert read_memory_map(fake(words)).unlocated == ("vram",)
    assert read_memory_map(fake(words), known).blocks == known.blocks


def test_the_map_survives_json() -> None:
    before = MemoryMap((MemoryBlock("ram", 5, 4096),), (), ("rom",), "abc")
    assert MemoryMap.from_json(json.loads(json.dumps(before.to_json()))) == before
    for damaged in ({}, {**before.to_json(), "blocks": [["ram", 1]]}, {**before.to_json(), "ranges": 7}):
        with pytest.raises(GuestError):
            MemoryMap.from_json(damaged)


def test_mappings_with_a_hole_or_without_access_hold_nothing() -> None:
    rows = [(0, 10, "rw-p"), (10, 20, "r--p"), (20, 30, "---p"), (40, 50, "rw-s")]
    vmas = [Vma(start, end, permissions, 0, "00:00", 0, "") for start, end, permissions in rows]
    assert covering(vmas, 3, 20) == tuple(vmas[:2])
    assert covering(vmas, 15, 25) == covering(vmas, 25, 45) == covering(vmas, 45, 51) == covering(vmas, 60, 61) == ()
    assert vmas[3].shared
    assert not vmas[0].shared


def test_a_pid_of_somebody_else_is_not_taken() -> None:
    with pytest.raises(GuestGoneError):
        HeldProcess(os.getpid(), "00000000-0000-0000-0000-000000000000", "other")


@pytest.mark.guest
@pytest.mark.parametrize(("machine", "mib", "low"), [("pc", 4096, 3 << 30), ("q35", 3072, 2 << 30)])
def test_memory_above_4_gib_and_video_memory(
    boot_guest: Callable[[DemoSpec], DemoGuest], machine: Any, mib: int, low: int
) -> None:
    demo = boot_guest(DemoSpec("mem-map", machine=machine, memory_mib=mib, vga=True))
    with Hypervisor(demo.uri) as hypervisor:
        guest = hypervisor.guest(demo.name)
        found = read_memory_map(guest)
        ram = found.block("pc.ram")
        assert ram.size == mib << 20
        assert any(block.name.endswith("vga.vram") and block.size >= 1 << 20 for block in found.blocks)
        assert any(block.name == "pc.bios" for block in found.blocks)
        (high,) = [each for each in found.ranges if each.block == "pc.ram" and each.start >= 1 << 32]
        assert (high.start, high.offset, high.length) == (1 << 32, low, ram.size - low)
        assert sum(each.length for each in found.ranges if each.block == "pc.ram") >= ram.size - 0x20000
        assert read_memory_map(guest, found) == found
        assert memory_signature(guest) == found.signature
        shown = [(r.start, r.length, r.block.rsplit("/", 1)[-1], r.offset, r.read_only) for r in found.ranges]
        assert shown == flat_view_of_qemu(guest)


def flat_view_of_qemu(guest: Guest) -> list[tuple[int, int, str, int, bool]]:
    """RAM as QEMU's own flat view has it. Only for a guest that ends afterwards: see `mtree`."""
    views = "\n".join(guest.monitor.human("info mtree -f").splitlines()).split("FlatView #")
    (view,) = (each for each in views if ' AS "memory", root: system\n' in each)
    lines = re.finditer(r"^ +(\w{16})-(\w{16}) \(prio -?\d+, (ram|romd?)\): (\S+)(?: @(\w{16}))?", view, re.MULTILINE)
    found = [
        (int(a, 16), int(b, 16), name, int(offset or "0", 16), kind)
        for a, b, kind, name, offset in (m.groups() for m in lines)
    ]
    return [(a, b - a + 1, name, offset, kind != "ram") for a, b, name, offset, kind in found]


@pytest.mark.guest
def test_a_card_can_still_be_unplugged_from_a_guest_whose_memory_was_looked_at(
    boot_guest: Callable[[DemoSpec], DemoGuest],
) -> None:
    demo = boot_guest(DemoSpec("mem-unplug", memory_mib=128))
    image = demo.directory / "late.raw"
    image.write_bytes(bytes(1 << 20))
    card = f"<disk><source file='{image}'/><target dev='vdq' bus='virtio'/><driver name='qemu' type='raw'/></disk>"

    with Hypervisor(demo.uri) as hypervisor:
        guest = hypervisor.guest(demo.name)
        demo.domain.attachDevice(card)
        until(lambda: "vdb" in demo.run("ls /sys/block").stdout, "the guest takes the card up")
        read_memory_map(guest)
        demo.domain.detachDevice(card)
        until(lambda: "vdq" not in demo.domain.XMLDesc(), "QEMU lets the card go")
