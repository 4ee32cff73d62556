"""Processes that look like threads of the kernel, and threads of the kernel that are not its children.

A name in brackets, or that of a family of kernel threads, belongs to a task without user memory. Refuses to judge by
names alone: what has no user memory and is a child of kthreadd may be called anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from workbench.errors import UnreadableError
from workbench.memory.detect.findings import Finding, Report, as_hex
from workbench.memory.detect.processes import live_processes
from workbench.memory.detect.reading import Reader
from workbench.memory.detect.tasks import PF_EXITING, Task
from workbench.memory.questions import Scene

__all__ = ["find_mimics", "mimics"]

_BRACKETS = re.compile(r"\[[^\[\]]+\].*", re.DOTALL)
_FAMILIES = re.compile(
    r"(kworker/|ksoftirqd/|migration/|cpuhp/|idle_inject/|irq/|scsi_eh_|scsi_tmf_|xfs-|jbd2/|nvme-|watchdog/).*"
    r"|(rcu_(sched|preempt|bh|gp|par_gp|tasks\w*)|rcuo[bps]/\S*|kthreadd|kswapd\d+|kcompactd\d+|khugepaged|ksmd)"
    r"|(kauditd|kdevtmpfs|kblockd|kintegrityd|khungtaskd|oom_reaper)",
    re.DOTALL,
)
_KTHREADD = 2
_MOST_ARGUMENT = 4096


def mimics(scene: Scene) -> pd.DataFrame:
    """Look for user processes that are called like threads of the kernel, and for kernel threads of other parents.

    Returns
    -------
    DataFrame
        As `Report.frame`; finding "kernel_thread_mimic" or "stray_kernel_thread", subject the name that was judged
        (the task's, or the first argument), address of the task.

    Raises
    ------
    AnalysisError
        If no process can be found.
    """
    return find_mimics(Reader(scene.sight)).frame()


def find_mimics(reader: Reader) -> Report:
    """Find the mimics of a capture."""
    tasks, unseen = live_processes(reader)
    report = Report(unseen=unseen)
    pids = {task.address: task.pid for task in tasks} | {reader.must("init_task"): 0}
    threads = {task.comm for task in tasks if task.is_kernel_thread and not task.mm}
    for task in tasks:
        if task.is_kernel_thread:
            report.findings += _stray(task, pids.get(task.parent))
        elif task.mm and not task.flags & PF_EXITING:
            report.findings += _mimic(task, _argument(reader, task, report), threads, pids.get(task.parent))
    return report


def _stray(task: Task, parent: int | None) -> Iterator[Finding]:
    """Yield a kernel thread that is neither kthreadd nor its child."""
    if (task.pid == _KTHREADD and parent == 0) or parent == _KTHREADD:
        return
    reason = f"expected a thread of the kernel to be a child of kthreadd ({_KTHREADD}), found the parent {parent}"
    yield Finding("stray_kernel_thread", task.comm, reason, _evidence(task, parent), task.address, task.pid, task.comm)


def _mimic(task: Task, argument: str, threads: set[str], parent: int | None) -> Iterator[Finding]:
    """Yield a process with user memory that is called like a thread of the kernel; once, however often it is."""
    for name, what in ((task.comm, "its name"), (argument, "its first argument")):
        like = _like(name, threads)
        if like:
            reason = f"expected {like} to be a thread of the kernel, without user memory; found a process with it"
            evidence = f"{what}; {_evidence(task, parent)}; first argument {argument!a}"
            yield Finding("kernel_thread_mimic", name, reason, evidence, task.address, task.pid, task.comm)
            return


def _like(name: str, threads: set[str]) -> str:
    """Say what a name pretends to be; empty if nothing."""
    if _BRACKETS.fullmatch(name):
        return "what has a name in brackets"
    if _FAMILIES.fullmatch(name):
        return "what is called like one of the kernel's families of threads"
    return "what is called like a thread of the kernel that runs" if name in threads else ""


def _evidence(task: Task, parent: int | None) -> str:
    return f"task {as_hex(task.address)}, flags {task.flags:#x}, memory {as_hex(task.mm)}, parent {parent}"


def _argument(reader: Reader, task: Task, report: Report) -> str:
    """Return the first argument of a process; empty where it has none, or where it cannot be read, which is told."""
    try:
        begin, end = (reader.member(task.mm, "mm_struct", name) for name in ("arg_start", "arg_end"))
        if not begin < end:
            return ""
        space = reader.user(reader.member(task.mm, "mm_struct", "pgd"))
        return space.text(begin, min(end - begin, _MOST_ARGUMENT))
    except UnreadableError as error:
        report.unseen.append(f"the arguments of process {task.pid} cannot be read: {error}")
        return ""
