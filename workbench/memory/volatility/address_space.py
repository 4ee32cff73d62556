"""A process's address space as the kernel holds it: the root of its page tables, its mappings, its saved registers.

Refuses to follow lists without end, and mappings that the kernel could not have made: those are counted and told.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from volatility3.framework import exceptions
from volatility3.plugins.linux import pslist

from workbench.errors import AnalysisError, UnreadableError, UsageError
from workbench.memory.paging import VirtualMemory
from workbench.memory.reading import Mapping, Process, kernel_memory
from workbench.memory.volatility.context import KERNEL
from workbench.model import PAGE

if TYPE_CHECKING:
    from workbench.memory.volatility.sight import Sight

__all__ = ["find_process"]

_BAD = (exceptions.VolatilityException, AttributeError, ValueError, TypeError, OverflowError, RecursionError)
"""What reading a structure can end in."""
_MOST_TASKS = 1 << 20
_MOST_MAPPINGS = 1 << 18
_LONGEST_PATH = 4096
# Linux include/linux/mm.h: VM_READ, VM_WRITE, VM_EXEC, VM_SHARED
_FLAGS, _SHARED = ((1, "r"), (2, "w"), (4, "x")), 8
# Linux arch/x86/include/asm: page_64_types.h (THREAD_SIZE), ptrace.h (pt_regs), segment.h (__USER_CS, __USER_DS)
_STACK, _SAVED, _CS, _SS, _USER = 16 << 10, 21, 17, 20, (0x33, 0x2B)


def find_process(sight: Sight, pid: int | None, task: int | None) -> Process:
    """Return a process by its pid, or by the address of its task_struct, which may be in no list.

    Raises
    ------
    UsageError
        If there is no such process, or neither is given.
    AnalysisError
        If it has no memory of its own, or what the kernel says of it cannot be read.
    """
    found = _by_address(sight, task) if task is not None else _by_pid(sight, pid)
    try:
        pid = int(found.tgid)
        mm = found.mm
        if int(mm) == 0:
            raise AnalysisError("a kernel thread, or a process that has ended, has no memory of its own", pid=pid)
        kernel = kernel_memory(sight)
        root = kernel.translate(sight.canonical(int(mm.pgd)))
        if root is None:
            raise AnalysisError("the page tables of this process are not in memory", pid=pid)
        notes: list[str] = []
        memory = VirtualMemory(sight.memory, root, sight.kernel.levels)
        mappings = _mappings(sight, found, memory.half, notes)
        registers = _registers(sight, kernel, found)
    except _BAD as error:
        raise AnalysisError(f"the process cannot be read: {error}", pid=pid) from error
    if not registers:
        notes.append("its registers are not where the kernel saves them")
    return Process(pid, memory, mappings, registers, sight.capture, notes)


def _by_pid(sight: Sight, pid: int | None) -> Any:
    if pid is None:
        raise UsageError("no process is named", cure="Give its pid, or the address of its task.")
    tasks = pslist.PsList.list_tasks(sight.context, KERNEL)
    for task in itertools.islice(tasks, _MOST_TASKS):
        with contextlib.suppress(*_BAD):
            if int(task.tgid) == pid:
                return task
    raise UsageError(
        "no process with this pid is in the kernel's list",
        pid=pid,
        cure="If it is hidden, linux.pidhashtable.PIDHashTable may show its task: ask with that address.",
    )


def _by_address(sight: Sight, address: int) -> Any:
    return sight.module.object(object_type="task_struct", offset=address & sight.layer.address_mask, absolute=True)


def _mappings(sight: Sight, task: Any, half: int, notes: list[str]) -> list[Mapping]:
    found: list[Mapping] = []
    try:
        for area in itertools.islice(task.mm.get_vma_iter(), _MOST_MAPPINGS):
            found.append(_mapping(sight, task, area))  # noqa: PERF401  (those before an error stay)
    except _BAD as error:
        notes.append(f"the list of mappings broke off: {error}")
    sane = list(_sane(found, half))
    expected = int(task.mm.map_count)
    if len(found) != len(sane):
        notes.append(f"{len(found) - len(sane)} mappings cannot be, and were left out")
    if len(sane) != expected:
        notes.append(f"the kernel counts {expected} mappings, {len(sane)} are here")
    return sane


def _mapping(sight: Sight, task: Any, area: Any) -> Mapping:
    flags = int(area.vm_flags)
    protection = "".join(letter if flags & bit else "-" for bit, letter in _FLAGS)
    path = None
    with contextlib.suppress(*_BAD):
        path = area.get_name(sight.context, task)
    # Volatility begins the path of a deleted file with a space.
    path = None if path in (None, "", "Anonymous Mapping") else str(path)[:_LONGEST_PATH].removeprefix(" ")
    offset = int(area.vm_pgoff) * PAGE if int(area.vm_file) else 0
    return Mapping(
        int(area.vm_start), int(area.vm_end), protection + ("s" if flags & _SHARED else "p"), offset % (1 << 64), path
    )


def _sane(found: list[Mapping], half: int) -> Iterator[Mapping]:
    """Yield mappings by address that are of whole pages, in the lower half, and overlap none before them."""
    at = 0
    for each in sorted(found, key=lambda each: (each.start, each.end)):
        if at <= each.start < each.end <= half and not (each.start | each.end) % PAGE:
            yield each
            at = each.end


def _registers(sight: Sight, kernel: VirtualMemory, task: Any) -> list[int]:
    """Return user_regs_struct: pt_regs at the top of the kernel's stack, and the bases of fs and gs.

    They are those of the last entry into the kernel: of a task that ran in user mode at this instant, old ones.
    """
    top = sight.canonical(int(task.stack)) + _STACK
    try:
        data = kernel.read(top - 8 * _SAVED, 8 * _SAVED)
    except UnreadableError:
        return []
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    if (words[_CS], words[_SS]) != _USER:
        return []
    thread = task.thread
    bases = [int(thread.member(name)) if thread.has_member(name) else 0 for name in ("fsbase", "gsbase")]
    return [*words, *bases, 0, 0, 0, 0]
