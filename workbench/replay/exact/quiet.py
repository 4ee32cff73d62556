"""Whether the disk of a QEMU that stands still has requests under way.

The guest has put such a request and has no answer yet. Under record and replay the answer comes at an instruction of
the log, so nothing that waits for it ever ends while the machine stands: a flush, a drain, a snapshot. What is on the
disk is then neither the old nor the new content, and a VM state would lose it. Refuses to guess: QEMU is asked.
"""

from __future__ import annotations

from workbench.errors import MonitorError, UnsupportedError
from workbench.replay.exact.qemu import ExactQemu

__all__ = ["disk_is_quiet", "refuse_unquiet"]

_DISK = "/machine/peripheral/root/virtio-backend"


def disk_is_quiet(qemu: ExactQemu) -> bool:
    """Return whether the guest waits for nothing from the recorded disk; true without one.

    Raises
    ------
    UnsupportedError
        If this QEMU cannot say.
    """
    known = {each["name"] for each in qemu.monitor.execute("qom-list", path="/machine/peripheral")}
    if "root" not in known:
        return True
    try:
        queue = qemu.monitor.execute("x-query-virtio-queue-status", path=_DISK, queue=0)
    except MonitorError as error:
        raise UnsupportedError(
            "this QEMU does not say whether a disk has requests under way", cure="Use QEMU 7.2 or later."
        ) from error
    return int(queue["inuse"]) == 0


def refuse_unquiet(qemu: ExactQemu) -> None:
    """Refuse an instant at which the disk has requests under way.

    Raises
    ------
    MonitorError
    """
    if not disk_is_quiet(qemu):
        raise MonitorError(
            f"{qemu.name}: the disk has requests under way at this instruction",
            icount=qemu.icount(), cure="Ask for an instruction a little later.",
        )  # fmt: skip
