"""The tests of symbols share `kernelbuilder`: pytest imports test files by path, so its directory is named here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernelbuilder import FakeMemory, map_pages

from workbench.demo import DemoImage
from workbench.memory.symbols.sources import Sources
from workbench.memory.symbols.vmlinuz import Segment, load_segments, read_file_sources, unpack_kernel

MAP = 0xFFFFFFFF80000000


@pytest.fixture(scope="session")
def kernel_file(demo_image: DemoImage) -> Path:
    """The demo guest's vmlinuz."""
    return demo_image.kernel


@pytest.fixture(scope="session")
def file_sources(kernel_file: Path) -> Sources:
    """Kallsyms, BTF and banner of the demo guest's kernel, from its file."""
    return read_file_sources(kernel_file)


@pytest.fixture(scope="session")
def kernel_segments(kernel_file: Path) -> list[Segment]:
    """What the demo guest's kernel loads."""
    return load_segments(unpack_kernel(kernel_file.read_bytes()))


@pytest.fixture
def booted(kernel_segments: list[Segment], file_sources: Sources) -> tuple[FakeMemory, int, int]:
    """The demo guest's kernel as it lies in memory after KASLR, with its page tables; its shift and its delta."""
    shift, moved = 0x1E800000, 0x0A000000
    delta = moved - MAP - shift
    symbols = {name: address for address, _, name in file_sources.kallsyms.symbols(0xFFFFFFFF81000000)}
    first, last = symbols["_text"], symbols["_end"]
    image = bytearray(last - first + (4 << 20) & ~0xFFF)
    for virtual, _, content in kernel_segments:
        if virtual >= MAP:
            image[virtual - first : virtual - first + len(content)] = content
    base = file_sources.begin + file_sources.kallsyms.places["kallsyms_relative_base"] - first
    image[base : base + 8] = (file_sources.kallsyms.relative_base + shift).to_bytes(8, "little")
    physical = first + shift + delta
    memory = FakeMemory({0: bytes(0x9F000), physical: bytes(image)})
    root = symbols["init_top_pgt"] + shift + delta
    memory.write(root, bytes(4096))
    spare = physical + len(image) - (1 << 20) & ~0xFFF
    map_pages(memory, root, spare, 4, (first + shift, physical, len(image) >> 21))
    return memory, shift, delta
