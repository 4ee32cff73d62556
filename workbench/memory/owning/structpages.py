"""What the kernel itself says of every page frame: its `struct page`, read as an array.

Source: Linux include/linux/mm_types.h and page-flags.h. Which bit or type means what is read from the kernel's own
enumerations where it has them: `pageflags` for slab and reserved; `pagetype` of 6.10 (flags, cleared where they hold)
and 6.12 (a number in the upper byte); before, the types were macros with the values in `_OLD_TYPES`.

Refuses to take a union's member for what it is not: a file's page counts as one only where its address space and inode
point at each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from workbench.memory.owning.frames import I64, U64
from workbench.memory.owning.structures import Moment, Structures
from workbench.memory.owning.virtual import field

__all__ = ["State", "StructPages", "array_frames", "read_struct_pages"]

Mask = NDArray[np.bool_]
_VMEMMAP = {4: 0xFFFF_EA00_0000_0000, 5: 0xFFD4_0000_0000_0000}
"""Where the array is in kernels that do not move it (Documentation/arch/x86/x86_64/mm.rst)."""
_OLD_TYPES = {"PG_buddy": 0x80, "PG_table": 0x200}
_TYPE_BASE = 0xF000_0000
_ANONYMOUS, _MOVABLE = 1, 2
"""Low bits of `mapping`: PAGE_MAPPING_ANON and PAGE_MAPPING_MOVABLE; both together are KSM."""
_DIRTY = 1


class State(IntEnum):
    """What a frame is used for, by its struct page alone."""

    UNKNOWN = 0
    """In use by the kernel; the struct page does not say for what."""
    FREE = 1
    RESERVED = 2
    SLAB = 3
    TABLE = 4
    FILE = 5
    ANONYMOUS = 6
    UNREADABLE = 7
    """The guest's kernel has no struct page for it, or it cannot be read."""


@dataclass(slots=True)
class StructPages:
    """Struct pages of some frames, columns of equal length.

    Attributes
    ----------
    state : uint8
        `State`.
    mapping : uint64
        The `struct address_space` of a file's page, else 0.
    index : int64
        A file's page: its number in the file.
    cache : uint64
        The `struct kmem_cache` of a slab page, else 0.
    dirty : bool
        A file's page that is newer than the disk.
    settled : bool
        A file's page whose content is all there: it is not just being read from the disk.
    current : bool
        A file's page whose content is all there, perhaps locked meanwhile: on its way to the disk.
    private : uint64
        Of a file's page that is no tail: what its file system keeps beside it (buffers), else 0.
    """

    state: I64
    mapping: U64
    index: I64
    cache: U64
    dirty: Mask
    settled: Mask
    current: Mask
    private: U64


@dataclass(slots=True)
class _Raw:
    """Members of struct pages, heads for tails."""

    flags: U64
    head: U64
    mapping: U64
    index: U64
    kind: U64
    count: U64
    cache: U64
    private: U64
    whole: Mask


def read_struct_pages(moment: Moment, numbers: I64) -> StructPages:
    """Read the struct pages of frames.

    Raises
    ------
    SymbolsError
        If the symbols have no struct page.
    StoreError
    """
    base, size = _array(moment)
    raw, steps = _with_heads(moment, base, size, numbers)
    types = _Types(moment.structures)
    state = np.zeros(len(numbers), np.int64)
    slab, free = types.slab(raw), types.free(raw)
    low = raw.mapping & np.uint64(3)
    file = _files(moment, np.where((low == 0) & ~slab & ~free, raw.mapping, np.uint64(0)))
    state[file] = State.FILE
    state[low == _ANONYMOUS] = State.ANONYMOUS
    state[low == _ANONYMOUS | _MOVABLE] = State.ANONYMOUS
    state[types.table(raw)] = State.TABLE
    state[slab] = State.SLAB
    state[types.reserved(raw)] = State.RESERVED
    state[free] = State.FREE
    state[~raw.whole] = State.UNREADABLE
    is_file, is_slab = state == State.FILE, state == State.SLAB
    return StructPages(
        state,
        np.where(is_file, raw.mapping, np.uint64(0)),
        np.where(is_file, raw.index.astype(np.int64) + steps, 0),
        np.where(is_slab, raw.cache, np.uint64(0)),
        is_file & types.dirty(raw),
        is_file & types.settled(raw),
        is_file & types.current(raw),
        np.where(is_file & types.private(raw) & (steps == 0), raw.private, np.uint64(0)),
    )


def _array(moment: Moment) -> tuple[int, int]:
    """Return where the array of struct pages is, and the size of one."""
    pointer = moment.structures.symbol("vmemmap_base")
    base = moment.word(pointer) if pointer is not None else 0
    return base or _VMEMMAP[moment.levels], moment.structures.size("page")


def array_frames(moment: Moment) -> I64:
    """Return the frames that the struct pages of all of the guest's memory are in, ascending.

    Raises
    ------
    SymbolsError, StoreError
    """
    base, size = _array(moment)
    pages = np.unique(np.uint64(base) + moment.frames.numbers.astype(np.uint64) * np.uint64(size) >> np.uint64(12))
    places = moment.virtual.locate(pages << np.uint64(12))
    return np.unique(places[places >= 0] >> 12)


def _read(moment: Moment, base: int, size: int, numbers: I64) -> _Raw:
    rows, whole = moment.virtual.elements(base, numbers, size)
    structures = moment.structures

    def member(kind: str, names: tuple[str, ...], form: str = "<u8") -> U64:
        found = next((structures.offset(kind, name) for name in names if structures.has(kind, name)), -1)
        return field(rows, found, form)

    return _Raw(
        flags=member("page", ("flags", "flags.f")),
        head=member("page", ("compound_head", "compound_info")),
        mapping=member("page", ("mapping",)),
        index=member("page", ("index", "__folio_index")),
        kind=member("page", ("page_type", "_mapcount"), "<u4"),
        count=member("page", ("_refcount",), "<u4"),
        cache=member("slab", ("slab_cache",)) if structures.has("slab") else member("page", ("slab_cache",)),
        private=member("page", ("private",)),
        whole=whole,
    )


def _with_heads(moment: Moment, base: int, size: int, numbers: I64) -> tuple[_Raw, I64]:
    """Return members, those of its head for a tail of a compound page, and how far behind its head each frame is."""
    raw = _read(moment, base, size, numbers)
    steps = np.zeros(len(numbers), np.int64)
    tails = np.flatnonzero(raw.head & np.uint64(1))
    if not len(tails):
        return raw, steps
    head = ((raw.head[tails] - np.uint64(1) - np.uint64(base)) // np.uint64(size)).astype(np.int64)
    sound = (head >= 0) & (head < numbers[tails]) & (numbers[tails] - head < 1 << 18)  # 1 GiB is the largest
    tails, head = tails[sound], head[sound]
    which, back = np.unique(head, return_inverse=True)
    heads = _read(moment, base, size, which)
    for name in ("flags", "mapping", "index", "kind", "count", "cache"):
        getattr(raw, name)[tails] = getattr(heads, name)[back]
    raw.whole[tails] &= heads.whole[back]
    steps[tails] = numbers[tails] - head
    return raw, steps


def _files(moment: Moment, mapping: U64) -> Mask:
    """Tell which of `mapping` are address spaces of inodes: each must point back."""
    structures, virtual = moment.structures, moment.virtual
    which, back = np.unique(mapping, return_inverse=True)
    host = virtual.words(which + np.uint64(structures.offset("address_space", "host")))
    own = virtual.words(host + np.uint64(structures.offset("inode", "i_mapping")))
    data = host + np.uint64(structures.offset("inode", "i_data"))
    sound = (which != 0) & (host != 0) & ((own == which) | (data == which))
    found: Mask = sound[back]
    return found


class _Types:
    """How this kernel marks what a page is."""

    def __init__(self, structures: Structures) -> None:
        self._flags = structures.enumeration("pageflags")
        self._kinds = structures.enumeration("pagetype")

    def _flag(self, raw: _Raw, name: str) -> Mask:
        bit = self._flags.get(name)
        if bit is None or not 0 <= bit < 64:
            return np.zeros(len(raw.flags), bool)
        found: Mask = np.not_equal(raw.flags >> np.uint64(bit) & np.uint64(1), 0)
        return found

    def _kind(self, raw: _Raw, name: str) -> Mask:
        number = self._kinds.get(f"PGTY_{name}")
        bit = self._kinds.get(f"PG_{name}", _OLD_TYPES.get(f"PG_{name}"))
        found: Mask = np.zeros(len(raw.kind), bool)
        if number is not None:
            found = np.equal(raw.kind >> np.uint64(24), np.uint64(number & 0xFF))
        elif bit is not None and f"PG_{name}" not in self._flags:
            found = np.equal(raw.kind & np.uint64(_TYPE_BASE | bit), np.uint64(_TYPE_BASE))
        return found

    def slab(self, raw: _Raw) -> Mask:
        return self._flag(raw, "PG_slab") | self._kind(raw, "slab")

    def table(self, raw: _Raw) -> Mask:
        return self._kind(raw, "table")

    def reserved(self, raw: _Raw) -> Mask:
        return self._flag(raw, "PG_reserved")

    def dirty(self, raw: _Raw) -> Mask:
        return self._flag(raw, "PG_dirty") | self._flag(raw, "PG_writeback")

    def settled(self, raw: _Raw) -> Mask:
        return self.current(raw) & ~self._flag(raw, "PG_locked")

    def current(self, raw: _Raw) -> Mask:
        return self._flag(raw, "PG_uptodate")

    def private(self, raw: _Raw) -> Mask:
        return self._flag(raw, "PG_private")

    def free(self, raw: _Raw) -> Mask:
        """Nobody holds it: in the buddy allocator, behind the first page of a block there, or in a processor's list.

        A page in a slab may count 0 from 6.1x on, so slabs are not asked.
        """
        unused = np.equal(raw.count, 0) & ~self.slab(raw) & ~self.reserved(raw)
        return np.logical_or(unused, self._kind(raw, "buddy"))
