"""Kernels made by hand: BTF, kallsyms in either layout, page tables, and physical memory to lay them out in.

What is planted here is the truth that the tests compare with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workbench.errors import UnreadableError
from workbench.memory.symbols.c_btf import Kind

PAGE = 4096
LINK = 0xFFFFFFFF81000000
MAP = 0xFFFFFFFF80000000
BANNER = b"Linux version 6.1.0-made-up (nobody@nowhere) (a compiler) #1 SMP\n\0"
NOTE_VIRTUAL = 0xFFFF888000000000
WORD = struct.Struct("<Q")


class FakeMemory:
    """Physical memory of some parts, without anything between them."""

    def __init__(self, parts: dict[int, bytes]) -> None:
        self.parts = {address: bytearray(content) for address, content in sorted(parts.items())}
        self.bytes_read = 0

    def _part(self, address: int, length: int) -> tuple[bytearray, int] | None:
        for start, content in self.parts.items():
            if start <= address and address + length <= start + len(content):
                return content, address - start
        return None

    def holds(self, address: int, length: int = 1) -> bool:
        return self._part(address, length) is not None

    def read(self, address: int, length: int) -> bytes:
        found = self._part(address, length)
        if found is None:
            raise UnreadableError("no memory", address=hex(address))
        self.bytes_read += length
        content, at = found
        return bytes(content[at : at + length])

    def write(self, address: int, data: bytes) -> None:
        content, at = self._part(address, len(data)) or (bytearray(), 0)
        assert content, hex(address)
        content[at : at + len(data)] = data

    def runs(self, *, most: int = 1 << 24) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for start, content in self.parts.items():
            pages = np.frombuffer(bytes(content), np.uint8).reshape(-1, PAGE)
            index = np.flatnonzero(pages.any(axis=1))
            for run in np.split(index, np.flatnonzero(np.diff(index) != 1) + 1):
                for at in range(0, len(run), most // PAGE):
                    part = run[at : at + most // PAGE]
                    self.bytes_read += len(part) * PAGE
                    yield start + int(part[0]) * PAGE, pages[part].reshape(-1)


class BtfBuilder:
    """Adds types, each giving its id, and packs them."""

    def __init__(self) -> None:
        self.types = b""
        self.strings = b"\0"
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(
        self, kind: int, name: str = "", last: int = 0, words: Sequence[int] = (), vlen: int = 0, flag: bool = False
    ) -> int:
        info = kind << 24 | vlen | flag << 31
        self.types += struct.pack("<III", self.name(name), info, last)
        self.types += struct.pack(f"<{len(words)}I", *words)
        self.count += 1
        return self.count

    def integer(self, name: str, size: int, encoding: int = 0) -> int:
        return self.add(Kind.INT, name, size, [encoding << 24 | size * 8])

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int], kind: int = Kind.STRUCT, flag: bool = False
    ) -> int:
        words = [word for text, number, offset in members for word in (self.name(text), number, offset)]
        return self.add(Kind.STRUCT, name, size, words, len(members), flag)

    def enum(self, name: str, **values: int) -> int:
        words = [word for text, value in values.items() for word in (self.name(text), value & 0xFFFFFFFF)]
        return self.add(Kind.ENUM, name, 4, words, len(values), any(value < 0 for value in values.values()))

    def pack(self) -> bytes:
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return header + self.types + self.strings


def small_btf() -> bytes:
    """Types of a kernel of few words: a task, a list, and what tk_core is made of."""
    btf = BtfBuilder()
    number = btf.integer("int", 4, 1)
    task = btf.struct("task_struct", 16, ("pid", number, 0), ("tgid", number, 32), ("next", 3, 64))
    assert btf.add(Kind.POINTER, last=task) == 3
    keeper = btf.struct("timekeeper", 4, ("seconds", number, 0))
    btf.struct("", 8, ("seq", number, 0), ("timekeeper", keeper, 32))
    btf.enum("state", RUNNING=0, DEAD=-1)
    per_cpu = btf.add(Kind.VARIABLE, "current_task", 3, [1])
    btf.add(Kind.SECTION, ".data..percpu", 8, [per_cpu, 0, 8], 1)
    return btf.pack()


Symbols = Sequence[tuple[int, str]]
"""Address as linked, and type and name: "Tstart"."""


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 8)


def _tokens() -> tuple[bytes, bytes, bytes]:
    """Return table, index, and which token a printable character is: itself; the others stand for "_x"."""
    texts = [bytes([code]) if 0x21 <= code < 0x7F else b"_x" for code in range(256)]
    index = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])]).astype("<u2").tobytes()
    return b"".join(text + b"\0" for text in texts), index, bytes(range(256))


def make_kallsyms(
    symbols: Symbols, layout: str = "A", *, shift: int = 0, sequences: bool = True, absolute: bool = True
) -> tuple[bytes, int]:
    """Return kallsyms as `scripts/kallsyms.c` writes it, and where its digits are.

    `absolute` is KALLSYMS_ABSOLUTE_PERCPU: addresses below the kernel stay as they are.
    """
    ordered = sorted(symbols, key=lambda each: each[0])
    base = min(address for address, _ in ordered if address >= MAP)
    if absolute:
        offsets = [base - 1 - address if address >= MAP else address for address, _ in ordered]
    else:
        offsets = [address - base for address, _ in ordered]
    names, markers = bytearray(), []
    for number, (_, name) in enumerate(ordered):
        if number % 256 == 0:
            markers.append(len(names))
        length = len(name)
        names += bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
        names += name.encode()
    table, index, _ = _tokens()
    tables = (
        _aligned(np.array(offsets, "<i4").tobytes()) + WORD.pack((base + shift) % (1 << 64)),
        WORD.pack(len(ordered)) + _aligned(bytes(names)) + _aligned(np.array(markers, "<u4").tobytes()),
        _aligned(table) + index,
        _aligned(bytes(3 * len(ordered))) if sequences else b"",
    )
    order = (0, 1, 3, 2) if layout == "A" else (1, 2, 0, 3)
    content = b"".join(tables[number] for number in order)
    return content, content.index(b"".join(b"%c\0" % digit for digit in b"0123456789"))


def map_pages(memory: FakeMemory, root: int, spare: int, levels: int, *wanted: tuple[int, int, int]) -> None:
    """Write page tables at `root`, with more from `spare` on, that map (virtual, physical, pages of 2 MiB)."""
    for virtual, physical, pages in wanted:
        for page in range(pages):
            table = root
            at = virtual + page * (2 << 20)
            for level in range(levels, 2, -1):
                place = table + 8 * (at >> (12 + 9 * (level - 1)) & 511)
                (entry,) = WORD.unpack(memory.read(place, 8))
                if not entry:
                    entry, spare = spare | 0x67, spare + PAGE
                    memory.write(place, WORD.pack(entry))
                table = entry & ~0xFFF
            memory.write(table + 8 * (at >> 21 & 511), WORD.pack(physical + page * (2 << 20) | 0x1E3))


def note(**values: object) -> bytes:
    """Return a VMCOREINFO note; `__` in a key is where the kernel has brackets: `NUMBER__phys_base`."""
    lines = b""
    for key, value in values.items():
        kind, _, name = key.partition("__")
        lines += f"{kind}({name})={value}\n".encode() if name else f"{key}={value}\n".encode()
    return struct.pack("<III", 11, len(lines), 0) + b"VMCOREINFO\0\0" + lines


@dataclass
class MadeKernel:
    """A small kernel in physical memory: 8 MiB at `physical`, its page tables and its note behind it."""

    layout: str = "A"
    shift: int = 0x2C000000
    physical: int = 0x05000000
    levels: int = 4
    btf: bytes = field(default_factory=small_btf)
    banner: bytes = BANNER
    more: tuple[tuple[int, str], ...] = ()
    without: frozenset[str] = frozenset()
    mapped: bool = True
    running: bool = True
    sequences: bool = True
    noted: dict[str, object] = field(default_factory=dict)

    SIZE = 8 << 20
    _PLACES = {  # noqa: RUF012
        "T_text": 0, "Rlinux_banner": 0x1FFFE0, "Binit_top_pgt": 0x300000, "Bvmcoreinfo_note": 0x301000,
        "Dinit_task": 0x302000, "dtk_core": 0x303000, "B_end": SIZE,
    }  # fmt: skip
    _BTF, _KALLSYMS = 0x400000, 0x600000

    @property
    def delta(self) -> int:
        return self.physical - LINK - self.shift

    def symbols(self) -> list[tuple[int, str]]:
        places = {**self._PLACES, "D__start_BTF": self._BTF, "D__stop_BTF": self._BTF + len(self.btf)}
        named = [(LINK + at, name) for name, at in places.items() if name[1:] not in self.without]
        fillers = [(LINK + 0x1000 + 16 * number, f"tfiller_{number}") for number in range(600)]
        return [(0, "A__per_cpu_start"), (0x40, "Acurrent_task"), *named, *fillers, *self.more]

    def parts(self) -> dict[int, bytes]:
        """Return the memory's content by physical address."""
        tables, _ = make_kallsyms(self.symbols(), self.layout, shift=self.shift, sequences=self.sequences)
        image = bytearray(self.SIZE)
        note_at = self.physical + self.SIZE + (1 << 20)
        for at, content in (
            (self._PLACES["Rlinux_banner"], self.banner), (self._BTF, self.btf), (self._KALLSYMS, tables),
            (self._PLACES["Bvmcoreinfo_note"], WORD.pack(NOTE_VIRTUAL + note_at % (2 << 20))),
        ):  # fmt: skip
            image[at : at + len(content)] = content
        memory = FakeMemory({self.physical: bytes(image) + bytes(2 << 20)})
        if self.mapped:
            self._map(memory, note_at)
        said = {
            "OSRELEASE": "6.1.0-made-up", "KERNELOFFSET": f"{self.shift:x}",
            "NUMBER__phys_base": self.delta + MAP, "NUMBER__pgtable_l5_enabled": int(self.levels == 5),
            "SYMBOL__init_top_pgt": f"{LINK + self.shift + self._PLACES['Binit_top_pgt']:x}", **self.noted,
        }  # fmt: skip
        memory.write(note_at, note(**said))
        if self.running:
            self._second_task(memory, note_at + 0x10000)
        return {address: bytes(content) for address, content in memory.parts.items()}

    def _second_task(self, memory: FakeMemory, place: int) -> None:
        """Write a task whose list is in a ring with the first one's."""
        first = self._PLACES["Dinit_task"] + 0x40
        second = NOTE_VIRTUAL + place % (2 << 20)
        memory.write(self.physical + first, 2 * WORD.pack(second))
        memory.write(place, 2 * WORD.pack((LINK + self.shift + first) % (1 << 64)))

    def _map(self, memory: FakeMemory, note_at: int) -> None:
        root, spare = self.physical + self._PLACES["Binit_top_pgt"], self.physical + self.SIZE
        kernel = (LINK + self.shift) % (1 << 64), self.physical, self.SIZE >> 21
        map_pages(memory, root, spare, self.levels, kernel, (NOTE_VIRTUAL, note_at // (2 << 20) * (2 << 20), 1))

    def memory(self) -> FakeMemory:
        return FakeMemory(self.parts())
