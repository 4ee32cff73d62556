"""The processes of a moment as analysts ask for them: when each started by the kernel's clock, what it runs, its words.

Volatility's list has no start that survives a change of the guest's clock; `start_ns` counts from boot and does, which
makes it, with the pid, what a process is. Refuses to leave a process out because a part of it cannot be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.memory.volatility.context import KERNEL

if TYPE_CHECKING:
    from workbench.memory.questions import Scene

__all__ = ["processes"]

_COLUMNS = {
    "pid": "Int64",
    "ppid": "Int64",
    "name": "string",
    "uid": "Int64",
    "gid": "Int64",
    "started": "datetime64[us, UTC]",
    "start_ns": "Int64",
    "kernel_thread": "boolean",
    "state": "string",
    "executable": "string",
    "arguments": "string",
    "threads": "Int64",
    "address": "UInt64",
}
# include/linux/sched.h
_PF_KTHREAD = 0x00200000
_STATES = {1: "sleeping", 2: "uninterruptible", 4: "stopped", 8: "traced", 0x40: "parked", 0x80: "dead"}
_EXITED = {0x10: "dead", 0x20: "zombie"}


def processes(scene: Scene) -> pd.DataFrame:
    """Return every process.

    Returns
    -------
    DataFrame
        pid, ppid, uid, gid, threads (Int64), name, state, executable, arguments (string), started (UTC), start_ns
        (Int64, ns since boot), kernel_thread (boolean), address (UInt64, of the task_struct). What cannot be read is
        empty.
    """
    from volatility3.plugins.linux import pslist

    tasks = pslist.PsList.list_tasks(scene.sight.context, KERNEL)
    rows = [_row(scene, task) for task in tasks]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return frame.astype(_COLUMNS)


def _row(scene: Scene, task: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"address": scene.sight.canonical(int(task.vol.offset))}
    for column, read in _READ.items():
        row[column] = None
        with _absent():
            row[column] = read(scene, task)  # type: ignore[no-untyped-call]
    return row


@contextlib.contextmanager
def _absent() -> Iterator[None]:
    """Leave a value out that cannot be read or makes no sense."""
    from volatility3.framework import exceptions

    with contextlib.suppress(exceptions.VolatilityException, AttributeError, ValueError, TypeError, OverflowError):
        yield


def _text(_scene: Scene, task: Any) -> str:
    from volatility3.framework.objects import utility

    return str(utility.array_to_string(task.comm))


def _state(_scene: Scene, task: Any) -> str:
    if exited := int(task.exit_state):
        return _EXITED.get(exited, f"exiting {exited:#x}")
    state = int(task.member("__state") if task.has_member("__state") else task.member("state")) & 0xFFFFFFFF
    return _STATES.get(state & 0xFF, "running" if not state & 0xFF else f"{state:#x}")


def _executable(scene: Scene, task: Any) -> str | None:
    from volatility3.framework.symbols.linux import LinuxUtilities

    if task.mm == 0 or task.mm.exe_file == 0:
        return None
    path = str(LinuxUtilities.path_for_file(scene.sight.context, task, task.mm.exe_file))
    return path.removeprefix(" ") or None  # Volatility writes " PATH (deleted)"


def _arguments(scene: Scene, task: Any) -> str | None:
    if task.mm == 0:
        return None
    layer = task.add_process_layer()
    start, end = int(task.mm.arg_start), int(task.mm.arg_end)
    if layer is None or not 0 < end - start <= 1 << 16:
        return None
    data = scene.sight.context.layers[layer].read(start, end - start)
    return str(data.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace"))


def _start_ns(_scene: Scene, task: Any) -> int:
    return int(task.start_boottime if task.has_member("start_boottime") else task.real_start_time)


_READ = {
    "pid": lambda _scene, task: int(task.tgid),
    "ppid": lambda _scene, task: int(task.get_parent_pid()),
    "name": _text,
    "uid": lambda _scene, task: int(task.cred.uid),
    "gid": lambda _scene, task: int(task.cred.gid),
    "started": lambda _scene, task: task.get_create_time(),
    "start_ns": _start_ns,
    "kernel_thread": lambda _scene, task: bool(int(task.flags) & _PF_KTHREAD),
    "state": _state,
    "executable": _executable,
    "arguments": _arguments,
    "threads": lambda _scene, task: int(task.signal.nr_threads),
}
