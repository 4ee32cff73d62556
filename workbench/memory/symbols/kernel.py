"""Find the Linux kernel in physical memory, knowing nothing: its banner, where it lies, its page tables, its build.

A token table of kallsyms gives the symbols, and with them the virtual address of the banner. Wherever a banner lies,
the two are 2 MiB apart or a multiple of it, and that distance says where everything else must be: kallsyms itself, BTF,
and the page tables. A candidate counts only where the page tables map the banner to the very place it was found at; a
leftover of unpacking does not. One whose lists lead nowhere, as in the leftover of an earlier boot, is taken only where
there is no other. Memory is read no further than needed.

Refuses to guess: what is missing is said. Physical addresses throughout, unless they are called virtual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workbench.errors import SymbolsError, UnreadableError
from workbench.memory.symbols import c_kallsyms as c
from workbench.memory.symbols.agree import ROOTS, Claims, cross_check, find_page_tables, read_btf
from workbench.memory.symbols.kallsyms import AFTER, BEFORE, Kallsyms, find_digits, parse_kallsyms, parse_tokens
from workbench.memory.symbols.liveness import lists_lead_back
from workbench.memory.symbols.record import Kernel
from workbench.memory.symbols.sources import LONGEST_BANNER, Sources, btf_span, shift_of, whole_banner
from workbench.memory.symbols.walk import Memory, present, translate

__all__ = ["Kernel", "Memory", "find_kernel", "read_sources", "still_there"]

_BANNER = b"Linux version "
_ALIGN = 2 << 20
"""Bytes by multiples of which a kernel is moved (CONFIG_PHYSICAL_ALIGN is at least this)."""
_VIRTUAL = 1 << 64
_MOST_BANNERS = 1 << 16
_MOST_DIGITS = 1 << 12
_MOST_TABLES = 32
"""How many of each are looked at: a guest may have filled its memory with them."""
_WANTED = frozenset(
    {"_text", "_end", "linux_banner", "__start_BTF", "__stop_BTF", "vmcoreinfo_note", "init_task", *ROOTS},
)


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
    return search.otherwise()


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
    sources = Sources(kallsyms, kernel.shift, at - kernel.delta - kernel.shift, btf, kernel.banner)
    if (build := sources.build) != kernel.build:
        raise SymbolsError("kallsyms or BTF changed since the kernel was found", found=build, expected=kernel.build)
    return sources


@dataclass(frozen=True, slots=True)
class _Table:
    """A token table: the place of its digits, and wanted virtual addresses; kallsyms itself is too large to keep."""

    digits: int
    addresses: dict[str, int]


def _read_kallsyms(memory: Memory, digits: int) -> tuple[Kallsyms, int]:
    """Return kallsyms, and the place of the stretch it was decoded from."""
    begin, end = present(memory, digits, BEFORE, AFTER)
    return parse_kallsyms(memory.read(begin, end - begin), digits - begin), begin


class _Search:
    """The candidates so far, and why some were refused: the refusal that came furthest is the one to tell."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._banners: set[int] = set()
        self._new_banners: list[int] = []
        self._digits: set[int] = set()
        self._tables: list[_Table] = []
        self._new_tables: list[_Table] = []
        self._tried = 0
        self._decoded: tuple[int, Kallsyms, int] | None = None
        self._refused: tuple[int, SymbolsError] | None = None
        self._leftover: Kernel | None = None

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
            if self._tried < _MOST_TABLES:
                self._decode(address + at)

    def _decode(self, digits: int) -> None:
        near, end = present(self._memory, digits, 16 << 10, 32 << 10)
        try:
            parse_tokens(self._memory.read(near, end - near), digits - near)  # much cheaper than all of it
        except SymbolsError as error:
            self._refuse(0, error)
            return
        self._tried += 1
        try:
            kallsyms, begin = _read_kallsyms(self._memory, digits)
        except SymbolsError as error:
            self._refuse(1, error)
            return
        self._new_tables.append(_Table(digits, kallsyms.find(_WANTED)))
        self._decoded = digits, kallsyms, begin

    def _refuse(self, how_far: int, error: SymbolsError) -> None:
        if self._refused is None or how_far > self._refused[0]:
            self._refused = how_far, error

    def settle(self) -> Kernel | None:
        """Return the kernel if two of the candidates agree and it runs; each pair is looked at once."""
        pairs = [(table, banner) for table in self._tables for banner in self._new_banners]
        pairs += [(table, banner) for table in self._new_tables for banner in sorted(self._banners)]
        self._tables += self._new_tables
        self._new_banners, self._new_tables = [], []
        for table, banner in pairs:
            virtual = table.addresses.get("linux_banner")
            if virtual is None or (banner - virtual) % _ALIGN:
                continue
            try:
                found = self._agree(table, banner, banner - virtual)
            except SymbolsError as error:
                self._refuse(3, error)
                continue
            except UnreadableError:
                continue
            if self._runs(found, table):
                return found
            self._leftover = self._leftover or found
        return None

    def _runs(self, found: Kernel, table: _Table) -> bool:
        virtual = table.addresses.get("init_task")
        if virtual is None or not self._memory.holds(virtual + found.delta):
            return False
        return lists_lead_back(self._memory, found.page_table_root, found.levels, virtual, virtual + found.delta)

    def _agree(self, table: _Table, banner_at: int, delta: int) -> Kernel:
        """Return the kernel if kallsyms, banner, BTF and page tables are all where one delta says.

        Raises
        ------
        SymbolsError
            If one of them is not.
        UnreadableError
        """
        memory, addresses = self._memory, table.addresses
        shift = shift_of(addresses)
        if not addresses["_text"] <= table.digits - delta < addresses.get("_end", _VIRTUAL):
            raise SymbolsError("kallsyms lies outside of the kernel that it describes", offset=hex(table.digits))
        end = present(memory, banner_at, 0, LONGEST_BANNER)[1]
        banner = whole_banner(memory.read(banner_at, end - banner_at))
        if banner is None:
            raise SymbolsError("the kernel's banner does not end", offset=hex(banner_at))
        begin, length = btf_span(addresses)
        btf = read_btf(memory, begin + delta, length)
        root, levels = find_page_tables(memory, addresses, banner_at, delta)
        note = cross_check(memory, addresses, Claims(shift, delta, root, levels))
        if self._decoded is None or self._decoded[0] != table.digits:
            self._decoded = table.digits, *_read_kallsyms(memory, table.digits)
        _, kallsyms, start = self._decoded
        first, last = kallsyms.span
        return Kernel(
            banner, banner.split(b" ", 3)[2].decode("latin-1"), shift, delta, root, levels,
            Sources(kallsyms, shift, start - delta - shift, btf, banner).build, note, banner_at,
            table.digits, start + first, last - first, begin + delta, length,
        )  # fmt: skip

    def otherwise(self) -> Kernel:
        """Return the kernel of which nothing says that it runs, after all; or say what was not there.

        Raises
        ------
        SymbolsError
        """
        if self._leftover is not None:
            return self._leftover
        if not self._banners:
            raise SymbolsError("not a Linux kernel, or none that has started", missing="a banner (Linux version ...)")
        if self._refused is not None and self._refused[0] > 0:
            raise self._refused[1]
        found = f"{len(self._banners)} banners, {len(self._tables)} token tables"
        if not self._tables:
            raise SymbolsError("a Linux kernel without kallsyms", missing="its token table", found=found)
        raise SymbolsError("kallsyms, but no banner where it says", missing="linux_banner", found=found)


def _find_all(data: bytes, pattern: bytes) -> Iterator[int]:
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + 1)
