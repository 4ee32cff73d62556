"""Hooks: entries of the kernel's tables that do not lead to the code that they must lead to.

The tables are the kernel's own and constant, so each entry must be the exact beginning of a function of the kernel's
text, of the kind that belongs there; a module, the middle of a function and other memory are all wrong. On kernels that
call system calls by a switch (`x64_sys_call`), a changed table is still a change, though it hooks less.

Refuses to be silent about a table that it could not read.

Sources: Linux 6.1 arch/x86/entry/syscall_64.c, include/linux/{seq_file,fs}.h.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pandas as pd

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.findings import Finding, Report, as_hex
from workbench.memory.detect.idt import find_idt_hooks
from workbench.memory.detect.pointers import Pointers
from workbench.memory.detect.proc_net import find_replaced_sequences
from workbench.memory.detect.reading import Reader
from workbench.memory.questions import Scene

__all__ = ["find_hooks", "hooks"]

_CALL_TABLES = ("sys_call_table", "ia32_sys_call_table", "x32_sys_call_table")
_CALL = re.compile(r"(__(x64|ia32|x32)_)?(compat_)?(sys|ksys)_\w+|stub_\w+|__do_sys_\w+")
_MOST_CALLS = 1024
_SEQUENCE = re.compile(r"(?!__)\w*_(seq_?ops?|seq_operations)")
_SEQUENCES = frozenset(
    {"modules_op", "kallsyms_op", "vmstat_op", "zoneinfo_op", "slabinfo_op", "vmalloc_op", "swaps_op", "mounts_op",
     "proc_pid_maps_op", "proc_pid_smaps_op", "tty_drivers_op", "consoles_op", "diskstats_op", "partitions_op",
     "cpuinfo_op", "schedstat_sops", "sched_debug_sops", "timer_list_sops", "kprobes_sops"}
)  # fmt: skip
"""Sequences (`seq_operations`) whose names do not say so."""
_FILES = frozenset(
    {"proc_root_operations", "proc_dir_operations", "proc_tgid_base_operations", "proc_tid_base_operations",
     "proc_task_operations", "proc_fd_operations", "simple_dir_operations", "kernfs_dir_fops", "kernfs_file_fops",
     "ext4_dir_operations", "ext4_file_operations", "shmem_file_operations", "ramfs_file_operations"}
)  # fmt: skip
"""Operations of files (`file_operations`) through which processes and files are listed and read."""


def hooks(scene: Scene) -> pd.DataFrame:
    """Look for hooks in the tables of system calls and interrupts, in sequences' and files' operations, and /proc/net.

    Returns
    -------
    DataFrame
        As `Report.frame`; finding "syscall_hook", "idt_hook", "seq_ops_hook" or "file_ops_hook", address what the
        entry points to, subject the entry; no pid, no process.

    Raises
    ------
    SymbolsError
        If the kernel's symbols are not in memory any more.
    """
    return find_hooks(Reader(scene.sight)).frame()


def find_hooks(reader: Reader) -> Report:
    """Check all tables of a capture."""
    report, pointers = Report(), Pointers(reader)
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("tables of system calls", lambda: _calls(pointers)),
        ("table of interrupts", lambda: find_idt_hooks(pointers)),
        ("sequences", lambda: _sequences(pointers)),
        ("files of /proc/net", lambda: find_replaced_sequences(pointers)),
        ("operations of files", lambda: _files(pointers)),
    ]
    for name, check in checks:
        try:
            report.findings += check()
        except (UnreadableError, AnalysisError) as error:
            report.unseen.append(f"the {name} could not be checked: {error}")
    return report


def _calls(pointers: Pointers) -> Iterator[Finding]:
    """Check every table of system calls that the kernel has."""
    tables = [(name, at) for name in _CALL_TABLES if (at := pointers.names.get(name)) is not None]
    if not tables:
        raise AnalysisError("the kernel names no table of system calls", missing=_CALL_TABLES[0])
    for name, at in tables:
        entries = pointers.words(at, min(pointers.names.room(at) // 8, _MOST_CALLS))
        while entries and not entries[-1]:
            entries.pop()  # what is left of the last line is no entry
        if not entries:
            raise AnalysisError("a table of system calls is empty", table=name, address=as_hex(at))
        for number, target in enumerate(entries):
            wrong = pointers.wrong(target, _CALL, "a system call")
            if wrong:
                yield pointers.finding("syscall_hook", f"{name}[{number}]", at + 8 * number, target, wrong)


def _sequences(pointers: Pointers) -> Iterator[Finding]:
    size = pointers.reader.size("seq_operations")
    members = pointers.reader.members("seq_operations")
    found = [
        (at, name)
        for at, name in pointers.names.data()
        # What has such a name and is larger is of another type (`proc_ops`).
        if (name in _SEQUENCES or _SEQUENCE.fullmatch(name)) and size <= pointers.names.room(at) < 2 * size
    ]
    if not found:
        raise AnalysisError("the kernel names no sequences", missing="tcp4_seq_ops")
    for at, name in found:
        yield from _operations(pointers, "seq_ops_hook", at, name, members)


def _files(pointers: Pointers) -> Iterator[Finding]:
    members = [each for each in pointers.reader.members("file_operations") if each[0] != "owner"]
    size = pointers.reader.size("file_operations")
    for name in sorted(_FILES):
        at = pointers.names.get(name)
        if at is not None and pointers.names.room(at) >= size:
            yield from _operations(pointers, "file_ops_hook", at, name, members)


def _operations(pointers: Pointers, kind: str, at: int, name: str, members: list[tuple[str, int]]) -> Iterator[Finding]:
    for member, offset in members:
        target = pointers.reader.word(at + offset)
        wrong = pointers.wrong(target, None, "a function of the kernel") if target else ""
        if wrong:
            yield pointers.finding(kind, f"{name}.{member}", at + offset, target, wrong)
