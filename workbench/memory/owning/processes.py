"""Processes and their mappings: tasks from the kernel's list, areas (VMAs) from each address space's tree.

Source: Linux include/linux/sched.h, mm_types.h, maple_tree.h and lib/maple_tree.c (6.1 and later); the list by
`vm_next` before that. Trees of all processes are walked together, level by level.

Refuses lists and trees without an end: tasks, nodes and areas are bounded, and what was cut is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workbench.memory.owning.frames import I64, U8, U64
from workbench.memory.owning.structures import Moment, Structures
from workbench.memory.owning.virtual import field as member
from workbench.memory.owning.virtual import strings

__all__ = ["EXEC", "READ", "SHARED", "WRITE", "Areas", "Process", "read_areas", "read_processes"]

READ, WRITE, EXEC, SHARED = 1, 2, 4, 8
"""Bits of `vm_flags`."""
_MOST_TASKS = 1 << 16
_MOST_AREAS = 1 << 20
_MOST_NODES = 1 << 17
_DEEPEST = 32
"""Levels of a tree: more than 2^20 areas need."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process with an address space of its own.

    Attributes
    ----------
    pid : int
        Of its first thread (`tgid`).
    name : str
        `comm`; the guest's, not to be printed raw.
    start : int
        `start_time`, ns since boot: with the pid it names one process.
    space : int
        Virtual address of its `mm_struct`.
    tables : int
        Virtual address of its topmost page table.
    """

    pid: int
    name: str
    start: int
    space: int
    tables: int


def read_processes(moment: Moment) -> tuple[list[Process], str]:
    """Return the processes that have an address space, in the list's order, and what was cut.

    Raises
    ------
    SymbolsError
        If the symbols have no tasks.
    StoreError
    """
    structures = moment.structures
    first = structures.symbol("init_task") or 0
    at = structures.offset("task_struct", "tasks")
    found: dict[int, Process] = {}
    seen: set[int] = set()
    task, error = first, ""
    while task not in seen:
        if len(seen) >= _MOST_TASKS:
            error = f"more than {_MOST_TASKS:,} tasks: the rest is missing"
            break
        seen.add(task)
        process, following = _task(moment, task)
        if process is not None:
            found.setdefault(process.space, process)  # who shares an address space does so with its first process
        if not following:
            error = "the list of tasks breaks off"
            break
        task = following - at
    return list(found.values()), error


def _task(moment: Moment, task: int) -> tuple[Process | None, int]:
    structures = moment.structures
    rows, _ = moment.virtual.gather(np.array([task & (1 << 64) - 1], np.uint64), _reach(structures))

    def value(name: str, kind: str = "<u8") -> int:
        return int(member(rows, structures.offset("task_struct", name), kind)[0])

    space = value("mm")
    following = value("tasks.next")
    if not space:
        return None, following
    tables = moment.word(space + structures.offset("mm_struct", "pgd"))
    name = structures.offset("task_struct", "comm")
    return Process(value("tgid", "<u4"), strings(rows[:, name : name + 16])[0], value("start_time"), space, tables), (
        following
    )


def _reach(structures: Structures) -> int:
    """Return how many bytes of a task hold all that is asked of it."""
    names = ("tasks", "mm", "tgid", "comm", "start_time")
    return min(4096, max(structures.offset("task_struct", name) for name in names) + 16)


@dataclass(slots=True)
class Areas:
    """Mappings (VMAs), sorted by process and start; columns of equal length.

    Attributes
    ----------
    process : int64
        Position in the list of processes.
    start, end : uint64
        Virtual addresses.
    flags : int64
        `vm_flags`: `READ`, `WRITE`, `EXEC`, `SHARED` are its lowest bits.
    file : uint64
        Virtual address of its `struct file`, 0 for none.
    offset : int64
        Bytes in the file that it begins at.
    inode, mapping, entry : uint64
        The file's inode, address space and dentry; 0 for none.
    label : list of str
        "[heap]", "[stack]", "[vdso]" or "".
    error : str
    """

    process: I64
    start: U64
    end: U64
    flags: I64
    file: U64
    offset: I64
    inode: U64
    mapping: U64
    entry: U64
    label: list[str] = field(default_factory=list)
    error: str = ""


def read_areas(moment: Moment, processes: list[Process]) -> Areas:
    """Return the mappings of processes.

    Raises
    ------
    SymbolsError
        If the symbols have no areas.
    StoreError
    """
    structures = moment.structures
    spaces = np.array([each.space for each in processes], np.uint64)
    by_tree = structures.has("mm_struct", "mm_mt")
    owner, area, error = _by_tree(moment, spaces) if by_tree else _by_list(moment, spaces)
    rows, whole = moment.virtual.gather(area, structures.size("vm_area_struct"))

    def value(name: str) -> U64:
        return member(rows, structures.offset("vm_area_struct", name))

    start, end, space = value("vm_start"), value("vm_end"), value("vm_mm")
    # A node's slots beyond its end may hold what was there before: an area says whose it is.
    sound = whole & (start < end) & (space == spaces[owner])
    order = np.flatnonzero(sound)[np.lexsort((start[sound], owner[sound]))]
    file = value("vm_file")[order]
    inode, mapping, entry = (_of_files(moment, file, name) for name in ("f_inode", "f_mapping", "f_path.dentry"))
    found = Areas(
        owner[order], start[order], end[order], value("vm_flags")[order].astype(np.int64), file,
        (value("vm_pgoff")[order] << np.uint64(12)).astype(np.int64), inode, mapping, entry, error=error,
    )  # fmt: skip
    found.label = _labels(moment, spaces, found)
    return found


def _of_files(moment: Moment, files: U64, name: str) -> U64:
    which, back = np.unique(files, return_inverse=True)
    words = moment.virtual.words(which + np.uint64(moment.structures.offset("file", name)))
    return np.where(which != 0, words, np.uint64(0))[back]


def _labels(moment: Moment, spaces: U64, areas: Areas) -> list[str]:
    """Return what the kernel itself calls areas without a file."""
    structures, words = moment.structures, moment.virtual.words

    def of(name: str) -> U64:
        if not structures.has("mm_struct", name):
            return np.zeros(len(areas.start), np.uint64)
        return words(spaces + np.uint64(structures.offset("mm_struct", name)))[areas.process]

    label = np.full(len(areas.start), "", object)
    nameless = areas.file == 0
    low, high, stack = of("start_brk"), of("brk"), of("start_stack")
    label[nameless & (areas.start < high) & (areas.end > low)] = "[heap]"
    label[nameless & (areas.start <= stack) & (areas.end > stack)] = "[stack]"
    label[nameless & (areas.start == of("context.vdso"))] = "[vdso]"
    return [str(each) for each in label]


def _by_list(moment: Moment, spaces: U64) -> tuple[I64, U64, str]:
    """Follow the lists of all address spaces in step."""
    structures, words = moment.structures, moment.virtual.words
    after = np.uint64(structures.offset("vm_area_struct", "vm_next"))
    area = words(spaces + np.uint64(structures.offset("mm_struct", "mmap")))
    owner, owners, areas, total = np.arange(len(spaces)), [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], 0
    while (area != 0).any():
        owner, area = owner[area != 0], area[area != 0]
        owners.append(owner)
        areas.append(area)
        total += len(area)
        if total > _MOST_AREAS:
            return np.concatenate(owners), np.concatenate(areas), f"more than {_MOST_AREAS:,} mappings: cut"
        area = words(area + after)
    return np.concatenate(owners), np.concatenate(areas), ""


@dataclass(slots=True)
class _Nodes:
    """Nodes of maple trees: whose, what they are encoded as, and the last index below them."""

    owner: I64
    entry: U64
    last: U64


_LEAF, _RANGE, _ARANGE = 1, 2, 3
"""`enum maple_type`."""
_POINTER = np.uint64(0xFF)


def _by_tree(moment: Moment, spaces: U64) -> tuple[I64, U64, str]:
    """Walk the maple trees of all address spaces together, level by level."""
    root = moment.virtual.words(spaces + np.uint64(moment.structures.offset("mm_struct", "mm_mt.ma_root")))
    single = (root & np.uint64(3)) == 0  # one area at index 0 only, or none
    owners, areas = [np.arange(len(spaces))[single & (root != 0)]], [root[single & (root != 0)]]
    nodes = _Nodes(
        np.arange(len(spaces))[~single], root[~single], np.full(int((~single).sum()), (1 << 64) - 1, np.uint64)
    )
    left = _MOST_NODES
    for _ in range(_DEEPEST):
        if not len(nodes.entry):
            return np.concatenate(owners), np.concatenate(areas), ""
        if len(nodes.entry) > left:
            break
        left -= len(nodes.entry)
        rows, whole = moment.virtual.gather(nodes.entry & ~_POINTER, moment.structures.size("maple_node"))
        kind = (nodes.entry >> np.uint64(3) & np.uint64(15)).astype(np.int64)
        below = []
        for shape in (_LEAF, _RANGE, _ARANGE):
            chosen = np.flatnonzero(whole & (kind == shape))
            found = _slots(moment.structures, nodes, rows, chosen, wide=shape != _ARANGE)
            if shape == _LEAF:
                owners.append(found.owner)
                areas.append(found.entry)
            else:
                below.append(found)
        nodes = _Nodes(
            *(np.concatenate([getattr(each, name) for each in below]) for name in ("owner", "entry", "last"))
        )
    return np.concatenate(owners), np.concatenate(areas), "a tree of mappings is too large: some are missing"


def _slots(structures: Structures, nodes: _Nodes, rows: U8, chosen: I64, *, wide: bool) -> _Nodes:
    """Return what the slots of nodes of one shape hold; those behind a node's end are left out."""
    kind = "mr64" if wide else "ma64"
    pivot_at, slot_at = (structures.offset("maple_node", f"{kind}.{name}") for name in ("pivot", "slot"))
    count = (slot_at - pivot_at) // 8 + 1
    words = np.ascontiguousarray(rows[chosen]).view("<u8")
    pivots, slots = words[:, pivot_at // 8 : slot_at // 8], words[:, slot_at // 8 : slot_at // 8 + count]
    last = nodes.last[chosen]
    # A pivot is the last index of its slot; the first that is 0 or the node's last ends the node.
    goes_on = np.logical_and.accumulate((pivots != 0) & (pivots < last[:, None]), axis=1)
    valid: NDArray[np.bool_] = np.concatenate([np.ones((len(chosen), 1), bool), goes_on], axis=1)
    valid &= slots > np.uint64(4096)  # small numbers are marks of the tree's own
    ends = np.concatenate([pivots, last[:, None]], axis=1)
    ends = np.where((ends == 0) | (ends > last[:, None]), last[:, None], ends)
    where, slot = np.nonzero(valid)
    return _Nodes(nodes.owner[chosen][where], slots[where, slot], ends[where, slot])
