"""A libvirt daemon of the test's own, to be killed and started again under its guests; nobody else's guests are on it.

It lives in a mount namespace of its own, which a holder keeps while no daemon is there: state and sockets survive the
daemon, as on a host whose libvirtd crashed.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt

from workbench.demo.commands import find_tool

_HOLD = """
place=$1
mount -t tmpfs tmpfs /run/libvirt && mount -t tmpfs tmpfs /var/lib/libvirt || exit 1
mount --bind "$place/qemu.conf" /etc/libvirt/qemu.conf || exit 1
# /dev/kvm may be there and boot nothing: libvirt would probe every QEMU anew.
[ ! -e /dev/kvm ] || mount --bind "$place/nothing" /dev/kvm || exit 1
hostname own-daemon && echo ready && exec cat
"""


class OwnDaemon:
    """The daemon, and how it is reached."""

    def __init__(self, place: Path, holder: subprocess.Popen[bytes]) -> None:
        self.place, self._holder = place, holder
        self.uri = f"qemu+unix:///system?socket={place}/libvirt-sock"
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [find_tool("nsenter"), "-t", str(self._holder.pid), "-m", "-u", find_tool("libvirtd")]
        words += ["--config", f"{self.place}/libvirtd.conf", "--pid-file", f"{self.place}/pid"]
        self._daemon = subprocess.Popen(words, cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not self._answers():
            assert self._daemon.poll() is None, (self.place / "log").read_text()
            assert time.monotonic() < end, (self.place / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash would; its guests run on."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def end(self) -> None:
        """End it with its guests."""
        with contextlib.suppress(libvirt.libvirtError), contextlib.closing(libvirt.open(self.uri)) as connection:
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                domain.destroy()
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait()

    def _answers(self) -> bool:
        try:
            libvirt.open(self.uri).close()
        except libvirt.libvirtError:
            return False
        return True


@contextlib.contextmanager
def own_daemon(place: Path) -> Iterator[OwnDaemon]:
    """Give one that runs; it and its guests end with the body."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    (place / "nothing").touch(mode=0)
    (place / "qemu.conf").write_text('namespaces = []\nstdio_handler = "file"\nremember_owner = 0\n')
    (place / "libvirtd.conf").write_text(
        f'unix_sock_dir = "{place}"\nhost_uuid = "{uuid.uuid4()}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n'
        f'log_outputs = "3:file:{place}/log"\n'
    )
    words = [find_tool("unshare"), "--mount", "--uts", "sh", "-c", _HOLD, "sh", str(place)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        made = OwnDaemon(place, holder)
        try:
            made.start()
            yield made
        finally:
            made.end()
            holder.terminate()
