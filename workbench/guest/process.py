"""Find the QEMU process of a domain, hold on to it, and read its address space's layout.

libvirt has no call for the pid and its pid files move with version and privilege, so the command line is asked: libvirt
puts the domain's UUID there. Refuses to guess: none or two matches are errors; and a held process is known by pidfd, so
a pid that the kernel gave to somebody else is never taken for QEMU.
"""

from __future__ import annotations

import itertools
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import GuestError, GuestGoneError, UnsupportedError

__all__ = ["HeldProcess", "Vma", "covering", "find_qemu", "read_vmas"]


def find_qemu(uuid: str, name: str) -> int:
    """Return the pid of the QEMU process started for domain `uuid`.

    Raises
    ------
    GuestGoneError
        If there is none on this host, or it cannot be seen by this user.
    GuestError
        If more than one process claims the UUID.
    """
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _runs_domain(entry, uuid)]
    if not found:
        raise GuestGoneError(f"no QEMU process for {name}", uuid=uuid, cure="Is the domain running on this host?")
    if len(found) > 1:
        raise GuestError(f"several QEMU processes claim {name}", uuid=uuid, pids=sorted(found))
    return found[0]


def _runs_domain(entry: Path, uuid: str) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    wanted = uuid.encode()
    return any(a == b"-uuid" and b == wanted for a, b in itertools.pairwise(words))


class HeldProcess:
    """A QEMU process held by a pidfd.

    Parameters
    ----------
    pid : int
        As `find_qemu` gave it.
    uuid, name : str
        The domain it must still be running.

    Raises
    ------
    GuestGoneError
        If the process is not there, or is not this domain's.
    """

    def __init__(self, pid: int, uuid: str, name: str) -> None:
        self.pid, self.name = pid, name
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise GuestGoneError(f"the QEMU process of {name} is gone", pid=pid) from error
        # The pidfd is open, so from here the pid cannot change its meaning unseen: now look whose it is.
        if not _runs_domain(Path(f"/proc/{pid}"), uuid):
            os.close(self.pidfd)
            raise GuestGoneError(f"process {pid} does not run {name} any more", pid=pid)

    def alive(self) -> bool:
        """Tell whether the process has not exited. A pidfd polls readable from its exit on."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def require(self, what: str) -> None:
        """Raise `GuestGoneError` if the process has exited: whatever was read under its pid counts for nothing."""
        if not self.alive():
            raise GuestGoneError(f"{self.name}: QEMU ended during {what}", pid=self.pid)

    def close(self) -> None:
        """Let go; the process is not touched."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass(frozen=True, slots=True)
class Vma:
    """One line of `/proc/PID/maps` (proc_pid_maps(5)): addresses in bytes, `end` exclusive."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: str

    @property
    def shared(self) -> bool:
        """Whether the mapping is MAP_SHARED: other processes may have the same memory."""
        return self.permissions[3] == "s"


def read_vmas(pid: int) -> tuple[Vma, ...]:
    """Return the mappings of a process, by address.

    Raises
    ------
    GuestGoneError
        If the process is gone.
    UnsupportedError
        If this user may not look at it.
    """
    try:
        text = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError) as error:
        raise GuestGoneError(f"process {pid} is gone", pid=pid) from error
    except PermissionError as error:
        raise UnsupportedError(
            f"/proc/{pid}/maps may not be read", cure="Run as root or as the user that owns the QEMU process", pid=pid
        ) from error
    return tuple(_vma(line) for line in text.splitlines())


def _vma(line: str) -> Vma:
    span, permissions, offset, device, inode, *path = line.split(maxsplit=5)
    start, end = (int(part, 16) for part in span.split("-"))
    return Vma(start, end, permissions, int(offset, 16), device, int(inode), path[0] if path else "")


def covering(vmas: Sequence[Vma], start: int, end: int) -> tuple[Vma, ...]:
    """Return the mappings that hold `[start, end)` without a hole, or nothing if there is a hole or no access."""
    found = [vma for vma in vmas if vma.start < end and vma.end > start]
    at = start
    for vma in found:
        if vma.start > at or "r" not in vma.permissions:
            return ()
        at = vma.end
    return tuple(found) if found and at >= end else ()
