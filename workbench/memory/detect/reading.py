"""Read structures of the kernel in one capture: by type and member from the symbol table, bytes through page tables.

Every walk here ends: lists have a longest length and may not run in rings. Refuses to give a value for what is not
mapped (`UnreadableError`), and to guess an offset that the symbol table does not have (`AnalysisError`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.names import Names, read_names
from workbench.memory.symbols.walk import Memory, translate
from workbench.memory.volatility.sight import Sight
from workbench.model import PAGE

__all__ = ["Reader", "Space", "container_list"]

_MOST_ENTRIES = 1 << 18
"""Longest list that is followed: more than any sane guest has tasks or modules."""
_MOST_PAGES = 1 << 16
_POINTER = 8
_WORD_MASK = (1 << 64) - 1


class Space:
    """Virtual memory under one page-table root.

    Parameters
    ----------
    memory : Memory
        Physical.
    root : int
        Physical address of the top page table.
    levels : {4, 5}
    """

    def __init__(self, memory: Memory, root: int, levels: int) -> None:
        self.memory = memory
        self._root = root
        self._levels = levels
        self._frames: dict[int, int | None] = {}

    def physical(self, address: int) -> int | None:
        """Return the physical address of a virtual one; None where it is not mapped."""
        page, inside = divmod(address & _WORD_MASK, PAGE)
        if page not in self._frames:
            if len(self._frames) >= _MOST_PAGES:
                self._frames.clear()
            self._frames[page] = translate(self.memory, self._root, self._levels, page * PAGE)
        frame = self._frames[page]
        return None if frame is None else frame + inside

    def read(self, address: int, length: int) -> bytes:
        """Return bytes.

        Raises
        ------
        UnreadableError
            If a page of it is not mapped, or not in memory.
        """
        parts = []
        while length > 0:
            count = min(length, PAGE - address % PAGE)
            at = self.physical(address)
            if at is None:
                raise UnreadableError("an address is not mapped", address=hex(address & _WORD_MASK))
            parts.append(self.memory.read(at, count))
            address, length = address + count, length - count
        return b"".join(parts)

    def word(self, address: int, size: int = _POINTER) -> int:
        """Return an unsigned number of `size` bytes."""
        return int.from_bytes(self.read(address, size), "little")

    def text(self, address: int, most: int) -> str:
        """Return a text that ends with NUL, of `most` bytes at the most and no further than what is mapped."""
        parts = b""
        while len(parts) < most and b"\0" not in parts:
            count = min(most - len(parts), PAGE - (address + len(parts)) % PAGE)
            parts += self.read(address + len(parts), count)
        return parts.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


class Reader(Space):
    """The kernel's own virtual memory, and its types.

    Parameters
    ----------
    sight : Sight

    Attributes
    ----------
    sight : Sight
    """

    def __init__(self, sight: Sight) -> None:
        super().__init__(sight.memory, sight.kernel.page_table_root, sight.kernel.levels)
        self.sight = sight
        self._offsets: dict[tuple[str, str], int | None] = {}

    @cached_property
    def names(self) -> Names:
        """The kernel's symbols by address."""
        return read_names(self.sight.memory, self.sight.kernel)

    def user(self, root: int) -> Space:
        """Return a process's memory; `root` is the virtual address of its top page table (`mm_struct.pgd`).

        Raises
        ------
        UnreadableError
            If that is not mapped.
        """
        at = self.physical(root)
        if at is None:
            raise UnreadableError("a process's page tables are not mapped", address=hex(root))
        return Space(self.memory, at, self.sight.kernel.levels)

    def symbol(self, name: str) -> int | None:
        """Return the canonical address of a symbol, None where the kernel has none."""
        module = self.sight.module
        return self.sight.canonical(module.get_absolute_symbol_address(name)) if module.has_symbol(name) else None

    def must(self, name: str) -> int:
        """Return the address of a symbol.

        Raises
        ------
        AnalysisError
            If the kernel does not have it.
        """
        found = self.symbol(name)
        if found is None:
            raise AnalysisError("the kernel has no such symbol", missing=name, kernel=self.sight.kernel.release)
        return found

    def has(self, kind: str, member: str) -> bool:
        """Tell whether a type has a member."""
        return self._offset(kind, member) is not None

    def offset(self, kind: str, member: str) -> int:
        """Return where a member begins in its type, in bytes.

        Raises
        ------
        AnalysisError
            If the kernel has no such type or member.
        """
        found = self._offset(kind, member)
        if found is None:
            raise AnalysisError("the kernel's types lack a member", missing=f"{kind}.{member}")
        return found

    def _offset(self, kind: str, member: str) -> int | None:
        key = (kind, member)
        if key not in self._offsets:
            known = self.sight.module.has_type(kind) and self._type(kind).has_member(member)
            self._offsets[key] = int(self._type(kind).relative_child_offset(member)) if known else None
        return self._offsets[key]

    def size(self, kind: str) -> int:
        """Return the bytes of a type.

        Raises
        ------
        AnalysisError
            If the kernel has no such type.
        """
        if not self.sight.module.has_type(kind):
            raise AnalysisError("the kernel has no such type", missing=kind)
        return int(self._type(kind).size)

    def members(self, kind: str) -> list[tuple[str, int]]:
        """Return the members that are pointers, and where each begins."""
        found = self._type(kind).vol.members
        return [(name, offset) for name, (offset, child) in found.items() if child.size == _POINTER and _points(child)]

    def _type(self, kind: str) -> Any:
        return self.sight.module.get_type(kind)

    def choice(self, enumeration: str, name: str) -> int:
        """Return the value of an enumeration's name.

        Raises
        ------
        AnalysisError
            If there is none.
        """
        module = self.sight.module
        choices = module.get_enumeration(enumeration).choices if module.has_enumeration(enumeration) else {}
        if name not in choices:
            raise AnalysisError("the kernel's types lack a value", missing=f"{enumeration}.{name}")
        return int(choices[name])

    def member(self, address: int, kind: str, member: str, size: int = _POINTER) -> int:
        """Return a member of the structure at an address, as an unsigned number."""
        return self.word(address + self.offset(kind, member), size)


def _points(child: Any) -> bool:
    return "pointer" in child.vol.type_name


def container_list(reader: Space, head: int, link: int) -> Iterator[int]:
    """Yield the structures in a list of the kernel (`list_head`), which have their link at offset `link`.

    Raises
    ------
    UnreadableError
        Where the list leads to what is not mapped.
    AnalysisError
        If it runs in a ring that does not lead to its head, or is longer than any real one.
    """
    seen: set[int] = set()
    at = reader.word(head)
    while at != head:
        if at in seen or len(seen) >= _MOST_ENTRIES:
            raise AnalysisError("a list of the kernel does not end", address=hex(at), entries=len(seen))
        seen.add(at)
        following = reader.word(at)  # an entry counts only if it is mapped
        yield (at - link) & _WORD_MASK
        at = following
