"""VM states of a QEMU that stands still: saved and forgotten, with the snapshot of its disk.

Refuses to save while the disk has requests under way.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import Any

from workbench.errors import MonitorError, OutcomeUnknownError
from workbench.replay.exact.qemu import ExactQemu
from workbench.replay.exact.quiet import refuse_unquiet

__all__ = ["drop_state", "run_job", "save_state", "sleeps_on_ns"]

_JOB, _JOB_SECONDS = "rwb-save", 120.0
_TIMER = b"\x05timer" + struct.pack(">II", 0, 2)
"""Section of the clocks: its name, instance 0, version 2. Then three int64: ticks, unused, the clock (ns)."""
_ICOUNT, _WARP = b"\x0ctimer/icount", b"\x17timer/icount/warp_timer"
"""Its subsections, each with a version and two int64: bias and count; when a sleep began and when it ends (ns)."""
_SECTION = 256


def save_state(qemu: ExactQemu, tag: str, disks: list[str]) -> None:
    """Save the VM state of a QEMU that stands still, with a snapshot of its disk under the same name.

    The disk's node is named below `blkreplay`: a flush through that would wait for the log.

    Raises
    ------
    MonitorError
        If QEMU refuses, or the disk has requests under way; nothing is saved.
    OutcomeUnknownError
    """
    refuse_unquiet(qemu)
    node = _state_node(qemu)
    run_job(qemu, "snapshot-save", tag=tag, vmstate=node, devices=[node, *disks])


def drop_state(qemu: ExactQemu, tag: str, disks: list[str]) -> None:
    """Forget a VM state and the snapshots of its name, where there are any: QEMU saves no second one of a name.

    Raises
    ------
    MonitorError, OutcomeUnknownError
    """
    run_job(qemu, "snapshot-delete", tag=tag, devices=[_state_node(qemu), *disks])


def _state_node(qemu: ExactQemu) -> str:
    state = next(each for each in qemu.monitor.execute("query-block") if each["device"] == "state")
    return str(state["inserted"]["node-name"])


def run_job(qemu: ExactQemu, command: str, **arguments: Any) -> None:
    """Run a command that is a job of QEMU's, to its end.

    Raises
    ------
    MonitorError
        With QEMU's words, if it fails.
    OutcomeUnknownError
        If it does not end in time.
    """
    monitor = qemu.monitor
    monitor.execute(command, job_id=_JOB, **arguments)
    deadline = time.monotonic() + _JOB_SECONDS
    while (job := monitor.execute("query-jobs")[0])["status"] != "concluded":
        if time.monotonic() > deadline:
            raise OutcomeUnknownError(f"{qemu.name}: {command} does not end in time", **arguments)
        time.sleep(0.01)
    monitor.execute("job-dismiss", id=_JOB)
    if "error" in job:
        raise MonitorError(f"{qemu.name}: {command}: {job['error']}", tag=str(arguments["tag"]))


def sleeps_on_ns(file: Path, icount: int) -> int | None:
    """Return how long a machine goes on sleeping when it is begun from the state at an instruction; None if unknown.

    A recording that begins where a sleep ends at once cannot be replayed (QEMU 7.2): the sleep ends before the virtual
    CPU's thread waits for it, and in replays nothing wakes that. Source: QEMU softmmu/cpu-timers.c.

    Parameters
    ----------
    file : Path
        A qcow2 with VM states. QEMU writes them through, so one that runs may have it open.

    Returns
    -------
    int or None
        ns; 2**63 - 1 where it does not sleep.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = len(content)
        while (at := content.rfind(_TIMER, 0, at)) >= 0:
            if (found := _sleep(content[at + len(_TIMER) : at + _SECTION], icount)) is not None:
                return found
    return None


def _sleep(section: bytes, icount: int) -> int | None:
    count, warp = section.find(_ICOUNT), section.find(_WARP)
    if count < 0 or not count < warp <= len(section) - len(_WARP) - 20:
        return None
    if struct.unpack_from(">q", section, count + len(_ICOUNT) + 12)[0] != icount:
        return None
    (clock,) = struct.unpack_from(">q", section, 16)
    began, ends = struct.unpack_from(">qq", section, warp + len(_WARP) + 4)
    return int(ends - clock) if began >= 0 and ends >= 0 else (1 << 63) - 1
