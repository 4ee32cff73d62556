"""Memory copied from outside: the same bytes, whatever the runs, nothing outside of the guest's blocks."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.demo import DemoGuest, DemoSpec
from workbench.demo import guest as demo_guest
from workbench.errors import GuestError, GuestGoneError, UnsupportedError, UsageError
from workbench.guest import reader as reader_module
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.memory import MemoryBlock, MemoryMap, read_memory_map
from workbench.guest.reader import MemoryReader, ProcMemReader, SharedMapReader, open_reader, read_block
from workbench.model import PAGE

PAGES = 5000


def ourselves() -> Any:
    """Give this process in the place of a held QEMU."""
    return SimpleNamespace(
        pid=os.getpid(), name="ourselves", alive=lambda: True, require=lambda _what: None, close=lambda: None
    )


@pytest.fixture
def content() -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, PAGES * PAGE, dtype=np.uint8)


@pytest.fixture
def block(content: NDArray[np.uint8]) -> MemoryBlock:
    return MemoryBlock("ram", content.size, content.ctypes.data)


@pytest.fixture
def reader(block: MemoryBlock) -> Iterator[ProcMemReader]:
    made = ProcMemReader(ourselves(), [block])
    yield made
    made.close()


def runs_of(block: MemoryBlock, pages: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack((block.hva + pages * PAGE, block.hva + (pages + 1) * PAGE), axis=1)


@pytest.mark.parametrize("step", [1, 2, 7, PAGES])
def test_runs_are_packed_in_order(
    reader: ProcMemReader, block: MemoryBlock, content: NDArray[np.uint8], step: int
) -> None:
    pages = np.arange(0, PAGES, step)
    out = np.zeros((len(pages), PAGE), np.uint8)
    reader.read_into(runs_of(block, pages), out)
    assert np.array_equal(out, content.reshape(-1, PAGE)[pages])


def test_runs_longer_than_one_call(
    monkeypatch: pytest.MonkeyPatch, reader: ProcMemReader, block: MemoryBlock, content: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(reader_module, "_CALL_BYTES", 10_007)
    cuts = np.array([[3, 99_999], [100_000, 100_001], [200_000, content.size]], np.int64)
    out = np.zeros(int((cuts[:, 1] - cuts[:, 0]).sum()), np.uint8)
    reader.read_into(cuts + block.hva, out)
    assert np.array_equal(out, np.concatenate([content[a:b] for a, b in cuts]))


def test_whole_block_and_writing(reader: ProcMemReader, block: MemoryBlock, content: NDArray[np.uint8]) -> None:
    pages = np.arange(1, PAGES, 3)
    data = np.random.default_rng(8).integers(0, 256, (len(pages), PAGE), dtype=np.uint8)
    expected = content.copy().reshape(-1, PAGE)
    expected[pages] = data
    reader.write(runs_of(block, pages), data)
    assert np.array_equal(content, expected.reshape(-1))
    assert np.array_equal(read_block(reader, block), content)


def test_nothing_to_copy(reader: ProcMemReader) -> None:
    reader.read_into(np.zeros((0, 2), np.int64), np.zeros(0, np.uint8))


@pytest.mark.parametrize(
    ("start", "end"), [(-1, 10), (0, PAGES * PAGE + 1), (PAGES * PAGE, PAGES * PAGE + 1), (5, 5), (9, 5)]
)
def test_addresses_outside_are_refused(reader: ProcMemReader, block: MemoryBlock, start: int, end: int) -> None:
    runs = np.array([[block.hva, block.hva + 1], [block.hva + start, block.hva + end]])
    for act in (reader.read_into, reader.write):
        with pytest.raises(UsageError):
            act(runs, np.zeros(max(0, end - start) + 1, np.uint8))


def test_a_buffer_that_does_not_fit_is_refused(reader: ProcMemReader, block: MemoryBlock) -> None:
    run = np.array([[block.hva, block.hva + 10]])
    with pytest.raises(UsageError):
        reader.read_into(run, np.zeros(11, np.uint8))
    with pytest.raises(UsageError):
        reader.read_into(run, np.zeros(20, np.uint8)[::2])


def test_read_only_mappings_are_written_all_the_same() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        view = np.frombuffer(area, np.uint8)
        address = view.ctypes.data
        assert libc.mprotect(ctypes.c_void_p(address + PAGE), PAGE, mmap.PROT_READ) == 0
        reader = ProcMemReader(ourselves(), [MemoryBlock("rom", 4 * PAGE, address)])
        reader.write(np.array([[address, address + 4 * PAGE]]), np.full(4 * PAGE, 7, np.uint8))
        assert (view == 7).all()
        reader.close()
        del view


def test_a_hole_is_an_error_and_not_zeros() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    arguments = (None, 4 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
    address = libc.mmap(*arguments, ctypes.c_long(0))
    libc.munmap(ctypes.c_void_p(address + 2 * PAGE), 2 * PAGE)
    reader = ProcMemReader(ourselves(), [MemoryBlock("ram", 4 * PAGE, address)])
    with pytest.raises(GuestError):
        reader.read_into(np.array([[address, address + 4 * PAGE]]), np.zeros(4 * PAGE, np.uint8))
    reader.close()
    libc.munmap(ctypes.c_void_p(address), 2 * PAGE)


def test_no_rights_are_told_with_the_cure(reader: ProcMemReader, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnsupportedError, match="ptrace_scope"):
        ProcMemReader(ourselves(), [])


def test_shared_memory_is_read_through_a_mapping(content: NDArray[np.uint8]) -> None:
    descriptor = os.memfd_create("ram")
    os.write(descriptor, content)
    theirs = mmap.mmap(descriptor, content.size)
    ours = mmap.mmap(descriptor, content.size, mmap.MAP_SHARED, mmap.PROT_READ)
    block = MemoryBlock("ram", content.size, np.frombuffer(theirs, np.uint8).ctypes.data)
    reader = SharedMapReader(ProcMemReader(ourselves(), [block]), [(block, ours)])
    pages = np.concatenate((np.arange(5), np.arange(9, PAGES, 4)))
    out = np.zeros((len(pages), PAGE), np.uint8)
    reader.read_into(runs_of(block, pages), out)
    assert np.array_equal(out, content.reshape(-1, PAGE)[pages])
    odd = np.zeros(30, np.uint8)
    reader.read_into(np.array([[block.hva + 5, block.hva + 35]]), odd)
    assert np.array_equal(odd, content[5:35])
    reader.write(np.array([[block.hva, block.hva + 3]]), np.array([1, 2, 3], np.uint8))
    assert theirs[:3] == b"\1\2\3"
    with pytest.raises(UsageError):
        reader.read_into(np.array([[block.hva, block.end + PAGE]]), np.zeros(block.size + PAGE, np.uint8))
    reader.close()
    os.close(descriptor)


@contextmanager
def opened(demo: DemoGuest) -> Iterator[tuple[Guest, MemoryMap, MemoryReader]]:
    with Hypervisor(demo.uri) as hypervisor:
        guest = hypervisor.guest(demo.name)
        memory = read_memory_map(guest)
        reader = open_reader(guest, memory)
        yield guest, memory, reader
        reader.close()


def plant(demo: DemoGuest) -> bytes:
    """Write a page's worth of known words in the guest, and return its first 4000 bytes."""
    demo.run("head -c 3000 /dev/urandom | od -An -v -tx1 | tr -d ' \\n' > /dev/shm/planted; sync")
    return demo.run("head -c 4000 /dev/shm/planted").stdout.encode()


def find(reader: MemoryReader, memory: MemoryMap, wanted: bytes) -> bool:
    content = read_block(reader, memory.block("pc.ram")).reshape(-1, PAGE)[:, : len(wanted)]
    return bool((content == np.frombuffer(wanted, np.uint8)).all(axis=1).any())


@pytest.mark.guest
def test_a_real_guest_is_read_and_written(boot_guest: Callable[[DemoSpec], DemoGuest]) -> None:
    demo = boot_guest(DemoSpec("mem-read", vga=True))
    with opened(demo) as (guest, memory, reader):
        assert reader.name == "proc-mem"
        assert find(reader, memory, plant(demo))
        guest.monitor.execute("stop")
        for name in [block.name for block in memory.blocks]:  # RAM, video memory and ROM
            block = memory.block(name)
            page = np.array([[block.end - PAGE, block.end]])
            before, seen = np.zeros(PAGE, np.uint8), np.zeros(PAGE, np.uint8)
            reader.read_into(page, before)
            reader.write(page, 255 - before)
            reader.read_into(page, seen)
            assert np.array_equal(seen, 255 - before), name
            reader.write(page, before)
        guest.monitor.execute("cont")
        assert demo.health().ok
        os.kill(guest.pid, signal.SIGKILL)
        select.select([reader._process.pidfd], [], [])  # type: ignore[attr-defined]
        with pytest.raises(GuestGoneError):
            read_block(reader, memory.block("pc.ram"))


@pytest.mark.guest
def test_a_guest_on_shared_memory(boot_guest: Callable[[DemoSpec], DemoGuest], monkeypatch: pytest.MonkeyPatch) -> None:
    backing = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking><os>"
    plain = demo_guest.domain_xml
    monkeypatch.setattr(demo_guest, "domain_xml", lambda *given: plain(*given).replace("<os>", backing, 1))
    demo = boot_guest(DemoSpec("mem-shared"))
    with opened(demo) as (guest, memory, reader):
        assert reader.name == "shared-map"
        assert find(reader, memory, plant(demo))
        guest.monitor.execute("stop")
        direct = ProcMemReader(reader._inner._process, memory.blocks)  # type: ignore[attr-defined]
        for block in memory.blocks:
            assert np.array_equal(read_block(reader, block), read_block(direct, block))
        guest.monitor.execute("cont")
