"""VM states of a QEMU that stands still: saved and forgotten, with the snapshot of its disk.

Refuses to save while the disk has requests under way.
"""

from __future__ import annotations

import time
from typing import Any

from workbench.errors import MonitorError, OutcomeUnknownError
from workbench.replay.exact.qemu import ExactQemu
from workbench.replay.exact.quiet import refuse_unquiet

__all__ = ["drop_state", "save_state"]

_JOB, _JOB_SECONDS = "rwb-save", 120.0


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
    _run_job(qemu, "snapshot-save", tag=tag, vmstate=node, devices=[node, *disks])


def drop_state(qemu: ExactQemu, tag: str, disks: list[str]) -> None:
    """Forget a VM state and the snapshots of its name, where there are any: QEMU saves no second one of a name.

    Raises
    ------
    MonitorError, OutcomeUnknownError
    """
    _run_job(qemu, "snapshot-delete", tag=tag, devices=[_state_node(qemu), *disks])


def _state_node(qemu: ExactQemu) -> str:
    state = next(each for each in qemu.monitor.execute("query-block") if each["device"] == "state")
    return str(state["inserted"]["node-name"])


def _run_job(qemu: ExactQemu, command: str, **arguments: Any) -> None:
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
