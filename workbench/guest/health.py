"""Tell whether a guest's I/O moves after it was let go.

A guest can run and yet never get an answer from a disk: QEMU 10.0.2 with I/O threads loses requests at a stop. So the
device's own backend is asked for a sector, and virtio queues are watched: a request that is taken and not given back
for the whole limit is an error. Refuses to judge a guest that is idle: no request, nothing lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from workbench.errors import GuestError, MonitorError
from workbench.guest.connection import Guest
from workbench.guest.disks import Disk, read_sector

__all__ = ["check_io_moves"]

_LIMIT = 15.0
"""Seconds; a host that flushes its own disks keeps a guest's requests waiting for some of them."""


def check_io_moves(guest: Guest, disks: Sequence[Disk], *, limit: float = _LIMIT) -> None:
    """Raise if the guest does not run or a disk does not answer.

    Raises
    ------
    GuestError
        Naming the disk and how many requests are stuck.
    """
    status = guest.monitor.execute("query-status")
    if not status["running"]:
        raise GuestError(f"{guest.name} does not run", status=status["status"])
    for disk in disks:
        read_sector(guest.monitor, disk)
        _queues_move(guest, disk, limit)


def _queues_move(guest: Guest, disk: Disk, limit: float) -> None:
    deadline = time.monotonic() + limit
    first = _in_use(guest, disk)
    while first and _in_use(guest, disk) == first:
        if time.monotonic() > deadline:
            stuck = sum(in_use for in_use, _used in first)
            raise GuestError(
                f"{stuck} requests of {disk.target} are stuck", cure="Reset the guest, or rewind it by restart"
            )
        time.sleep(0.05)


def _in_use(guest: Guest, disk: Disk) -> list[tuple[int, int]]:
    """Return (requests in flight, used index) of each busy virtio queue of the disk; [] where QEMU cannot tell."""
    path = disk.device if disk.device.startswith("/") else f"/machine/peripheral/{disk.device}/virtio-backend"
    found = []
    for queue in range(8):
        try:
            status = guest.monitor.execute("x-query-virtio-queue-status", path=path, queue=queue)
        except MonitorError:
            break
        if status["inuse"]:
            found.append((status["inuse"], status["used-idx"]))
    return found
