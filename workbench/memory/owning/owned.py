"""One owner for each page frame of a moment, as columns of codes: the join of everything else in this room.

The order in which claims count, the last that holds wins: what the struct page says; kernel virtual memory outside of
the image (modules, vmalloc); the one process that maps it, or the first of several for memory without a file; the
sections of the kernel's image, where the kernel has reserved them; page tables that were walked.

Refuses to name one of several processes as the owner of a file's page: such a page is the file's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.memory.owning.frames import I64, U64
from workbench.memory.owning.image import Module, Span, kernel_spans, processor_spans, read_modules, span_frames
from workbench.memory.owning.processes import Areas, Process, read_areas, read_processes
from workbench.memory.owning.structpages import State, StructPages, array_frames, read_struct_pages
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.tables import WRITABLE, Pages, walk

__all__ = ["OWNERS", "Image", "Maps", "Owned", "own", "read_image", "read_maps"]

OWNERS = (
    "unknown", "free", "reserved", "slab", "page table", "page cache", "anonymous", "unreadable",
    "process", "kernel text", "kernel rodata", "kernel data", "kernel init",
    "module text", "module rodata", "module data", "vmalloc", "memory map", "device",
)  # fmt: skip
"""Owners by code; the first eight are those of `State`."""
CODE = {name: code for code, name in enumerate(OWNERS)}
_USER_END = {4: 1 << 47, 5: 1 << 56}
_MODULES = 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_FF00_0000
"""The top 2 GiB: the kernel's image and its modules (Documentation/arch/x86/x86_64/mm.rst)."""
_VMALLOC = {4: (0xFFFF_C900_0000_0000, 1 << 45), 5: (0xFFA0_0000_0000_0000, 12800 << 40)}
"""Where vmalloc is in kernels that do not move it, and its bytes at most."""


@dataclass(slots=True)
class Maps:
    """What the processes of a moment map.

    Attributes
    ----------
    processes : list of Process
    areas : Areas
    pages : Pages
        `space` counts in `processes`.
    area : (n,) int64
        The area that each of `pages` is in, -1 for none.
    error : str
    """

    processes: list[Process]
    areas: Areas
    pages: Pages
    area: I64
    error: str


def read_maps(moment: Moment) -> Maps:
    """Read the processes of a moment and every page that they map.

    Raises
    ------
    SymbolsError, StoreError
    """
    processes, lacking = read_processes(moment)
    areas = read_areas(moment, processes)
    roots = moment.virtual.locate(np.array([each.tables for each in processes], np.uint64))
    pages = walk(moment.frames, np.maximum(roots, 0), moment.levels, 0, _USER_END[moment.levels])
    area = np.full(len(pages.frame), -1, np.int64)
    order = np.argsort(pages.space, kind="stable")
    cuts = np.searchsorted(pages.space[order], np.arange(len(processes) + 1))
    bounds = np.searchsorted(areas.process, np.arange(len(processes) + 1))
    for process in range(len(processes)):
        rows, mine = order[cuts[process] : cuts[process + 1]], slice(bounds[process], bounds[process + 1])
        at = np.searchsorted(areas.start[mine], pages.virtual[rows], "right") - 1
        known = at >= 0
        known[known] = pages.virtual[rows][known] < areas.end[mine][at[known]]
        area[rows] = np.where(known, at + bounds[process], -1)
    errors = [lacking, areas.error, pages.error]
    if (roots < 0).any():
        errors.append("a process has no page tables that can be read")
    return Maps(processes, areas, pages, area, "; ".join(each for each in errors if each))


@dataclass(slots=True)
class Image:
    """The kernel's own virtual memory.

    Attributes
    ----------
    spans : list of Span
        Sections of the image.
    modules : list of Module
    pages : Pages
        What is mapped where modules and vmalloc are, and the processors' areas; the image is not in it.
    processors : list of Span
        Areas of per-processor variables.
    error : str
    """

    spans: list[Span]
    modules: list[Module]
    pages: Pages
    processors: list[Span]
    error: str


def read_image(moment: Moment) -> Image:
    """Read what the kernel maps outside of its direct map.

    Raises
    ------
    StoreError
    """
    modules, error = read_modules(moment)
    spans = kernel_spans(moment)
    end = max((span.end for span in spans), default=_MODULES[0])
    root = np.array([moment.root], np.int64)
    low, size = _VMALLOC[moment.levels]
    pointer = moment.structures.symbol("vmalloc_base")
    low = (moment.word(pointer) if pointer is not None else 0) or low
    parts = [
        walk(moment.frames, root, moment.levels, low, min(low + size, _MODULES[0])),
        walk(moment.frames, root, moment.levels, end, _MODULES[1]),
    ]
    processors = processor_spans(moment)
    parts.append(_direct(moment, processors))
    lacking = "; ".join(each for each in (error, *(part.error for part in parts)) if each)
    pages = Pages.joined(parts, np.unique(np.concatenate([part.tables for part in parts])), "")
    return Image(spans, modules, pages, processors, lacking)


def _direct(moment: Moment, spans: list[Span]) -> Pages:
    """Return the pages of spans in the kernel's direct map: they can be written, and not executed."""
    pages = [np.arange(span.start >> 12, -(-span.end >> 12), dtype=np.uint64) for span in spans]
    virtual = np.concatenate([np.zeros(0, np.uint64), *pages]) << np.uint64(12)
    places = moment.virtual.locate(virtual)
    virtual, frames = virtual[places >= 0], places[places >= 0] >> 12
    return Pages(np.zeros(len(frames), np.int64), virtual, frames, np.full(len(frames), WRITABLE))


@dataclass(slots=True)
class Owned:
    """Owners of frames, columns of equal length.

    Attributes
    ----------
    frame : int64
        Ascending.
    code : int64
        Position in `OWNERS`.
    leaf : int64
        Position in `maps.pages` of the mapping that makes the owner (or of the first), -1 for none.
    mappings : int64
        How many (process, address) map it.
    span : int64
        Position in `spans`, -1 for none.
    kernel : int64
        Position in `image.pages`, -1 for none.
    struct : StructPages
    spans : list of Span
    maps : Maps
    image : Image
    """

    frame: I64
    code: I64
    leaf: I64
    mappings: I64
    span: I64
    kernel: I64
    struct: StructPages
    spans: list[Span]
    maps: Maps
    image: Image


def own(moment: Moment, frames: I64 | None = None, maps: Maps | None = None, image: Image | None = None) -> Owned:
    """Find the owners of frames (all of them when left out).

    Raises
    ------
    SymbolsError, StoreError
    """
    maps, image = maps or read_maps(moment), image or read_image(moment)
    frames = moment.frames.numbers if frames is None else np.unique(frames)
    struct = read_struct_pages(moment, frames)
    none = np.full(len(frames), -1, np.int64)
    owned = Owned(frames, struct.state.copy(), none, none.copy(), none.copy(), none.copy(), struct, [], maps, image)
    owned.code[owned.code == State.UNREADABLE] = CODE["device"]
    _by_kernel(owned)
    _by_process(owned)
    _by_section(moment, owned)
    _set(owned, np.union1d(maps.pages.tables, image.pages.tables), "page table")
    inside = np.isin(frames, array_frames(moment))
    owned.code[inside & (struct.state == State.RESERVED)] = CODE["memory map"]
    owned.leaf[owned.code != CODE["process"]] = -1
    return owned


def _rows(owned: Owned, frames: I64) -> tuple[I64, NDArray[np.bool_]]:
    """Return the row of each frame, and whether it has one."""
    at = np.searchsorted(owned.frame, frames)
    at = np.minimum(at, max(0, len(owned.frame) - 1))
    return at, (owned.frame[at] == frames) if len(owned.frame) else np.zeros(len(frames), bool)


def _set(owned: Owned, frames: I64, owner: str) -> None:
    rows, wanted = _rows(owned, frames)
    owned.code[rows[wanted]] = CODE[owner]


def _by_kernel(owned: Owned) -> None:
    """Pages of modules and of vmalloc; those of a file or of a process that the kernel maps too stay theirs."""
    pages = owned.image.pages
    rows, wanted = _rows(owned, pages.frame)
    leaves = np.flatnonzero(wanted)
    theirs = (State.FILE, State.ANONYMOUS, State.SLAB)
    leaves = leaves[~np.isin(owned.struct.state[rows[leaves]], theirs)]
    owned.kernel[rows[leaves]] = leaves
    owned.code[rows[leaves]] = CODE["vmalloc"]
    modules = [span for module in owned.image.modules for span in module.spans]
    for span in (*modules, *owned.image.processors):
        within = leaves[_inside(pages.virtual[leaves], span)]
        owned.code[rows[within]] = CODE[span.owner]
        owned.span[rows[within]] = len(owned.spans)
        owned.spans.append(span)


def _inside(virtual: U64, span: Span) -> NDArray[np.bool_]:
    """Tell which pages a span touches."""
    first, last = span.start & ~0xFFF, span.end - 1 | 0xFFF
    return (virtual >= np.uint64(first)) & (virtual <= np.uint64(last))


def _by_process(owned: Owned) -> None:
    pages = owned.maps.pages
    rows, wanted = _rows(owned, pages.frame)
    leaves = np.flatnonzero(wanted)
    started = np.array([each.start for each in owned.maps.processes], np.uint64)
    # The process that started first is the one that a page without a file was made by: others got it by fork.
    order = leaves[np.lexsort((pages.virtual[leaves], started[pages.space[leaves]], rows[leaves]))]
    which, first, count = np.unique(rows[order], return_index=True, return_counts=True)
    owned.mappings[:] = 0
    owned.mappings[which] = count
    owned.leaf[which] = order[first]
    # Other pages of several are a file's, or the kernel's (the time that all processes read).
    own = (count == 1) | (owned.struct.state[which] == State.ANONYMOUS)
    owned.leaf[which[~own]] = -1
    owned.code[which[own]] = CODE["process"]


def _by_section(moment: Moment, owned: Owned) -> None:
    for span in owned.image.spans:
        rows, wanted = _rows(owned, span_frames(moment, span))
        rows = rows[wanted]
        rows = rows[owned.struct.state[rows] == State.RESERVED]  # the rest was freed, and is something else now
        owned.code[rows] = CODE[span.owner]
        owned.span[rows] = len(owned.spans)
        owned.spans.append(span)
