"""The disks of a guest: which there are, which clusters were written, their content at one instant, writing them back.

Dirty clusters come from a dirty bitmap of ours; content of an instant from backup jobs started in one transaction
inside the pause, which copy on after the guest runs (copy-before-write keeps the instant). Refuses to read or
write an image file: QEMU holds it, so all content goes through QEMU.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from workbench.errors import (
    GuestError,
    GuestGoneError,
    MonitorError,
    OutcomeUnknownError,
    StoreFullError,
    UnsupportedError,
)
from workbench.guest.c_qcow2 import L2_SPAN
from workbench.guest.connection import Guest
from workbench.guest.monitor import PREFIX, Monitor
from workbench.guest.qcow2 import Clusters, read_clusters, write_empty_image
from workbench.model import CLUSTER

__all__ = ["BITMAP", "BackupTarget", "Disk", "backup_actions", "backup_target", "read_disks", "write_clusters"]

BITMAP = f"{PREFIX}dirty"
_ROOM_SLACK = 16 << 20
"""Bytes reserved beyond what is known, for what the guest writes until the pause."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A writable disk of a guest.

    Attributes
    ----------
    target : str
        Its name in the XML (`vda`).
    node : str
        The block node under the device.
    device : str
        QOM path or id of the device, as `query-block` names it.
    size : int
        Virtual bytes.
    format : str
        `qcow2`, `raw` ...
    path : str
        The image file as QEMU names it; shown, never opened.
    threaded : bool
        Whether it works in an I/O thread. QEMU 7.2 dies of `cont` while a backup job of such a disk is under way, so
        the job has to end inside the pause.
    """

    target: str
    node: str
    device: str
    size: int
    format: str
    path: str
    threaded: bool = False

    @property
    def region(self) -> str:
        """The name of its region in a capture."""
        return f"disk:{self.target}"


def _device_alias(qdev: str) -> str:
    found = re.match(r"/machine/peripheral/([^/]+)", qdev)
    return found.group(1) if found else qdev


def read_disks(guest: Guest) -> tuple[Disk, ...]:
    """Return the guest's writable disks, in the XML's order; read-only media are left out.

    Raises
    ------
    UnsupportedError
        If a writable disk of the XML has no block node of its own in QEMU, or its size is not whole sectors.
    """
    by_alias = {_device_alias(each.get("qdev", "")): each for each in guest.monitor.execute("query-block")}
    disks = []
    root = ET.fromstring(guest.xml())
    for element in root.iterfind("./devices/disk"):
        target, alias = element.find("target"), element.find("alias")
        if element.find("readonly") is not None or element.get("device") in ("cdrom", "floppy"):
            continue
        name = target.get("dev", "") if target is not None else ""
        entry: dict[str, Any] = by_alias.get(alias.get("name", "") if alias is not None else "", {})
        inserted = entry.get("inserted")
        if not inserted or "node-name" not in inserted:
            raise UnsupportedError(f"disk {name!r} of {guest.name} has no block node", cure="It cannot be captured")
        if inserted["ro"]:
            continue
        size = int(inserted["image"]["virtual-size"])
        image = (inserted["drv"], inserted["file"], _in_thread(element, root))
        disks.append(Disk(name, inserted["node-name"], entry["qdev"], size, *image))
    return tuple(disks)


def _in_thread(disk: ET.Element, root: ET.Element) -> bool:
    """Tell whether a disk, or the SCSI controller that it may be behind, has an I/O thread."""
    drivers = [disk.find("driver"), *root.iterfind("./devices/controller[@type='scsi']/driver")]
    return any(driver is not None and driver.get("iothread") is not None for driver in drivers)


def bitmap_state(monitor: Monitor, disk: Disk) -> int | None:
    """Return the dirty bytes of our bitmap on `disk`, or None where there is no bitmap that can be trusted."""
    for node in monitor.execute("query-named-block-nodes", flat=True):
        if node["node-name"] == disk.node:
            for bitmap in node.get("dirty-bitmaps", []):
                if bitmap["name"] == BITMAP and bitmap["recording"] and not bitmap.get("inconsistent"):
                    return int(bitmap["count"])
    return None


def allocated_bytes(monitor: Monitor, disk: Disk) -> int:
    """Return how much of `disk` has content at most, by the sizes of its images; compressed ones say too little."""
    for entry in monitor.execute("query-block"):
        inserted = entry.get("inserted", {})
        if inserted.get("node-name") == disk.node:
            total, image = 0, inserted["image"]
            while image is not None:
                total += int(image.get("actual-size", disk.size))
                image = image.get("backing-image")
            return min(total, disk.size)
    return disk.size


def remove_bitmap(monitor: Monitor, disk: Disk) -> None:
    """Take our bitmap off `disk`; it need not be there."""
    with contextlib.suppress(MonitorError, GuestGoneError):
        monitor.execute("block-dirty-bitmap-remove", node=disk.node, name=BITMAP)


class BackupTarget:
    """A prepared place for the content of one disk at one instant."""

    def __init__(self, monitor: Monitor, disk: Disk, descriptor: int, *, whole: bool) -> None:
        self.disk = disk
        self.node = f"{PREFIX}target-{disk.target}"
        self.job = f"{PREFIX}backup-{disk.target}"
        self.whole = whole
        self._monitor = monitor
        self._descriptor = descriptor
        self._attached = self._waited = False

    def attach(self, path: str) -> None:
        """Give the image behind `path` to QEMU as a block node."""
        file = {"driver": "file", "filename": path, "locking": "off"}
        self._monitor.execute("blockdev-add", driver="qcow2", node_name=self.node, file=file, discard="unmap")
        self._attached = True

    def detach(self) -> None:
        """Take the node away; QEMU writes its tables out then. A job that still runs is cancelled first."""
        if not self._attached:
            return
        self._attached = False
        if not self._waited:
            # A job that has concluded cannot be cancelled any more, but must still be dismissed.
            with contextlib.suppress(MonitorError):
                self._monitor.execute("block-job-cancel", device=self.job, force=True)
            with contextlib.suppress(MonitorError, OutcomeUnknownError, StoreFullError):
                self.wait(timeout=60.0)
        self._monitor.execute("blockdev-del", node_name=self.node)

    def actions(self) -> list[dict[str, Any]]:
        """Return the transaction actions that fix this disk's instant."""
        backup: dict[str, Any] = {
            "job-id": self.job,
            "device": self.disk.node,
            "target": self.node,
            "auto-dismiss": False,
        }
        if self.whole:
            add = {"node": self.disk.node, "name": BITMAP, "granularity": CLUSTER}
            backup["sync"] = "full"
            return [{"type": "block-dirty-bitmap-add", "data": add}, {"type": "blockdev-backup", "data": backup}]
        backup |= {"sync": "bitmap", "bitmap": BITMAP, "bitmap-mode": "on-success"}
        return [{"type": "blockdev-backup", "data": backup}]

    def wait(self, *, timeout: float) -> None:
        """Wait for the job; `finish` then only takes the node away.

        Raises
        ------
        MonitorError, OutcomeUnknownError, StoreFullError
            As `finish`.
        """
        try:
            self._monitor.wait_job(self.job, timeout=timeout)
        except MonitorError as error:
            self._waited = True
            if os.strerror(errno.ENOSPC) in error.message:
                raise StoreFullError(
                    f"no room for the clusters of {self.disk.target} while they are copied",
                    cure="Free space on the volume of the case; all that is committed is whole.",
                ) from error
            raise
        self._waited = True

    def finish(self, *, timeout: float) -> None:
        """Wait for the job and take the node away.

        Raises
        ------
        MonitorError
            If the job failed; with a bitmap, the bitmap then still has all its dirty clusters.
        StoreFullError
            If it failed for want of space under the target.
        OutcomeUnknownError
            If it did not end in `timeout` seconds.
        """
        if not self._waited:
            self.wait(timeout=timeout)
        self.detach()

    def clusters(self) -> Clusters:
        """Return what was copied; only after `finish`."""
        return read_clusters(self._descriptor)

    def batches(self, *, size: int = 64) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield (indices, blocks) of all copied clusters, at most `size` at a time; zeros come as zero blocks."""
        clusters = self.clusters()
        for at in range(0, len(clusters.data), size):
            part = slice(at, at + size)
            yield clusters.data[part], clusters.read(self._descriptor, part)
        for at in range(0, len(clusters.zeros), size):
            zeros = clusters.zeros[at : at + size]
            yield zeros, np.zeros((len(zeros), CLUSTER), np.uint8)


@contextlib.contextmanager
def backup_target(
    guest: Guest, disk: Disk, *, whole: bool, spool: int | None = None, most: int = 0
) -> Iterator[BackupTarget]:
    """Prepare a target for `disk`: a memfd, or the file behind `spool` where much is to be copied.

    `whole` copies all of the disk and begins a new dirty bitmap at the same instant; otherwise the clusters of our
    bitmap are copied. Whatever happens, no node and no job of ours is left in QEMU, and a guest that ran runs.

    Parameters
    ----------
    most : int
        Bytes that will be copied at most, reserved in the spool here: once the job runs, a target that is full breaks
        the guest's own writes (QEMU's copy-before-write), and QEMU stops the guest.

    Raises
    ------
    OSError
        If there is no room for the copy.
    """
    descriptor = os.memfd_create("rwb-backup", os.MFD_CLOEXEC) if spool is None else spool
    try:
        write_empty_image(descriptor, disk.size)
        if spool is not None:
            tables = min(most, -(-disk.size // L2_SPAN) * CLUSTER)
            os.posix_fallocate(descriptor, 0, most + most // 8 + tables + _ROOM_SLACK)
        ran = guest.is_running()
        with guest.monitor.fdset(descriptor) as path:
            target = BackupTarget(guest.monitor, disk, descriptor, whole=whole)
            try:
                target.attach(path)
                yield target
            except BaseException:
                _detach(target)
                if ran:
                    with contextlib.suppress(GuestError):
                        resume_after_io_error(guest.monitor)
                raise
            else:
                _detach(target)
    finally:
        if spool is None:
            os.close(descriptor)


def _detach(target: BackupTarget) -> None:
    with contextlib.suppress(MonitorError, GuestGoneError, OutcomeUnknownError):
        target.detach()


def resume_after_io_error(monitor: Monitor) -> None:
    """Let a guest go on that QEMU stopped for a write that a failed backup broke; without the job it is tried again."""
    if monitor.execute("query-status")["status"] == "io-error":
        monitor.execute("cont")


def backup_actions(targets: Sequence[BackupTarget]) -> list[dict[str, Any]]:
    """Return the actions of one transaction that fixes the instant of all `targets`."""
    return [action for target in targets for action in target.actions()]


def _run_io(monitor: Monitor, disk: Disk, command: str) -> None:
    """Run one `qemu-io` command on the device's own backend; it prints only when something is wrong."""
    printed = monitor.human(f'qemu-io -d {disk.device} "{command}"').strip()
    if printed:
        raise GuestError(f"disk {disk.target}: {command.split(maxsplit=1)[0]}: {printed}", command=command)


def flush(monitor: Monitor, disk: Disk) -> None:
    """Flush the disk's host caches; before a pause it makes the pause short."""
    _run_io(monitor, disk, "flush")


def read_sector(monitor: Monitor, disk: Disk) -> None:
    """Read the first sector through the device's own backend.

    Raises
    ------
    GuestError
        If the backend answers with an error.
    """
    _run_io(monitor, disk, "read -q 0 512")


def settle(disk: Disk) -> None:
    """Have the host write out what it caches of the image, while the guest runs.

    `stop` flushes every disk; most of a long pause is that fsync. Best effort: an image that is no file, or not ours to
    open, is left to `stop`. A second descriptor does it, since a flush through QEMU would hold the guest's CPUs.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(disk.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def write_clusters(guest: Guest, disk: Disk, runs: Iterator[tuple[int, NDArray[np.uint8]]]) -> None:
    """Write content into a disk of the paused guest, through the device's own backend.

    Preconditions: the guest is paused. On success all runs are written and flushed, bitmaps recorded them. On failure
    some may be written: the caller writes the old content back.

    Parameters
    ----------
    runs : iterator of (int, ndarray of uint8)
        Byte offset and content (whole clusters, the last one of a disk may be short).

    Raises
    ------
    GuestError
        If QEMU says that a write failed.
    """
    descriptor = os.memfd_create("rwb-write", os.MFD_CLOEXEC)
    try:
        with guest.monitor.fdset(descriptor) as path:
            source = _path_inside(guest.monitor, path)
            for offset, content in runs:
                length = min(content.nbytes, disk.size - offset)
                if not content.any():
                    _run_io(guest.monitor, disk, f"write -q -z {offset} {length}")
                    continue
                os.ftruncate(descriptor, length)
                os.pwrite(descriptor, content.data.cast("B")[:length], 0)
                _run_io(guest.monitor, disk, f"write -q -s {source} {offset} {length}")
            flush(guest.monitor, disk)
    finally:
        os.close(descriptor)


def _path_inside(monitor: Monitor, fdset_path: str) -> str:
    """Return a path by which QEMU's own fopen() reads a descriptor of an fdset (qemu-io does not know fdsets)."""
    number = int(fdset_path.rsplit("/", 1)[1])
    for fdset in monitor.execute("query-fdsets"):
        if fdset["fdset-id"] == number:
            return f"/proc/self/fd/{fdset['fds'][0]['fd']}"
    raise GuestError("QEMU does not list the descriptor it was given", fdset=number)
