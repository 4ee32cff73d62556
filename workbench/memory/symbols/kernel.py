"""Find the Linux kernel in physical memory, knowing nothing: its banner, where it lies, its page tables, its build.

A token table of kallsyms gives the symbols, and with them the virtual address of the banner. Wherever a banner lies,
the two are 2 MiB apart or a multiple of it, and that distance says where everything else must be: kallsyms itself, BTF,
and the page tables. A candidate counts only where the page tables map the banner to the very place it was found at; a
leftover of an earlier boot or of unpacking does not. Memory is read no further than needed.

Refuses to guess: what is missing is said. Physical addresses throughout, unless they are called virtual.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from workbench.errors import SymbolsError, UnreadableError
from workbench.memory.symbols import c_btf, vmcoreinfo
from workbench.memory.symbols import c_kallsyms as c
from workbench.memory.symbols.kallsyms import AFTER, BEFORE, Kallsyms, find_digits, parse_kallsyms, parse_tokens
from workbench.memory.symbols.sources import LONGEST_BANNER, Sources, btf_span, shift_of, whole_banner
from workbench.memory.symbols.walk import Memory, present, translate

__all__ = ["Kernel", "Memory", "find_kernel", "read_sources", "still_there"]

_BANNER = b"Linux version "
_ALIGN = 2 << 20
"""Bytes by multiples of which a kernel is moved (CONFIG_PHYSICAL_ALIGN is at least this)."""
_VIRTUAL = 1 << 64
_MOST_BANNERS = 1 << 16
_MOST_DIGITS = 1 << 10
_MOST_TABLES = 8
"""How many of each are looked at: a guest may have filled its memory with them."""
_ROOTS = ("init_top_pgt", "swapper_pg_dir")
_WANTED = frozenset(
    {"_text", "_end", "linux_banner", "__start_BTF", "__stop_BTF", "vmcoreinfo_note", *_ROOTS},
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one capture says of its Linux kernel.

    Attributes
    ----------
    banner : bytes
        With its line feed and NUL.
    release : str
        The banner's third word ("6.1.0-1-cloud-amd64"); the guest's, not to be printed raw.
    shift : int
        Bytes by which KASLR moved the kernel's virtual addresses: `_text` less 0xffffffff81000000.
    delta : int
        Physical address = virtual address + delta, for addresses of the kernel's image; negative.
    page_table_root : int
        Physical address of `init_top_pgt`.
    levels : {4, 5}
        Of the page tables.
    build : str
        Key of the symbol table: equal for every boot of one build, and for its file.
    vmcoreinfo : {"agrees", "differs", "absent"}
        What the kernel's own note says of shift, delta, root and levels.
    banner_at, digits_at : int
        Where the banner and the digits of kallsyms' token table lie.
    kallsyms_at, kallsyms_length, btf_at, btf_length : int
        Where kallsyms and BTF lie, and their bytes.
    """

    banner: bytes
    release: str
    shift: int
    delta: int
    page_table_root: int
    levels: int
    build: str
    vmcoreinfo: Literal["agrees", "differs", "absent"]
    banner_at: int
    digits_at: int
    kallsyms_at: int
    kallsyms_length: int
    btf_at: int
    btf_length: int

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps({**asdict(self), "banner": self.banner.decode("latin-1")}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Kernel:
        """Read what `to_json` gave.

        Raises
        ------
        SymbolsError
            If it is not that.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, "banner": fields["banner"].encode("latin-1")})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SymbolsError(f"not a kernel's record: {error}", cure="Find the kernel anew.") from error


def find_kernel(memory: Memory) -> Kernel:
    """Find the kernel.

    Raises
    ------
    SymbolsError
        If there is none that can be understood; says what was looked for and what was missing.
    StoreError
        If the memory cannot be read where it should be.
    """
    search = _Search(memory)
    tail_end, tail = -1, b""
    for address, content in memory.runs():
        data = tail + content.tobytes() if address == tail_end else content.tobytes()
        search.take(address + len(content) - len(data), data)
        if (found := search.settle()) is not None:
            return found
        tail_end, tail = address + len(content), data[1 - len(c.DIGITS) :]
    raise search.missing()


def still_there(memory: Memory, kernel: Kernel) -> bool:
    """Tell whether a kernel found in an earlier capture is in this one too, unmoved: banner and page tables are.

    Raises
    ------
    StoreError
    """
    try:
        if memory.read(kernel.banner_at, len(kernel.banner)) != kernel.banner:
            return False
    except UnreadableError:
        return False
    virtual = (kernel.banner_at - kernel.delta) % _VIRTUAL
    return translate(memory, kernel.page_table_root, kernel.levels, virtual) == kernel.banner_at


def read_sources(memory: Memory, kernel: Kernel) -> Sources:
    """Read what the kernel's symbol table is made of.

    Raises
    ------
    SymbolsError
        If it is not there any more, or was changed since the kernel was found.
    StoreError
    """
    at = kernel.kallsyms_at
    try:
        btf = memory.read(kernel.btf_at, kernel.btf_length)
        kallsyms = parse_kallsyms(memory.read(at, kernel.kallsyms_length), kernel.digits_at - at)
    except UnreadableError as error:
        raise SymbolsError("kallsyms or BTF are not in memory any more", offset=hex(at)) from error
    table = _Table(kallsyms, kernel.digits_at, at, {})
    sources = _sources(table, kernel.shift, kernel.delta, btf, kernel.banner)
    if (build := sources.build) != kernel.build:
        raise SymbolsError("kallsyms or BTF changed since the kernel was found", found=build, expected=kernel.build)
    return sources


@dataclass(frozen=True, slots=True)
class _Table:
    """Kallsyms, the digits' place, the place of the stretch it was decoded from, and wanted virtual addresses."""

    kallsyms: Kallsyms
    digits: int
    begin: int
    addresses: dict[str, int]


def _read_table(memory: Memory, digits: int) -> _Table:
    near, end = present(memory, digits, 16 << 10, 32 << 10)
    parse_tokens(memory.read(near, end - near), digits - near)  # much cheaper than what follows
    begin, end = present(memory, digits, BEFORE, AFTER)
    kallsyms = parse_kallsyms(memory.read(begin, end - begin), digits - begin)
    return _Table(kallsyms, digits, begin, kallsyms.find(_WANTED))


def _sources(table: _Table, shift: int, delta: int, btf: bytes, banner: bytes) -> Sources:
    return Sources(table.kallsyms, shift, table.begin - delta - shift, btf, banner)


class _Search:
    """The candidates so far, and why some were refused: the refusal that came furthest is the one to tell."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._banners: set[int] = set()
        self._new_banners: list[int] = []
        self._digits: set[int] = set()
        self._tables: list[_Table] = []
        self._new_tables: list[_Table] = []
        self._refused: tuple[int, SymbolsError] | None = None

    def take(self, address: int, data: bytes) -> None:
        """Look for banners and token tables in the content of memory at an address."""
        for at in _find_all(data, _BANNER):
            if address + at not in self._banners and len(self._banners) < _MOST_BANNERS:
                self._banners.add(address + at)
                self._new_banners.append(address + at)
        for at in find_digits(data):
            if address + at in self._digits or len(self._digits) >= _MOST_DIGITS:
                continue
            self._digits.add(address + at)
            if len(self._tables) + len(self._new_tables) < _MOST_TABLES:
                self._decode(address + at)

    def _decode(self, digits: int) -> None:
        try:
            self._new_tables.append(_read_table(self._memory, digits))
        except SymbolsError as error:
            self._refuse(1 if "layout" in error.message else 0, error)

    def _refuse(self, how_far: int, error: SymbolsError) -> None:
        if self._refused is None or how_far > self._refused[0]:
            self._refused = how_far, error

    def settle(self) -> Kernel | None:
        """Return the kernel if two of the candidates agree; each pair is looked at once."""
        pairs = [(table, banner) for table in self._tables for banner in self._new_banners]
        pairs += [(table, banner) for table in self._new_tables for banner in sorted(self._banners)]
        self._tables += self._new_tables
        self._new_banners, self._new_tables = [], []
        for table, banner in pairs:
            virtual = table.addresses.get("linux_banner")
            if virtual is None or (banner - virtual) % _ALIGN:
                continue
            try:
                return _agree(self._memory, table, banner, banner - virtual)
            except SymbolsError as error:
                self._refuse(3, error)
            except UnreadableError:
                continue
        return None

    def missing(self) -> SymbolsError:
        """Say what was looked for and was not there."""
        if not self._banners:
            return SymbolsError("not a Linux kernel, or none that has started", missing="a banner (Linux version ...)")
        if self._refused is not None and self._refused[0] > 0:
            return self._refused[1]
        if not self._tables:
            return SymbolsError(
                "a Linux kernel without kallsyms", missing="its token table", banners=len(self._banners)
            )
        return SymbolsError(
            "kallsyms, but no banner where it says", missing="linux_banner", banners=len(self._banners),
            tables=len(self._tables),
        )  # fmt: skip


def _find_all(data: bytes, pattern: bytes) -> Iterator[int]:
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + 1)


def _agree(memory: Memory, table: _Table, banner_at: int, delta: int) -> Kernel:
    """Return the kernel if kallsyms, banner, BTF and page tables are all where one delta says.

    Raises
    ------
    SymbolsError
        If one of them is not.
    UnreadableError
    """
    shift = shift_of(table.addresses)
    if not table.addresses["_text"] <= table.digits - delta < table.addresses.get("_end", _VIRTUAL):
        raise SymbolsError("kallsyms lies outside of the kernel that it describes", offset=hex(table.digits))
    banner = whole_banner(
        memory.read(banner_at, min(LONGEST_BANNER, present(memory, banner_at, 0, 4096)[1] - banner_at))
    )
    if banner is None:
        raise SymbolsError("the kernel's banner does not end", offset=hex(banner_at))
    begin, length = btf_span(table.addresses)
    btf = _btf(memory, begin + delta, length)
    root, levels = _page_tables(memory, table.addresses, banner_at, delta)
    note = _cross_check(memory, table.addresses, shift, delta, root, levels)
    build = _sources(table, shift, delta, btf, banner).build
    release = banner.split(b" ", 3)[2].decode("latin-1")
    first, end = table.kallsyms.span
    return Kernel(
        banner, release, shift, delta, root, levels, build, note, banner_at,
        table.digits, table.begin + first, end - first, begin + delta, length,
    )  # fmt: skip


def _btf(memory: Memory, at: int, length: int) -> bytes:
    if not memory.holds(at, length):
        raise SymbolsError("BTF lies outside of memory", offset=hex(at), length=length)
    content = memory.read(at, length)
    found = struct.unpack_from("<H", content)[0] if length >= c_btf.HEADER.size else None
    if found != c_btf.MAGIC:
        raise SymbolsError("no BTF where kallsyms says", offset=hex(at), found=found, expected=hex(c_btf.MAGIC))
    return content


def _page_tables(memory: Memory, addresses: dict[str, int], banner_at: int, delta: int) -> tuple[int, int]:
    """Return root and levels by which the banner's virtual address is its physical one.

    Tables of the other depth, read as these, map it elsewhere or nowhere.
    """
    virtual = (banner_at - delta) % _VIRTUAL
    roots = [(addresses[name] + delta) for name in _ROOTS if name in addresses]
    if not roots:
        raise SymbolsError("kallsyms without the kernel's page tables", missing=_ROOTS[0])
    for levels in (4, 5):
        if translate(memory, roots[0], levels, virtual) == banner_at:
            return roots[0], levels
    raise SymbolsError(
        "a kernel, but its page tables do not map it: a leftover, or not yet running", offset=hex(banner_at)
    )


def _cross_check(
    memory: Memory, addresses: dict[str, int], shift: int, delta: int, root: int, levels: int
) -> Literal["agrees", "differs", "absent"]:
    """Hold what was found against the kernel's VMCOREINFO note."""
    try:
        pointer = int.from_bytes(memory.read(addresses["vmcoreinfo_note"] + delta, 8), "little")
        at = translate(memory, root, levels, pointer)
        if at is None:
            return "absent"
        length = present(memory, at, 0, 8192)[1] - at
        said = vmcoreinfo.parse_vmcoreinfo(memory.read(at, min(vmcoreinfo.LONGEST_NOTE, length)))
        agrees = (
            int(said["KERNELOFFSET"], 16) == shift
            and int(said["NUMBER(phys_base)"]) - c.KERNEL_MAP == delta
            and next(int(said[f"SYMBOL({name})"], 16) for name in _ROOTS if f"SYMBOL({name})" in said) + delta == root
            and int(said.get("NUMBER(pgtable_l5_enabled)", levels == 5)) == (levels == 5)
        )
    except (KeyError, StopIteration, ValueError, SymbolsError, UnreadableError):
        return "absent"
    return "agrees" if agrees else "differs"
