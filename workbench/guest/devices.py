"""Device state of a paused guest: read it, load it back in place.

Preconditions: the guest is paused by the caller. Reading changes nothing. Loading resets the machine and sets every
device to the stream's state; guest RAM must be as at the stream's instant *before* the load, since virtio devices
read their rings then. On success of a load the guest is still paused. On failure the machine may be reset: only
another successful load makes it whole. Refuses `xen-load-devices-state`: QEMU aborts on it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from workbench.errors import FormatError, GuestGoneError, HypervisorLostError, MonitorError
from workbench.guest.monitor import PREFIX, Monitor
from workbench.guest.qcow2 import SNAPSHOT_TAG, write_state_image

__all__ = ["StateSink", "load_device_state", "state_sink"]

_MOST_STATE = 256 << 20


class StateSink:
    """Where QEMU writes device state: prepared before the pause, used once inside it."""

    def __init__(self, monitor: Monitor, descriptor: int, path: str) -> None:
        self._monitor = monitor
        self._descriptor = descriptor
        self._path = path

    def save(self) -> None:
        """Have QEMU write the device state (the guest is paused).

        Raises
        ------
        MonitorError
            If a device refuses to be saved; QEMU names it.
        """
        self._monitor.execute("xen-save-devices-state", filename=self._path, live=False)

    def read(self) -> bytes:
        """Return what QEMU wrote.

        Raises
        ------
        FormatError
            If it wrote nothing, or more than 256 MiB.
        """
        length = os.fstat(self._descriptor).st_size
        if not 0 < length <= _MOST_STATE:
            raise FormatError("device state of an impossible length", found=length, expected=f"1 to {_MOST_STATE}")
        return os.pread(self._descriptor, length, 0)


@contextlib.contextmanager
def state_sink(monitor: Monitor) -> Iterator[StateSink]:
    """Prepare a memfd that QEMU may write device state to.

    A memfd given through an fdset is on no file system and under no sVirt label. Fresh for each use: QEMU appends.
    """
    descriptor = os.memfd_create("rwb-state", os.MFD_CLOEXEC)
    try:
        # QEMU takes a descriptor from an fdset only if its access mode is exactly the one it opens with.
        writable = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            with monitor.fdset(writable) as path:
                yield StateSink(monitor, descriptor, path)
        finally:
            os.close(writable)
    finally:
        os.close(descriptor)


def load_device_state(monitor: Monitor, stream: bytes, *, timeout: float = 60.0) -> None:
    """Set every device of the paused guest to `stream` (with its configuration section).

    Raises
    ------
    MonitorError
        If QEMU refuses the state; it says which device. The machine may have been reset.
    """
    node, job = f"{PREFIX}state", f"{PREFIX}load"
    descriptor = os.memfd_create("rwb-load", os.MFD_CLOEXEC)
    try:
        write_state_image(descriptor, stream)
        with monitor.fdset(descriptor) as path:
            monitor.execute(
                "blockdev-add",
                driver="qcow2",
                node_name=node,
                file={"driver": "file", "filename": path, "locking": "off"},
            )
            try:
                monitor.execute("snapshot-load", job_id=job, tag=SNAPSHOT_TAG, vmstate=node, devices=[node])
                monitor.wait_job(job, timeout=timeout)
            finally:
                with contextlib.suppress(MonitorError, GuestGoneError, HypervisorLostError):
                    monitor.execute("blockdev-del", node_name=node)
    finally:
        os.close(descriptor)
