"""Resume a guest whose libvirt died: over the monitor's own socket, which nobody holds then.

libvirt has QEMU listen on a Unix socket for its monitor and connects to it, one client at a time (qemu_command.c,
`charmonitor`; QEMU chardev/char-socket.c). A daemon that died has let go of it, so that QEMU answers whoever connects
next; we say one word and let go again, and the next daemon finds the socket free and the guest running.

Refuses to do anything else there: jobs and bitmaps are libvirt's to see, and wait for it. Where a daemon holds the
socket, living or hung, QEMU greets nobody else, and nothing is done.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from workbench.errors import GuestError, HypervisorLostError
from workbench.guest.process import find_qemu
from workbench.guest.socket_monitor import SocketMonitor

__all__ = ["resume_orphan"]

_GREETING = 1.0
"""Seconds that QEMU may take to greet; it does so at once where nobody else is connected."""
_CHARDEV = b"socket,id=charmonitor,"


def resume_orphan(uuid: str) -> None:
    """Resume a guest that stands paused, without libvirt; one that runs, or stands for another reason, is left so.

    Preconditions: libvirt cannot be reached, and the pause is the caller's to end. On success the guest does not stand
    in a pause any more; on failure nothing was done, or the outcome is unknown and this can be called again.

    Raises
    ------
    GuestGoneError
        If no QEMU on this host runs the guest.
    HypervisorLostError
        If its monitor has no socket that can be reached, or somebody holds it.
    """
    pid = find_qemu(uuid, uuid)
    path = _monitor_path(pid, uuid)
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(_GREETING)
        try:
            _connect(end, pid, path)
            monitor = SocketMonitor(end, uuid)
            monitor.greet(_GREETING)
            if monitor.execute("query-status", limit=_GREETING)["status"] == "paused":
                monitor.execute("cont", limit=_GREETING)
        except (OSError, GuestError, KeyError, TypeError) as error:  # the last two: an answer that is none
            raise HypervisorLostError(
                "libvirt is gone, and the guest's monitor does not answer", uuid=uuid, path=path,
                cure="Start libvirtd.",
            ) from error  # fmt: skip


def _connect(end: socket.socket, pid: int, path: str) -> None:
    """Connect to a socket where QEMU sees it: its libvirt may have had mounts of its own, as in a container."""
    place, _, name = path.rpartition("/")
    directory = os.open(f"/proc/{pid}/root{place}", os.O_PATH | os.O_DIRECTORY)
    try:
        end.connect(f"/proc/self/fd/{directory}/{name}")  # also: a socket's address has 107 characters at most
    finally:
        os.close(directory)


def _monitor_path(pid: int, uuid: str) -> str:
    """Return where QEMU listens for its monitor: libvirt hands it a socket that it bound.

    Raises
    ------
    HypervisorLostError
        If there is none, as where somebody else than libvirt started it.
    """
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError, KeyError, StopIteration, ValueError):
        words = (process / "cmdline").read_bytes().split(b"\0")
        options = dict(
            each.split(b"=", 1)
            for each in next(each for each in words if each.startswith(_CHARDEV)).split(b",")
            if b"=" in each
        )
        link = str((process / "fd" / str(int(options[b"fd"]))).readlink())
        inode = link.removeprefix("socket:[").removesuffix("]")
        for line in (process / "net" / "unix").read_text(errors="surrogateescape").splitlines()[1:]:
            fields = line.split(maxsplit=7)  # proc_net(5): num, refcount, protocol, flags, type, state, inode, path
            if len(fields) == 8 and fields[6] == inode:
                return fields[7]
    raise HypervisorLostError("libvirt is gone, and the guest's monitor has no socket", uuid=uuid, pid=pid)
