"""Owners of physical pages: whose each page frame of a moment is, as a table.

One row per frame. A page that one process maps is that process's, with its mapping. An anonymous page that several map
(after fork) is given to the one that started first; a file's page that several map is the file's ("page cache"): naming
one of forty users of libc would mislead. `mappings` says how many map it; `every` gives a row for each of them.

Not found: processes and modules that took themselves off the kernel's lists (their pages are "anonymous", "page cache"
or "vmalloc"), and pages in swap, which are not in memory. "unknown" is memory that the kernel took for itself without
saying for what: network buffers, pipes, tables of drivers.

Refuses to invent: a cell that is not known is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.errors import UsageError
from workbench.memory.owning.frames import I64, U64
from workbench.memory.owning.owned import CODE, OWNERS, Owned, own
from workbench.memory.owning.paths import File, Paths
from workbench.memory.owning.processes import EXEC, READ, SHARED, WRITE
from workbench.memory.owning.structpages import State
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.tables import EXECUTABLE, WRITABLE
from workbench.memory.owning.virtual import strings
from workbench.model import PAGE

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["OWNER_COLUMNS", "Table", "owners"]

OWNER_COLUMNS = (
    "owner", "pid", "process", "mapping_start", "mapping_end", "virtual", "protection", "shared", "path",
    "file_offset", "mappings", "detail",
)  # fmt: skip
_ABSENT = -1
_PROTECTIONS = ["---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx"]
"""By the lowest three bits of `vm_flags`."""


def owners(scene: Scene, pages: Sequence[int] | None = None, every: bool = False) -> pd.DataFrame:
    """Return whose page frames are.

    Parameters
    ----------
    pages : sequence of int, optional
        Page frame numbers (physical address / 4096); all of the guest's memory when left out.
    every : bool
        A row for each process and address that maps a frame, not only the owner's.

    Returns
    -------
    DataFrame
        By frame:

        pfn : int64
        address : uint64
            Physical, bytes.
        owner : string
            One of "process", "page cache", "anonymous" (no process maps it), "kernel text", "kernel rodata",
            "kernel data", "kernel init", "module text", "module rodata", "module data", "vmalloc", "slab",
            "page table", "memory map" (struct pages), "reserved", "free", "device" (no struct page), "unknown".
        pid : Int64
        process : string
            The process's name; the guest's.
        mapping_start, mapping_end : UInt64
            Virtual addresses of the mapping, or of a module's part or the kernel's section.
        virtual : UInt64
            Where the page is in it.
        protection : string
            "rwx" as the mapping allows; for modules and vmalloc as the page table says.
        shared : boolean
            Whether what the process writes there reaches others.
        path : string
            Of the file; the guest's.
        file_offset : Int64
            Bytes.
        mappings : Int64
            How many (process, address) map the frame.
        detail : string
            Module, section, processor, slab cache, "[heap]", "[stack]", "[vdso]", "deleted", "dirty" (newer than the
            disk), "own copy" (a private copy of the file's page).

    Raises
    ------
    UsageError
        If a page is no page frame number.
    SymbolsError, StoreError
    """
    from workbench.memory.volatility.ownership import moment_of

    moment = moment_of(scene.sight, scene.view)
    wanted = None if pages is None else _numbers(pages)
    scene.progress(0.0, "Reading page tables")
    owned = own(moment, wanted)
    scene.progress(60.0, "Naming owners")
    table = Table(moment, owned)
    found = table.every() if every else table.frame()
    found.attrs["error"] = table.error
    return found


def _numbers(pages: Sequence[int]) -> I64:
    try:
        numbers = np.asarray(list(pages), dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"pages are page frame numbers: {error}", cure="Give integers.") from error
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= 1 << 40):
        raise UsageError("no such page frame", found=int(numbers.min()), cure="Give physical address / 4096.")
    return numbers


class Table:
    """The owners of some frames, made into columns.

    Parameters
    ----------
    moment : Moment
    owned : Owned
    """

    def __init__(self, moment: Moment, owned: Owned) -> None:
        self._moment = moment
        self._owned = owned
        self.paths = Paths(moment)

    @property
    def error(self) -> str:
        """What was cut or could not be read so far."""
        parts = (self._owned.maps.error, self._owned.image.error, self.paths.error)
        return "; ".join(each for each in parts if each)

    def frame(self) -> pd.DataFrame:
        """Return a row per frame, as `owners` says."""
        owned = self._owned
        return self._columns(np.arange(len(owned.frame)), owned.leaf, owned.code)

    def every(self) -> pd.DataFrame:
        """Return a row per mapping, and one for each frame that no process maps."""
        owned = self._owned
        pages = owned.maps.pages
        leaves = np.flatnonzero(np.isin(pages.frame, owned.frame))
        rows = np.searchsorted(owned.frame, pages.frame[leaves])
        rest = np.setdiff1d(np.arange(len(owned.frame)), rows)
        row = np.concatenate([rows, rest])
        leaf = np.concatenate([leaves, np.full(len(rest), _ABSENT)])
        kernels = np.isin(owned.code[row], [CODE[each] for each in OWNERS if each.startswith("kernel")])
        code = np.where((leaf >= 0) & ~kernels, CODE["process"], owned.code[row])
        order = np.lexsort((pages.virtual[leaf] if len(pages.virtual) else leaf, row))
        return self._columns(row[order], leaf[order], code[order])

    def of_leaves(self, leaves: I64) -> pd.DataFrame:
        """Return a row for each of some mappings of `maps.pages`, whose frames must be among the owned."""
        row = np.searchsorted(self._owned.frame, self._owned.maps.pages.frame[leaves])
        return self._columns(row, leaves, np.full(len(row), CODE["process"]))

    def of_frames(self, frames: I64) -> pd.DataFrame:
        """Return a row for each of some frames, in their order; they must be among the owned."""
        row = np.searchsorted(self._owned.frame, frames)
        return self._columns(row, self._owned.leaf[row], self._owned.code[row])

    def of_areas(self, areas: I64) -> pd.DataFrame:
        """Return a row for each of some mappings as a whole: without frame, address and page."""
        every = self._owned.maps.areas
        files = self.paths.of_entries(every.entry[areas])
        processes = [self._owned.maps.processes[at] for at in every.process[areas].tolist()]
        nothing = [None] * len(areas)
        notes = [
            "; ".join(filter(None, (every.label[at], file.detail)))
            for at, file in zip(areas.tolist(), files, strict=True)
        ]
        return pd.DataFrame(
            {
                "pfn": pd.array(nothing, dtype="Int64"),
                "address": pd.array(nothing, dtype="UInt64"),
                "owner": pd.array(["process"] * len(areas), dtype="string"),
                "pid": pd.array([each.pid for each in processes], dtype="Int64"),
                "process": pd.array([each.name for each in processes], dtype="string"),
                "mapping_start": pd.array(every.start[areas], dtype="UInt64"),
                "mapping_end": pd.array(every.end[areas], dtype="UInt64"),
                "virtual": pd.array(nothing, dtype="UInt64"),
                "protection": _words(_PROTECTIONS, every.flags[areas] & 7),
                "shared": pd.array(every.flags[areas] & SHARED != 0, dtype="boolean"),
                "path": pd.array([each.path or None for each in files], dtype="string"),
                "file_offset": _masked(every.offset[areas], every.file[areas] != 0, "Int64"),
                "mappings": pd.array(nothing, dtype="Int64"),
                "detail": pd.array([each or None for each in notes], dtype="string"),
            }
        )

    def _columns(self, row: I64, leaf: I64, code: I64) -> pd.DataFrame:
        owned = self._owned
        frame = owned.frame[row]
        start, end, virtual = self._addresses(row, leaf)
        path, offset, notes = self._files(row, leaf)
        process = np.where(leaf >= 0, _at(owned.maps.pages.space, leaf), _ABSENT)
        processes = owned.maps.processes
        pids = np.array([each.pid for each in processes], np.int64)
        vocabulary = list(OWNERS)
        return pd.DataFrame(
            {
                "pfn": frame,
                "address": frame.astype(np.uint64) * np.uint64(PAGE),
                "owner": _words(vocabulary, code),
                "pid": _masked(_at(pids, process), process >= 0, "Int64"),
                "process": _words([each.name for each in processes], process),
                "mapping_start": _masked(start, start != end, "UInt64"),
                "mapping_end": _masked(end, start != end, "UInt64"),
                "virtual": _masked(virtual, virtual != 0, "UInt64"),
                "protection": self._protection(row, leaf),
                "shared": _masked(self._flags(leaf) & SHARED != 0, self._area(leaf) >= 0, "boolean"),
                "path": path,
                "file_offset": offset,
                "mappings": pd.array(owned.mappings[row], dtype="Int64"),
                "detail": self._details(row, leaf, notes),
            }
        )

    def _area(self, leaf: I64) -> I64:
        return np.where(leaf >= 0, _at(self._owned.maps.area, leaf), _ABSENT)

    def _flags(self, leaf: I64) -> I64:
        flags: I64 = _at(self._owned.maps.areas.flags, self._area(leaf))
        return flags

    def _addresses(self, row: I64, leaf: I64) -> tuple[U64, U64, U64]:
        """Return begin and end of the mapping (equal where there is none) and the page's own virtual address."""
        owned = self._owned
        area, span, kernel = self._area(leaf), owned.span[row], owned.kernel[row]
        nothing = np.uint64(0)
        starts = np.array([each.start for each in owned.spans], np.uint64)
        ends = np.array([each.end for each in owned.spans], np.uint64)
        areas, pages = owned.maps.areas, owned.maps.pages
        start = np.where(area >= 0, _at(areas.start, area), np.where(span >= 0, _at(starts, span), nothing))
        end = np.where(area >= 0, _at(areas.end, area), np.where(span >= 0, _at(ends, span), nothing))
        virtual = np.where(kernel >= 0, _at(owned.image.pages.virtual, kernel), nothing)
        image = (span >= 0) & (kernel < 0)
        shifted = owned.frame[row].astype(np.uint64) * np.uint64(PAGE) + np.uint64(-self._moment.delta % (1 << 64))
        virtual = np.where(image, shifted, virtual)
        return start, end, np.where(leaf >= 0, _at(pages.virtual, leaf), virtual)

    def _protection(self, row: I64, leaf: I64) -> Any:
        kernel = self._owned.kernel[row]
        bits = _at(self._owned.image.pages.bits, kernel)
        flags = np.where(leaf >= 0, self._flags(leaf), READ | (bits & WRITABLE != 0) * WRITE)
        flags = np.where(leaf >= 0, flags, flags | (bits & EXECUTABLE != 0) * EXEC)
        known = (self._area(leaf) >= 0) | ((leaf < 0) & (kernel >= 0))
        return _words(_PROTECTIONS, np.where(known, flags & 7, _ABSENT))

    def _files(self, row: I64, leaf: I64) -> tuple[Any, Any, list[tuple[I64, list[str]]]]:
        """Return path, offset and notes: of the file that the page is of, else of the one that the mapping is of."""
        owned, struct = self._owned, self._owned.struct
        cached = struct.state[row] == State.FILE
        area = self._area(leaf)
        copied = ~cached & (area >= 0) & (_at(owned.maps.areas.file, area) != 0)
        names, name = self._names(np.where(cached, struct.mapping[row], 0), np.where(copied, area, _ABSENT))
        inside = (_at(owned.maps.pages.virtual, leaf) - _at(owned.maps.areas.start, area)).astype(np.int64)
        offset = np.where(cached, struct.index[row] * PAGE, _at(owned.maps.areas.offset, area) + inside)
        paths = [each.path or None for each in names]
        own_copy = copied & (struct.state[row] == State.ANONYMOUS)
        notes = [
            (name, [each.detail for each in names]),
            (np.where(struct.dirty[row], 0, _ABSENT), ["dirty"]),
            (np.where(own_copy, 0, _ABSENT), ["own copy"]),
        ]
        return _words(paths, name), _masked(offset, cached | copied, "Int64"), notes

    def _names(self, mapping: U64, area: I64) -> tuple[list[File], I64]:
        """Return files, and which of them is each row's."""
        which, back = np.unique(mapping, return_inverse=True)
        host = self._moment.structures.offset("address_space", "host")
        inodes = np.where(which != 0, self._moment.virtual.words(which + np.uint64(host)), np.uint64(0))
        mine, other = np.unique(area, return_inverse=True)
        entries = np.where(mine >= 0, _at(self._owned.maps.areas.entry, mine), np.uint64(0))
        files = self.paths.of_inodes(inodes) + self.paths.of_entries(entries)
        return files, np.where(mapping != 0, back, np.where(area >= 0, other + len(which), _ABSENT))

    def _details(self, row: I64, leaf: I64, notes: list[tuple[I64, list[str]]]) -> Any:
        owned = self._owned
        caches, cache = self._caches(row)
        labels = owned.maps.areas.label
        parts = [
            (np.where(leaf < 0, owned.span[row], _ABSENT), [each.detail for each in owned.spans]),
            (cache, caches),
            (self._area(leaf), labels),
            *notes,
        ]
        text = np.full(len(row), "", object)
        for code, words in parts:
            said = np.isin(code, [at for at, word in enumerate(words) if word])
            new = np.array([*words, ""], object)[code[said]]
            text[said] = np.where(text[said] == "", new, text[said] + "; " + new)
        text[text == ""] = None
        return pd.array(text, dtype="string")

    def _caches(self, row: I64) -> tuple[list[str], I64]:
        """Return names of slab caches, and which is each row's."""
        structures, virtual = self._moment.structures, self._moment.virtual
        cache = self._owned.struct.cache[row]
        which, back = np.unique(cache, return_inverse=True)
        at = virtual.words(which + np.uint64(structures.offset("kmem_cache", "name")))
        return strings(virtual.gather(at, 64)[0]), np.where(cache != 0, back, _ABSENT)


def _at(values: Any, index: I64) -> Any:
    """Return values at positions; anything where a position is negative."""
    if not len(values):
        return np.zeros(len(index), values.dtype)
    return values[np.where(index >= 0, index, 0)]


def _words(words: Sequence[str | None], code: I64) -> Any:
    """Return texts by code, absent where it is negative."""
    if not len(words):
        return pd.array([None] * len(code), dtype="string")
    return pd.array(list(words), dtype="string").take(code, allow_fill=True)


def _masked(values: Any, known: Any, kind: str) -> Any:
    found: Any = pd.Series(values).astype(kind)  # type: ignore[call-overload]
    return found.where(pd.Series(known), pd.NA).array
