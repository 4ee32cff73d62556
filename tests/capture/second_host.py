"""A second libvirt host on this machine: a daemon with its own host name, UUID, state and sockets, to migrate to.

It lives in mount and host name namespaces of its own; disks lie at the same paths on both, as on shared storage.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt

from workbench.demo import DemoGuest, Supervisor
from workbench.demo.commands import find_tool
from workbench.demo.domain import supervisor_socket
from workbench.guest.process import find_qemu

_START = """
place=$1
mount -t tmpfs tmpfs /run/libvirt && mount -t tmpfs tmpfs /var/lib/libvirt || exit 1
mount --bind "$place/qemu.conf" /etc/libvirt/qemu.conf || exit 1
# /dev/kvm may be there and boot nothing: libvirt would probe every QEMU anew.
[ ! -e /dev/kvm ] || mount --bind "$place/nothing" /dev/kvm || exit 1
hostname second-host
exec "$2" --config "$place/libvirtd.conf" --pid-file "$place/pid"
"""


@contextlib.contextmanager
def second_host(place: Path) -> Iterator[libvirt.virConnect]:
    """Start it, yield a connection, and end it with its guests."""
    (place / "nothing").touch(mode=0)
    (place / "qemu.conf").write_text('namespaces = []\nstdio_handler = "file"\nremember_owner = 0\n')
    (place / "libvirtd.conf").write_text(
        f'unix_sock_dir = "{place}"\nhost_uuid = "{uuid.uuid4()}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n'
        f'log_outputs = "2:file:{place}/log"\n'
    )
    words = [find_tool("unshare"), "--mount", "--uts", "sh", "-c", _START, "sh", str(place), find_tool("libvirtd")]
    with subprocess.Popen(words, cwd="/", stdin=subprocess.DEVNULL) as daemon:
        try:
            with contextlib.closing(_connect(place, daemon)) as connection:
                yield connection
                for domain in connection.listAllDomains():
                    domain.destroy()
        finally:
            daemon.terminate()


def _connect(place: Path, daemon: subprocess.Popen[bytes]) -> libvirt.virConnect:
    end = time.monotonic() + 60
    while True:
        try:
            return libvirt.open(f"qemu+unix:///system?socket={place}/libvirt-sock")
        except libvirt.libvirtError:
            assert daemon.poll() is None, "the second daemon ended"
            assert time.monotonic() < end, (place / "log").read_text()
            time.sleep(0.1)


def migrate(guest: DemoGuest, there: libvirt.virConnect, place: Path) -> libvirt.virDomain:
    """Migrate a running guest as an administrator would; its sockets lie in `place` then."""
    xml = ET.fromstring(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE))
    for source in xml.iterfind("./devices/channel/source[@path]"):
        source.set("path", str(place / Path(source.get("path", "")).name))
    for log in xml.iterfind("./devices//log"):
        log.set("file", str(place / "console.log"))
    # Both hosts see one disk, and its cache is this machine's: safe, though libvirt cannot know.
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE
    named = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: ET.tostring(xml, encoding="unicode"),
        libvirt.VIR_MIGRATE_PARAM_URI: "tcp://127.0.0.1",
        libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: "127.0.0.1",
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 4096,  # MiB/s
    }
    return guest.domain.migrate3(there, named, flags)


def hand_over(guest: DemoGuest, domain: libvirt.virDomain) -> None:
    """Give the disks to the QEMU there: on shared storage libvirt here would not have taken them from it."""
    owner = Path(f"/proc/{find_qemu(domain.UUIDString(), domain.name())}").stat()
    for disk in guest.directory.glob("*.qcow2"):
        os.chown(disk, owner.st_uid, owner.st_gid)


def supervisor_there(place: Path) -> Supervisor:
    """The guest's own voice, on the second host."""
    return Supervisor(supervisor_socket(place))
