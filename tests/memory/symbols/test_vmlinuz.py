"""A kernel's file: whatever packs it, its table is that of the same kernel in memory; what is not one is refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelbuilder import LINK, FakeMemory, MadeKernel

from workbench.errors import SymbolsError
from workbench.memory.symbols import vmlinuz
from workbench.memory.symbols.kernel import find_kernel, read_sources
from workbench.memory.symbols.vmlinuz import load_segments, symbols_from_file, unpack_kernel

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM = struct.Struct("<IIQQQQQQ")


def elf(made: MadeKernel, *, machine: int = 62) -> bytes:
    """Return a kernel as linked, as an ELF with one segment."""
    (content,) = (
        MadeKernel(made.layout, shift=0, physical=0x1000000, more=made.more, without=made.without).parts().values()
    )
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = HEADER.pack(ident, 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = PROGRAM.pack(1, 7, 4096, LINK, 0x1000000, len(content), len(content), 4096)
    return (header + program).ljust(4096, b"\0") + content


def bz_image(payload: bytes, length: int) -> bytes:
    """Return a bzImage around a packed kernel, with the unpacked length behind it as `scripts/Makefile.lib` puts it."""
    whole = payload + struct.pack("<I", length)
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 64, len(whole))
    return bytes(setup) + bytes(64) + whole


def _lz4(data: bytes) -> bytes:
    codec = pa.Codec("lz4_raw")
    parts = [codec.compress(data[at : at + (8 << 20)], asbytes=True) for at in range(0, len(data), 8 << 20)]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(part)) + part for part in parts)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": _lz4,
}


@pytest.fixture(scope="module")
def small_elf() -> bytes:
    return elf(MadeKernel())


def _write(directory: Path, content: bytes) -> Path:
    path = directory / "vmlinuz"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("layout", ["A", "B"])
def test_a_file_gives_the_table_that_memory_gives(tmp_path: Path, layout: str) -> None:
    made = MadeKernel(layout)
    memory = made.memory()
    kernel = find_kernel(memory)
    build, isf = symbols_from_file(_write(tmp_path, elf(made)))
    assert build == kernel.build
    assert isf == read_sources(memory, kernel).isf()


def test_the_demo_kernels_file_gives_the_table_that_its_memory_gives(
    kernel_file: Path, booted: tuple[FakeMemory, int, int]
) -> None:
    memory, _, _ = booted
    kernel = find_kernel(memory)
    assert symbols_from_file(kernel_file) == (kernel.build, read_sources(memory, kernel).isf())


@pytest.mark.parametrize("packing", PACKERS)
def test_every_packing_is_undone(packing: str, small_elf: bytes) -> None:
    assert unpack_kernel(bz_image(PACKERS[packing](small_elf), len(small_elf))) == small_elf


def test_gzip_has_the_length_in_its_own_end(small_elf: bytes) -> None:
    packed = gzip.compress(small_elf)
    assert unpack_kernel(bz_image(packed[:-4], len(small_elf))) == small_elf


def test_an_elf_is_taken_as_it_is(small_elf: bytes) -> None:
    assert unpack_kernel(small_elf) == small_elf
    assert unpack_kernel(bz_image(small_elf[:-4], 0)).startswith(b"\x7fELF")


@pytest.mark.parametrize("packing", sorted(set(PACKERS) - {"lz4"}))
def test_no_more_is_unpacked_than_the_file_says(packing: str) -> None:
    bomb = PACKERS[packing](b"\x7fELF" + bytes(30 << 20))
    assert len(unpack_kernel(bz_image(bomb, 1000))) == 1000


def test_an_lz4_block_that_is_longer_than_it_may_be_is_refused() -> None:
    with pytest.raises(SymbolsError, match="cannot be unpacked"):
        unpack_kernel(bz_image(_lz4(b"\x7fELF" + bytes(30 << 20)), 1000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a kernel's file"),
        (b"MZ" + bytes(2000), "not a kernel's file"),
        (bz_image(b"\x7fEL?" * 10, 5), "unknown packing"),
        (bz_image(b"\x1f\x8b" + bytes(50), 100), "cannot be unpacked"),
        (bz_image(lzma.compress(b"short"), 100), "not whole"),
        (bz_image(gzip.compress(b"long")[:-4], (1 << 30) + 1), "impossible length"),
        (bz_image(b"\x02\x21\x4c\x18" + b"\xff\xff\xff\x7f", 100), "cannot be unpacked"),
        (bz_image(gzip.compress(b"x" * 100), 100)[:-20], "payload is cut off"),
    ],
)
def test_what_is_no_kernel_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(SymbolsError, match=message):
        unpack_kernel(content)


def test_elves_of_other_machines_and_cut_ones_are_refused(small_elf: bytes) -> None:
    with pytest.raises(SymbolsError, match="not a kernel for x86-64"):
        load_segments(elf(MadeKernel(), machine=183))
    with pytest.raises(SymbolsError, match="not an ELF"):
        load_segments(b"\x7fELF\x02\x02" + bytes(100))
    with pytest.raises(SymbolsError, match="segment of the kernel is cut off"):
        load_segments(small_elf[:-1])


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("__start_BTF", "CONFIG_DEBUG_INFO_BTF"),
        ("linux_banner", "without the kernel's banner"),
        ("_text", "without the start of the kernel"),
    ],
)
def test_files_that_lack_something_say_what(tmp_path: Path, without: str, message: str) -> None:
    with pytest.raises(SymbolsError, match=message):
        symbols_from_file(_write(tmp_path, elf(MadeKernel(without=frozenset({without})))))


def test_a_file_without_kallsyms_or_with_a_broken_one_is_refused(tmp_path: Path, small_elf: bytes) -> None:
    digits = small_elf.index(b"0\x001\x002\x003")
    for at, message in ((digits, "without kallsyms"), (digits + 500, "token table"), (4096 + 0x600000 + 9, "layout")):
        changed = bytearray(small_elf)
        changed[at : at + 2] = b"\x55\xaa"
        with pytest.raises(SymbolsError, match=message):
            symbols_from_file(_write(tmp_path, bytes(changed)))


def test_a_file_without_a_banner_is_refused(tmp_path: Path, small_elf: bytes) -> None:
    with pytest.raises(SymbolsError, match="no banner where"):
        symbols_from_file(_write(tmp_path, small_elf.replace(b"Linux version", b"Linux VERSION")))


def test_a_file_larger_than_any_kernel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmlinuz, "_MOST", 1000)
    with pytest.raises(SymbolsError, match="too large for a kernel"):
        symbols_from_file(_write(tmp_path, bytes(1001)))


@settings(max_examples=100)
@given(st.binary(max_size=600))
def test_garbage_is_refused_or_loads_nothing(garbage: bytes) -> None:
    with suppress(SymbolsError):
        assert load_segments(b"\x7fELF\x02\x01" + garbage) == []
    with pytest.raises(SymbolsError):
        load_segments(unpack_kernel(bz_image(garbage, 10)))
