"""Lend a descriptor to a QEMU that does not run yet, by a path: `/proc/PID/fd/N` of a process of QEMU's own user.

A QEMU that runs takes descriptors through its monitor; one that libvirt is about to start takes only paths, and the
kernel lets nobody follow such a path into a process of another user, or of one with more rights. So a process that does
nothing (`cat` on a pipe that stays empty) holds the descriptor as QEMU's user; it ends with the body, and with us,
whatever kills us, since the kernel closes the pipe. Refuses to give rights: who may not become QEMU's user gets an
error.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from workbench.guest.connection import Hypervisor, translate
from workbench.guest.tools import find_tool

__all__ = ["User", "lend", "qemu_user"]

User = tuple[int, int]
"""A user and a group, by number."""


def qemu_user(hypervisor: Hypervisor, kind: str) -> User:
    """Return as whom libvirt runs QEMU for domains of type `kind` ("qemu", "kvm"); ourselves where it does not say.

    libvirt says it in the security model "dac" of its capabilities (formatcaps: baselabel, `user:group`, numbers with
    a plus sign); a session daemon has no such model.

    Raises
    ------
    GuestError
        If libvirt does not answer.
    """
    with translate("asking as whom QEMU runs"):
        root = ET.fromstring(hypervisor.connection.getCapabilities())
    for model in root.iterfind("./host/secmodel[model='dac']"):
        user, _, group = (model.findtext(f"baselabel[@type='{kind}']") or "").partition(":")
        with contextlib.suppress(KeyError, ValueError):
            return (
                int(user) if user.startswith("+") else pwd.getpwnam(user).pw_uid,
                int(group) if group.startswith("+") else grp.getgrnam(group).gr_gid,
            )
    return os.geteuid(), os.getegid()


@contextlib.contextmanager
def lend(descriptor: int, user: User) -> Iterator[str]:
    """Yield a path by which a process of `user` opens `descriptor`; it is good for the body.

    Raises
    ------
    PermissionError
        If we may not become that user.
    UnsupportedError
        If there is no `cat`.
    """
    # Even where the user is our own: root's QEMU has no capabilities, and could not look into a process that has them.
    other = {} if user == (os.geteuid(), os.getegid()) else {"user": user[0], "group": user[1], "extra_groups": ()}
    with subprocess.Popen(
        [find_tool("cat")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        pass_fds=(descriptor,),
        **other,  # type: ignore[call-overload]
    ) as holder:
        yield f"/proc/{holder.pid}/fd/{descriptor}"
