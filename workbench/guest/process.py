"""Find the QEMU process of a domain.

libvirt has no call for it and its pid files move with version and privilege, so the command line is asked: libvirt
puts the domain's UUID there. Refuses to guess: none or two matches are errors.
"""

from __future__ import annotations

from pathlib import Path

from workbench.errors import GuestError, GuestGoneError

__all__ = ["find_qemu"]


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
    return any(a == b"-uuid" and b == wanted for a, b in zip(words, words[1:], strict=False))
