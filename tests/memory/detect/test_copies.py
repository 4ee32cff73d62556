"""Planted in copies of a capture, as a rootkit would write it: each change is found, and only it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from workbench.inquiry.answer import Answer
from workbench.memory.detect.module_views import list_modules, module_name
from workbench.memory.detect.processes import live_processes
from workbench.memory.detect.reading import Reader
from workbench.memory.detect.tasks import Task
from workbench.memory.volatility.opening import Opener

from .conftest import Asking, Watched, said
from .copying import Changes, CopiedCase

pytestmark = pytest.mark.guest

_LISTED, _NUMBERED, _CHILD = "task list", "process numbers", "parents' lists of children"


@pytest.fixture(scope="module")
def copied(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CopiedCase]:
    with CopiedCase(watched.view("planted"), tmp_path_factory.mktemp("copies") / "case") as made:
        yield made


@pytest.fixture
def changes(watched: Watched, eyes: Opener) -> Changes:
    return Changes(Reader(eyes.open(watched.view("planted"))))


def detected(copied: CopiedCase, changes: Changes, answer: Asking, name: str) -> Answer:
    return answer(copied.store, copied.plant(changes.bytes), name)


def test_a_copy_that_is_not_changed_has_no_finding(copied: CopiedCase, answer: Asking) -> None:
    for name in ("hidden_processes", "hidden_modules", "hooks"):
        found = answer(copied.store, copied.view(), name)
        assert (found.error, len(found.frame)) == ("", 0)


# Processes.


def task_of(changes: Changes, pid: int) -> Task:
    (found,) = (task for task in live_processes(changes.reader)[0] if task.pid == pid)
    return found


def unlist(changes: Changes, task: Task) -> None:
    changes.unlink(task.address + changes.reader.offset("task_struct", "tasks"))


def unnumber(changes: Changes, task: Task) -> None:
    """Take a process's number away, as `detach_pid` does."""
    reader = changes.reader
    kind = reader.choice("pid_type", "PIDTYPE_TGID")
    changes.word(task.thread_pid + reader.offset("pid", "tasks") + 8 * kind, 0)
    changes.word(task.address + reader.offset("task_struct", "thread_pid"), 0)


def disown(changes: Changes, task: Task) -> None:
    changes.unlink(task.address + changes.reader.offset("task_struct", "sibling"))


def test_processes_are_missed_wherever_they_were_taken_out(
    watched: Watched, copied: CopiedCase, changes: Changes, answer: Asking
) -> None:
    pids = watched.pids
    unlist(changes, task_of(changes, pids["memory"]))
    unnumber(changes, task_of(changes, pids["name"]))
    disown(changes, task_of(changes, pids["argument"]))
    found = detected(copied, changes, answer, "hidden_processes")
    assert found.error == ""
    assert set(found.frame.finding) == {"hidden_process"}
    reasons = {row.pid: row.reason for row in found.frame.itertuples()}
    assert set(reasons) == {pids["memory"], pids["name"], pids["argument"]}
    assert f"must be in the {_LISTED}; it is not" in reasons[pids["memory"]]
    assert f"must be in the {_NUMBERED}; it is not" in reasons[pids["name"]]
    assert f"must be in the {_CHILD}; it is not" in reasons[pids["argument"]]


def test_a_process_that_nothing_leads_to_is_found_in_its_slab(
    watched: Watched, copied: CopiedCase, changes: Changes, answer: Asking
) -> None:
    task = task_of(changes, watched.pids["memory"])
    for hide in (unlist, unnumber, disown):
        hide(changes, task)
    found = detected(copied, changes, answer, "hidden_processes")
    assert found.error == ""
    (row,) = found.frame.itertuples()
    assert (row.pid, row.process, row.address) == (task.pid, task.comm, task.address)
    assert f"{_LISTED} and the {_NUMBERED} and the {_CHILD}; it is not" in row.reason
    assert row.reason.endswith("yet it is in the slab of tasks")


def test_a_thread_of_the_kernel_with_another_parent(
    watched: Watched, copied: CopiedCase, changes: Changes, answer: Asking
) -> None:
    task = task_of(changes, 10)
    assert task.is_kernel_thread
    parent = task_of(changes, watched.pids["name"])
    changes.word(task.address + changes.reader.offset("task_struct", "real_parent"), parent.address)
    found = detected(copied, changes, answer, "mimics")
    (row,) = found.frame[found.frame.finding == "stray_kernel_thread"].itertuples()
    assert (row.pid, row.process) == (10, task.comm)
    assert f"found the parent {parent.pid}" in row.reason


# Modules.


def modules_of(changes: Changes) -> dict[str, int]:
    return {module_name(changes.reader, each): each for each in sorted(list_modules(changes.reader).found)}


def unlist_module(changes: Changes, module: int) -> None:
    changes.unlink(module + changes.reader.offset("module", "list"))


def remove_from_sysfs(changes: Changes, module: int) -> None:
    reader = changes.reader
    inside = reader.offset("module", "mkobj") + reader.offset("module_kobject", "kobj")
    changes.unlink(module + inside + reader.offset("kobject", "entry"))


def leaves(changes: Changes) -> list[int]:
    """Return the modules that are leaves of the tree of code addresses in both of its halves."""
    return [each for each in modules_of(changes).values() if all(not any(below) for _, below in nodes(changes, each))]


def nodes(changes: Changes, module: int) -> list[tuple[int, tuple[int, int]]]:
    """Return a module's two nodes in that tree, and what is below each."""
    reader = changes.reader
    part = reader.offset("module", "core_layout" if reader.has("module", "core_layout") else "mem")
    kind = "module_layout" if reader.has("module", "core_layout") else "module_memory"
    first = module + part + reader.offset(kind, "mtn") + reader.offset("mod_tree_node", "node")
    return [(at, (reader.word(at + 8), reader.word(at + 16))) for at in (first, first + 24)]


def fell(changes: Changes, module: int) -> None:
    """Take a leaf off that tree."""
    for node, _ in nodes(changes, module):
        parent = changes.reader.word(node) & ~3
        (side,) = (side for side in (8, 16) if changes.reader.word(parent + side) == node)
        changes.word(parent + side, 0)


def test_modules_are_missed_wherever_they_were_taken_out(copied: CopiedCase, changes: Changes, answer: Asking) -> None:
    known = modules_of(changes)
    unlist_module(changes, known["button"])
    remove_from_sysfs(changes, known["evdev"])
    found = detected(copied, changes, answer, "hidden_modules")
    assert found.error == ""
    assert said(found.frame, "finding", "subject", "address") == [
        ("hidden_module", "button", known["button"]),
        ("hidden_module", "evdev", known["evdev"]),
    ]
    reasons = dict(zip(found.frame.subject, found.frame.reason, strict=True))
    assert "must be in the module list; it is not" in reasons["button"]
    assert "must be in the kobjects of sysfs; it is not" in reasons["evdev"]


def test_a_module_that_nothing_leads_to_is_found_in_memory(
    copied: CopiedCase, changes: Changes, answer: Asking
) -> None:
    module = leaves(changes)[0]
    for hide in (unlist_module, remove_from_sysfs, fell):
        hide(changes, module)
    found = detected(copied, changes, answer, "hidden_modules")
    assert found.error == ""
    (row,) = found.frame.itertuples()
    assert (row.subject, row.address) == (module_name(changes.reader, module), module)
    assert row.reason.endswith("yet it is in the memory of modules")


# Hooks.


def text_of(changes: Changes, name: str) -> int:
    found = changes.reader.names.get(name)
    assert found is not None
    return found


def point_gate(changes: Changes, vector: int, target: int) -> None:
    gate = text_of(changes, "idt_table") + 16 * vector
    changes.word(gate, target & 0xFFFF, 2)
    changes.word(gate + 6, target >> 16 & 0xFFFF, 2)
    changes.word(gate + 8, target >> 32, 4)


def reasons(found: Answer) -> dict[str, str]:
    assert found.error == ""
    return dict(zip(found.frame.subject, found.frame.reason, strict=True))


def test_system_calls_that_lead_elsewhere(copied: CopiedCase, changes: Changes, answer: Asking) -> None:
    table, reader = text_of(changes, "sys_call_table"), changes.reader
    module = modules_of(changes)["button"]
    planted = {
        0: module,
        1: text_of(changes, "__x64_sys_write") + 5,
        2: text_of(changes, "tcp4_seq_show"),
        3: 0xFFFF_FFFF_C000_0000 - 4096,
        4: reader.must("init_task"),
    }
    for number, target in planted.items():
        changes.word(table + 8 * number, target)
    found = detected(copied, changes, answer, "hooks")
    told = reasons(found)
    assert set(told) == {f"sys_call_table[{number}]" for number in planted}
    assert set(found.frame.finding) == {"syscall_hook"}
    assert set(found.frame.address) == set(planted.values())
    assert told["sys_call_table[0]"].endswith("found an address in the module button")
    assert "middle of one: __x64_sys_write+0x5" in told["sys_call_table[1]"]
    assert told["sys_call_table[2]"].endswith("found another function: tcp4_seq_show")
    assert told["sys_call_table[3]"].endswith("that is not mapped")
    assert "not its text (init_task)" in told["sys_call_table[4]"]


def test_interrupts_that_lead_elsewhere(watched: Watched, copied: CopiedCase, changes: Changes, answer: Asking) -> None:
    heap = task_of(changes, watched.pids["name"]).address
    point_gate(changes, 14, heap)
    point_gate(changes, 0x80, text_of(changes, "__x64_sys_read"))
    point_gate(changes, 40, text_of(changes, "irq_entries_start") + 3)
    changes.word(text_of(changes, "idt_table") + 16 * 6 + 5, 0xEE, 1)  # invalid opcode, for programs to call
    changes.word(text_of(changes, "idt_descr") + 2, heap)
    told = reasons(detected(copied, changes, answer, "hooks"))
    assert set(told) == {"idt_descr", *(f"idt_table[{vector}]" for vector in (6, 14, 40, 0x80))}
    assert "programs may call (privilege 3)" in told["idt_table[6]"]
    assert told["idt_table[14]"].endswith("in no known module")
    assert "irq_entries_start+0x3" in told["idt_table[40]"]
    assert told["idt_table[128]"].endswith("found another function: __x64_sys_read")
    assert "expected the processors' table to be idt_table" in told["idt_descr"]


def test_operations_that_lead_elsewhere(copied: CopiedCase, changes: Changes, answer: Asking) -> None:
    module, reader = modules_of(changes)["button"], changes.reader
    show = text_of(changes, "tcp4_seq_ops") + reader.offset("seq_operations", "show")
    listing = text_of(changes, "proc_root_operations") + reader.offset("file_operations", "iterate_shared")
    changes.word(show, module)
    changes.word(listing, text_of(changes, "tcp4_seq_show") + 9)
    found = detected(copied, changes, answer, "hooks")
    assert said(found.frame, "finding", "subject", "address") == [
        ("file_ops_hook", "proc_root_operations.iterate_shared", text_of(changes, "tcp4_seq_show") + 9),
        ("seq_ops_hook", "tcp4_seq_ops.show", module),
    ]


def net_entries(changes: Changes) -> dict[str, int]:
    """Return the entries of /proc/net by name."""
    reader = changes.reader
    found: dict[str, int] = {}
    directory = reader.member(reader.must("init_net"), "net", "proc_net")
    waiting = [reader.member(directory, "proc_dir_entry", "subdir")]
    while waiting:
        if node := waiting.pop():
            entry = node - reader.offset("proc_dir_entry", "subdir_node")
            found[reader.text(reader.member(entry, "proc_dir_entry", "name"), 64)] = entry
            waiting += [reader.word(node + 8), reader.word(node + 16)]
    return found


def test_files_of_proc_net_with_operations_of_another(
    watched: Watched, copied: CopiedCase, changes: Changes, answer: Asking
) -> None:
    entries, place = net_entries(changes), changes.reader.offset("proc_dir_entry", "seq_ops")
    heap, module = task_of(changes, watched.pids["name"]).address, modules_of(changes)["button"]
    changes.word(entries["tcp"] + place, module)
    changes.word(entries["udp"] + place, text_of(changes, "udp6_seq_ops"))
    changes.word(entries["route"] + place, heap)
    changes.word(entries["igmp"] + place, module)  # a module of its own may well offer this one
    found = detected(copied, changes, answer, "hooks")
    assert set(found.frame.finding) == {"seq_ops_hook"}
    assert reasons(found) == {
        "/proc/net/tcp seq_ops": "expected tcp4_seq_ops, found an address in the module button",
        "/proc/net/udp seq_ops": "expected udp_seq_ops, found udp6_seq_ops",
        "/proc/net/route seq_ops": "expected operations of the kernel or of a module, found an address in no known "
        "module",
    }


def test_all_of_a_rootkit_in_one_table(watched: Watched, copied: CopiedCase, changes: Changes, answer: Asking) -> None:
    unlist(changes, task_of(changes, watched.pids["memory"]))
    unlist_module(changes, modules_of(changes)["button"])
    changes.word(text_of(changes, "sys_call_table") + 8 * 78, modules_of(changes)["button"])
    found = detected(copied, changes, answer, "detect")
    assert found.error == ""
    assert set(found.frame.finding) == {
        "hidden_process", "hidden_module", "syscall_hook", "deleted_binary", "memfd_executable", "kernel_thread_mimic",
    }  # fmt: skip
    # The way by which processes are found is not only the one that was bent.
    assert watched.pids["memory"] in set(found.frame.pid[found.frame.finding == "memfd_executable"])
    assert "in the module button" in found.frame.reason[found.frame.finding == "syscall_hook"].iloc[0]
