"""The kernel's processes by four ways that do not depend on each other: list, numbers, parents, and the slab itself.

A way that breaks off keeps what it found and says where it broke. Threads are left out, and so is what exits or is
just being made: those are in some of the places only, and nobody hid them.

Sources: Linux 6.1 include/linux/sched.h (states, flags), kernel/fork.c (copy_process), kernel/exit.c
(__unhash_process), include/linux/xarray.h (entries), mm/slab.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.reading import Reader, container_list

__all__ = [
    "Task",
    "View",
    "children_view",
    "guarded",
    "is_live",
    "is_process",
    "list_view",
    "number_view",
    "read_task",
    "task_bytes",
]

PF_IDLE, PF_EXITING, PF_KTHREAD = 0x2, 0x4, 0x200000
_TASK_DEAD, _TASK_NEW = 0x80, 0x800
_MOST_TASKS = 1 << 18
_MOST_NODES = 1 << 17
_PID_LIMIT = 1 << 22
_LEAF_BITS, _NODE_TAG, _LOWEST_NODE = 3, 2, 4096
_SLOTS = 64
_NAME_BYTES = 16
_WORD_MASK = (1 << 64) - 1
_MEMBERS = (
    "pid", "tgid", "comm", "flags", "exit_state", "usage", "mm", "group_leader", "real_parent", "thread_pid", "sighand",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """What detectors want of a `task_struct`.

    Attributes
    ----------
    address : int
    pid, tgid : int
        In the first pid namespace; signed.
    comm : str
        The guest's, not to be printed raw.
    flags, state, exit_state, usage : int
    mm, leader, parent, thread_pid, sighand : int
        Addresses, 0 for none.
    """

    address: int
    pid: int
    tgid: int
    comm: str
    flags: int
    state: int
    exit_state: int
    usage: int
    mm: int
    leader: int
    parent: int
    thread_pid: int
    sighand: int

    @property
    def is_kernel_thread(self) -> bool:
        """Whether the kernel says that it is one of its own."""
        return bool(self.flags & PF_KTHREAD)


@dataclass(slots=True)
class View:
    """The processes that one way leads to.

    Attributes
    ----------
    name : str
        In words.
    found : set of int
        Addresses of thread group leaders.
    unseen : list of str
        Where it broke off; empty if it did not.
    """

    name: str
    found: set[int] = field(default_factory=set)
    unseen: list[str] = field(default_factory=list)


def task_bytes(reader: Reader) -> int:
    """Return how much of a task is read: an object may be shorter than its type, which ends in room for registers."""
    state = "__state" if reader.has("task_struct", "__state") else "state"
    return max(reader.offset("task_struct", member) for member in (*_MEMBERS, state)) + _NAME_BYTES


def read_task(reader: Reader, address: int) -> Task:
    """Read a task.

    Raises
    ------
    UnreadableError
        If it is not mapped.
    AnalysisError
        If the kernel's types lack what is needed.
    """
    content = reader.read(address, task_bytes(reader))

    def number(member: str, size: int = 8) -> int:
        at = reader.offset("task_struct", member)
        return int.from_bytes(content[at : at + size], "little")

    def signed(member: str) -> int:
        value = number(member, 4)
        return value - (1 << 32) if value >> 31 else value

    name = reader.offset("task_struct", "comm")
    return Task(
        address, signed("pid"), signed("tgid"),
        content[name : name + _NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "backslashreplace"),
        number("flags", 4), number("__state" if reader.has("task_struct", "__state") else "state", 4),
        number("exit_state", 4), number("usage", 4), number("mm"), number("group_leader"), number("real_parent"),
        number("thread_pid"), number("sighand"),
    )  # fmt: skip


def is_process(task: Task) -> bool:
    """Tell whether a task leads its threads."""
    return task.pid == task.tgid or task.leader == task.address


def is_live(task: Task) -> bool:
    """Tell whether a task is neither gone, going, being made, nor a processor's idle task."""
    gone = task.usage == 0 or task.exit_state != 0 or task.sighand == 0
    return not (gone or task.state & (_TASK_DEAD | _TASK_NEW) or task.flags & PF_IDLE) and 0 <= task.pid < _PID_LIMIT


def guarded(view: View, walk: Callable[[], Iterator[int]]) -> View:
    """Collect what a walk gives, and where it broke."""
    try:
        for address in walk():
            view.found.add(address)
    except (UnreadableError, AnalysisError) as error:
        view.unseen.append(f"the {view.name} broke off after {len(view.found)} entries: {error}")
    return view


def list_view(reader: Reader) -> View:
    """Follow the task list: `init_task.tasks`, what `for_each_process` follows."""
    link = reader.offset("task_struct", "tasks")
    return guarded(View("task list"), lambda: container_list(reader, reader.must("init_task") + link, link))


def number_view(reader: Reader) -> View:
    """Follow the process numbers of the first namespace: what /proc, kill and ps go by."""
    return guarded(View("process numbers"), lambda: _numbered(reader))


def _numbered(reader: Reader) -> Iterator[int]:
    kind = reader.choice("pid_type", "PIDTYPE_TGID")
    head = reader.offset("pid", "tasks") + 8 * kind
    link = reader.offset("task_struct", "pid_links") + 16 * kind
    idr = reader.offset("pid_namespace", "idr") + reader.offset("idr", "idr_rt") + reader.offset("xarray", "xa_head")
    for pid in _entries(reader, reader.must("init_pid_ns") + idr):
        first = reader.word(pid + head)  # 0: a thread's, or a session's whose leader is gone
        if first:
            yield (first - link) & _WORD_MASK


def _entries(reader: Reader, head: int) -> Iterator[int]:
    """Yield the pointers in an xarray; its nodes get narrower by what they say, or the walk ends."""
    slots, shift = reader.offset("xa_node", "slots"), reader.offset("xa_node", "shift")
    waiting, nodes = [(reader.word(head), 64)], 0
    while waiting:
        entry, above = waiting.pop()
        if entry & _LEAF_BITS == 0 and entry:
            yield entry
        if entry & _LEAF_BITS != _NODE_TAG or entry <= _LOWEST_NODE:
            continue
        node, nodes = entry - _NODE_TAG, nodes + 1
        width = reader.word(node + shift, 1)
        if width >= above or nodes > _MOST_NODES:
            raise AnalysisError("the tree of process numbers is none", address=hex(node), shift=width)
        content = reader.read(node + slots, 8 * _SLOTS)
        waiting += [(int.from_bytes(content[at : at + 8], "little"), width) for at in range(0, 8 * _SLOTS, 8)]


def children_view(reader: Reader) -> View:
    """Follow parents to children from `init_task` on, for each thread of each process."""
    return guarded(View("parents' lists of children"), lambda: _descended(reader))


def _descended(reader: Reader) -> Iterator[int]:
    first = reader.must("init_task")
    waiting, seen = [first], {first}
    children, sibling = reader.offset("task_struct", "children"), reader.offset("task_struct", "sibling")
    while waiting:
        for thread in _threads(reader, waiting.pop()):
            for child in container_list(reader, thread + children, sibling):
                if child in seen or len(seen) >= _MOST_TASKS:
                    raise AnalysisError("a process has two parents", address=hex(child), seen=len(seen))
                seen.add(child)
                waiting.append(child)
                yield child


def _threads(reader: Reader, leader: int) -> Iterator[int]:
    signal = reader.member(leader, "task_struct", "signal")
    head = signal + reader.offset("signal_struct", "thread_head")
    yield from container_list(reader, head, reader.offset("task_struct", "thread_node"))
