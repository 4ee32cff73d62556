"""Processes by the memory that they lie in: every `task_struct` object in the slab that is for them, linked or not.

A word that points to a scheduling class is where a task may be; the page's own descriptor says whether it belongs to
the cache of task structures, and where its objects begin. What exited keeps its content for a while: it is left out by
its reference count and states, not by being unlinked.

Sources: Linux 6.1 include/linux/sched.h, mm/slab.h (struct slab lies over struct page), mm/slub.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.reading import Reader
from workbench.memory.detect.tasks import Task, View, is_live, is_process, read_task, task_bytes
from workbench.model import PAGE

__all__ = ["scan_view"]

_CLASSES = ("fair", "rt", "dl", "idle", "stop", "ext")
_MOST_CANDIDATES = 1 << 17
"""A guest may fill its memory with what looks like the beginning of a task."""
_PAGE_OFFSET = {4: 0xFFFF_8880_0000_0000, 5: 0xFF11_0000_0000_0000}
_VMEMMAP = {4: 0xFFFF_EA00_0000_0000, 5: 0xFFD4_0000_0000_0000}
"""Where they are if the kernel does not move them (Documentation/arch/x86/x86_64/mm.rst)."""


@dataclass(frozen=True, slots=True)
class _Slabs:
    """How to tell an object of a cache from other memory."""

    reader: Reader
    direct: int
    pages: int
    page_size: int
    owner: int
    cache: int
    object_size: int
    pad: int

    def holds(self, physical: int) -> bool:
        """Tell whether an object of the cache begins there."""
        page = self.pages + physical // PAGE * self.page_size
        head = self.reader.member(page, "page", "compound_head")
        if head & 1:
            page = head - 1
        if self.reader.word(page + self.owner) != self.cache:
            return False
        begin = (page - self.pages) // self.page_size * PAGE
        return physical >= begin and (physical - begin - self.pad) % self.object_size == 0


def _open_slabs(reader: Reader) -> _Slabs:
    levels = reader.sight.kernel.levels
    cache = reader.word(reader.must("task_struct_cachep"))
    kind = "slab" if reader.has("slab", "slab_cache") else "page"
    pad = reader.member(cache, "kmem_cache", "red_left_pad", 4) if reader.has("kmem_cache", "red_left_pad") else 0
    size = reader.member(cache, "kmem_cache", "size", 4)
    if size < task_bytes(reader):
        raise AnalysisError("the cache of tasks cannot be what it says", size=size, address=hex(cache))
    return _Slabs(
        reader,
        direct=_base(reader, "page_offset_base", _PAGE_OFFSET[levels]),
        pages=_base(reader, "vmemmap_base", _VMEMMAP[levels]),
        page_size=reader.size("page"),
        owner=reader.offset(kind, "slab_cache"),
        cache=cache,
        object_size=size,
        pad=pad,
    )


def _base(reader: Reader, symbol: str, otherwise: int) -> int:
    at = reader.symbol(symbol)
    return otherwise if at is None else reader.word(at)


def _candidates(reader: Reader) -> Iterator[int]:
    """Yield physical addresses at which a task would begin."""
    place = reader.offset("task_struct", "sched_class")
    known = [reader.symbol(f"{name}_sched_class") for name in _CLASSES]
    wanted = [np.uint64(each) for each in known if each is not None]
    if not wanted:
        raise AnalysisError("the kernel has no scheduling classes by name", missing="fair_sched_class")
    count = 0
    for address, content in reader.sight.memory.runs():
        for at in _matches(content, wanted):
            count += 1
            if count > _MOST_CANDIDATES:
                raise AnalysisError("more of memory looks like tasks than can be tasks", most=_MOST_CANDIDATES)
            if address + at >= place:
                yield address + at - place


def _matches(content: NDArray[np.uint8], wanted: list[np.uint64]) -> list[int]:
    """Return the offsets of words that are one of those wanted."""
    words = content[: len(content) // 8 * 8].view(np.uint64)
    # They lie side by side: one comparison of ranges leaves little to be looked at in full.
    near = np.flatnonzero(words - min(wanted) <= max(wanted) - min(wanted))
    found: list[int] = (near[np.isin(words[near], np.array(wanted, np.uint64))] * 8).tolist()
    return found


def _tasks(reader: Reader) -> Iterator[Task]:
    slabs = _open_slabs(reader)
    for physical in _candidates(reader):
        try:
            if slabs.holds(physical):
                yield read_task(reader, slabs.direct + physical)
        except UnreadableError:
            continue  # no descriptor of this page, or a task that would not fit: no object of the cache


def scan_view(reader: Reader, listed: set[int]) -> View:
    """Look for live processes in the slab of tasks.

    Parameters
    ----------
    reader : Reader
    listed : set of int
        Tasks that are known: one that still shares its number's structure with one of them is a copy of it that
        `fork` is just making.

    Returns
    -------
    View
    """
    view = View("slab of tasks")
    try:
        shared = {reader.member(each, "task_struct", "thread_pid"): each for each in listed}
        for task in _tasks(reader):
            copied = shared.get(task.thread_pid, task.address) != task.address
            if is_process(task) and is_live(task) and not (copied and task.thread_pid):
                view.found.add(task.address)
    except (UnreadableError, AnalysisError) as error:
        view.unseen.append(f"the {view.name} could not be searched: {error}")
    return view
