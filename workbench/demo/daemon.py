"""Have a libvirt to talk to, also on a machine without systemd.

Ordinary users get a session daemon from libvirt itself, given a runtime directory. For root, libvirt sends every local
address, qemu:///session too, to the system daemon; where none runs, this starts one that ends itself when unused.

Where `/dev/kvm` is there but boots nothing, the daemon started here does not see it (in a mount namespace of its own):
libvirt never believes a failed KVM probe and would repeat it dozens of times, a second each, for every guest. That
daemon gives its guests no `/dev` of their own (`namespaces = []`): it could not move our mount on `/dev/kvm` there.

Refuses to stop or reconfigure a daemon that is there, and to start one for a remote address.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.demo.accel import probe_kvm
from workbench.demo.commands import find_tool
from workbench.errors import GuestError, UnsupportedError
from workbench.guest import virt

if TYPE_CHECKING:
    import libvirt

__all__ = ["connect", "daemon_answers", "ensure_daemon", "ensure_runtime_dir"]

_LOCAL = ("qemu:///session", "qemu:///system")
_LOG_SOCKET = Path("/run/libvirt/virtlogd-sock")
_IDLE_SECONDS = 120
_HIDE_KVM = """
hidden=/run/rewind-workbench-no-kvm
conf=/run/rewind-workbench-qemu.conf
: >"$hidden" && chmod 0 "$hidden" && mount --bind "$hidden" /dev/kvm && {
    grep -v "^namespaces" /etc/libvirt/qemu.conf
    echo "namespaces = []"
} >"$conf" && mount --bind "$conf" /etc/libvirt/qemu.conf || exit 1
exec "$0" "$@"
"""
_CURE = "Start libvirtd and virtlogd, or see the packages in .ci/system-packages."


def connect(uri: str = "qemu:///session") -> libvirt.virConnect:
    """Open a connection, starting a daemon where a local one is missing.

    Parameters
    ----------
    uri : str
        A libvirt address.

    Returns
    -------
    libvirt.virConnect
        An open connection; close it.

    Raises
    ------
    UnsupportedError
        libvirt's daemon is not installed.
    GuestError
        No connection; the message is libvirt's.
    """
    ensure_daemon(uri)
    try:
        return virt.open(uri)
    except virt.libvirtError as error:
        raise GuestError(f"no connection to {uri}: {error}", cure=_CURE) from error


def ensure_runtime_dir() -> Path:
    """Make sure that XDG_RUNTIME_DIR names a directory, as a session daemon wants.

    Returns
    -------
    Path
        The directory; a private one of this user under the temporary directory where none was set.
    """
    named = os.environ.get("XDG_RUNTIME_DIR")
    place = Path(named) if named else Path(tempfile.gettempdir()) / f"rewind-workbench-{os.getuid()}"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.stat().st_uid != os.getuid():
        raise GuestError("the runtime directory belongs to someone else", path=str(place), cure="Set XDG_RUNTIME_DIR.")
    os.environ["XDG_RUNTIME_DIR"] = str(place)
    return place


def ensure_daemon(uri: str = "qemu:///session", timeout: float = 60) -> None:
    """Make sure that a local address has a daemon that answers.

    Parameters
    ----------
    uri : str
        A libvirt address; others than the two local QEMU ones are left alone.
    timeout : float
        Seconds to wait for one that was started (the first start examines QEMU: about 12 s).

    Raises
    ------
    UnsupportedError
        libvirt's daemon is not installed.
    GuestError
        It did not come up.
    """
    ensure_runtime_dir()
    if uri not in _LOCAL or os.getuid() != 0:
        return
    if daemon_answers(uri):
        _ensure_log_daemon()
        return
    end = time.monotonic() + timeout
    _start("virtlogd")
    _start("libvirtd", without_kvm=_kvm_is_broken())
    while not daemon_answers(uri):
        if time.monotonic() > end:
            raise GuestError(f"libvirtd did not answer within {timeout:g} s", cure=_CURE)
        time.sleep(0.1)


def _ensure_log_daemon() -> None:
    """Start virtlogd again where it is gone: with no guest it ends itself, while libvirtd stays for its callers."""
    if not _LOG_SOCKET.exists():
        with contextlib.suppress(UnsupportedError):  # a libvirtd that was set up to do without it
            _start("virtlogd")


def _start(program: str, *, without_kvm: bool = False) -> None:
    """Start a daemon that detaches; one that lost a race against its twin ends by itself."""
    command = [find_tool(program), "--daemon", "--timeout", str(_IDLE_SECONDS)]
    hiding = [find_tool("unshare"), "--mount", "--propagation", "slave", "sh", "-c", _HIDE_KVM]
    # Some containers allow no mounts: guests then start too, only slowly.
    if not (without_kvm and _succeeds([*hiding, *command])):
        _succeeds(command)


def _succeeds(command: list[str]) -> bool:
    nothing = subprocess.DEVNULL
    return subprocess.run(command, cwd="/", stdin=nothing, stdout=nothing, stderr=nothing, check=False).returncode == 0


def _kvm_is_broken() -> bool:
    """Say whether `/dev/kvm` is there but boots nothing: libvirt would then probe QEMU again and again."""
    return Path("/dev/kvm").exists() and not probe_kvm()[0]


def daemon_answers(uri: str) -> bool:
    """Say whether a connection can be had now."""
    virt.registerErrorHandler(lambda _context, _error: None, None)  # or libvirt prints every failed try
    try:
        virt.open(uri).close()
    except virt.libvirtError:
        return False
    return True
