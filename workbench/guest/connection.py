"""Connections to libvirt and the guests on them.

Attaches to running domains as they are: no change to their XML, no agent inside. Refuses to start, stop or define
anything; that is the business of `rewind`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from xml.etree import ElementTree as ET

from workbench.errors import GuestError, GuestGoneError, GuestNotFoundError, HypervisorLostError
from workbench.guest import virt
from workbench.guest.monitor import Monitor, is_lost
from workbench.guest.process import find_qemu
from workbench.model import GuestId

if TYPE_CHECKING:
    import libvirt

__all__ = ["DEFAULT_URI", "Guest", "Hypervisor", "translate"]

DEFAULT_URI = "qemu:///session"


_OFF = {
    1: "it was shut down",
    2: "it was ended by force",
    3: "its QEMU crashed or was killed",
    4: "it was migrated away",
    5: "it was saved",
    6: "it could not be started, or its QEMU ended by itself",
    8: "its QEMU ended while no libvirt daemon watched it",
}
"""virDomainShutoffReason."""


def _quiet(_context: Any, _error: Any) -> None:
    """Keep libvirt from printing to stderr: every error is raised as ours."""


@contextlib.contextmanager
def translate(what: str, cure: str = "") -> Iterator[None]:
    """Turn a libvirt error into ours.

    Raises
    ------
    GuestGoneError
        If the domain is not there or not running any more.
    HypervisorLostError
        If libvirt itself is not there any more.
    GuestError
        For everything else that libvirt says.
    """
    try:
        yield
    except virt.libvirtError as error:
        if is_lost(error):
            raise HypervisorLostError(f"{what}: {error}", cure=cure) from error
        gone = error.get_error_code() in (virt.VIR_ERR_NO_DOMAIN, virt.VIR_ERR_OPERATION_INVALID)
        kind = GuestGoneError if gone else GuestError
        raise kind(f"{what}: {error}", cure=cure or "See `workbench guests` for what runs") from error


def ensure_runtime_directory() -> None:
    """Give `qemu:///session` the XDG_RUNTIME_DIR it needs where no login session made one."""
    wanted = os.environ.get("XDG_RUNTIME_DIR")
    if wanted and Path(wanted).is_dir():
        return
    path = Path(tempfile.gettempdir()) / f"rewind-workbench-{os.getuid()}"  # the demo guests' too
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise GuestError(f"{path} is not ours", cure="Set XDG_RUNTIME_DIR to a private directory")
    os.environ["XDG_RUNTIME_DIR"] = str(path)


class Hypervisor:
    """One libvirt connection.

    Parameters
    ----------
    uri : str
        A libvirt URI of the QEMU driver on this host (`qemu:///session`, `qemu:///system`, `qemu:///embed?root=...`).

    Raises
    ------
    GuestError
        If libvirt cannot be reached or is another driver than QEMU's.
    UnsupportedError
        If libvirt's Python binding is not installed.
    """

    def __init__(self, uri: str = DEFAULT_URI) -> None:
        virt.registerErrorHandler(_quiet, None)
        if "session" in uri:
            ensure_runtime_directory()
        # For root, libvirt sends qemu:///session to the system daemon too, and starts none.
        with translate(f"connecting to {uri}", "Start libvirtd and virtlogd, or give --connect URI"):
            self.connection = virt.open(uri)
        self.uri = uri
        driver = self.connection.getType()
        if driver != "QEMU":
            self.close()
            raise GuestError(f"{uri} is driven by {driver}", cure="Use a qemu:/// URI of this host")

    def guests(self) -> list[Guest]:
        """Return the running guests, by name."""
        with translate("listing domains"):
            domains = self.connection.listAllDomains(virt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return sorted((Guest(self, domain) for domain in domains), key=lambda guest: guest.name)

    def guest(self, name: str) -> Guest:
        """Return the running guest with this name or UUID.

        Raises
        ------
        GuestNotFoundError
            If there is none; the message lists what runs.
        """
        for guest in self.guests():
            if name in (guest.name, guest.id):
                return guest
        running = ", ".join(guest.name for guest in self.guests()) or "none"
        raise GuestNotFoundError(
            f"no running guest {name!r} on {self.uri}", running=running, cure="Start it, or give --connect URI"
        )

    def why_off(self, name: str) -> str:
        """Say in words why the guest with this name or UUID does not run, as far as libvirt knows."""
        with translate("listing domains"):
            domains = self.connection.listAllDomains()
        for domain in domains:
            if name in (domain.name(), domain.UUIDString()):
                with translate(f"asking for the state of {name}"):
                    state, reason = domain.state()
                return _OFF.get(reason, "it is off") if state == virt.VIR_DOMAIN_SHUTOFF else "it has just begun to run"
        return "libvirt knows no such guest (one that is not defined is forgotten at its end)"

    def versions(self) -> dict[str, str]:
        """Return the libvirt and QEMU versions in words."""

        def words(number: int) -> str:
            return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"

        with translate("asking versions"):
            return {"libvirt": words(self.connection.getLibVersion()), "qemu": words(self.connection.getVersion())}

    def emulators(self) -> set[str]:
        """Return the programs that libvirt itself starts guests with."""
        with translate("asking which QEMUs there are"):
            found = ET.fromstring(self.connection.getCapabilities()).iterfind("./guest/arch//emulator")
        return {each.text for each in found if each.text}

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(virt.libvirtError):
            self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Guest:
    """A running domain.

    Attributes
    ----------
    id : GuestId
        Its UUID.
    name : str
    pid : int
        The QEMU process; found once, by the UUID on its command line.
    monitor : Monitor
        QMP through libvirt.
    """

    def __init__(self, hypervisor: Hypervisor, domain: libvirt.virDomain) -> None:
        self.hypervisor = hypervisor
        self.domain = domain
        self.id = GuestId(domain.UUIDString())
        self.name = str(domain.name())
        self.monitor = Monitor(domain, self.name)
        self._pid: int | None = None

    @property
    def uri(self) -> str:
        """The URI this guest was found on."""
        return self.hypervisor.uri

    @property
    def pid(self) -> int:
        """The QEMU process.

        Raises
        ------
        GuestGoneError
            If no QEMU process carries this UUID.
        """
        if self._pid is None:
            self._pid = find_qemu(self.id, self.name)
        return self._pid

    def xml(self, *, migratable: bool = False) -> str:
        """Return the live domain XML; `migratable` is the form that can be started elsewhere, secrets included."""
        flags = virt.VIR_DOMAIN_XML_MIGRATABLE | virt.VIR_DOMAIN_XML_SECURE if migratable else 0
        with translate(f"reading the XML of {self.name}"):
            return str(self.domain.XMLDesc(flags))

    def machine(self) -> str:
        """Return the versioned machine type (`pc-q35-7.2`)."""
        element = ET.fromstring(self.xml()).find("./os/type")
        if element is None or "machine" not in element.attrib:
            raise GuestError(f"the XML of {self.name} names no machine type")
        return element.attrib["machine"]

    def is_running(self) -> bool:
        """Tell whether the guest's CPUs run (QEMU's own word, not libvirt's)."""
        return bool(self.monitor.execute("query-status")["running"])

    def let_run(self) -> None:
        """Let the guest go on, unless it has been migrated away: its images are its new host's then.

        Raises
        ------
        GuestGoneError
            If it was migrated away, or has ended.
        GuestError
            If QEMU does not let it go on.
        """
        if self.has_left():
            raise GuestGoneError(
                f"{self.name} was migrated away in a pause",
                cure="It may stand paused where it is now: `virsh resume` there, and record it there.",
            )
        self.monitor.execute("cont")

    def has_left(self) -> bool:
        """Tell whether its migration from here is over: after a `cont` it would run here too.

        QEMU takes the images back for a `cont` after a migration (7.2, monitor/qmp-cmds.c, qmp_cont). That libvirt has
        no job for the guest is asked first, a tenth of a millisecond; a question of QEMU waits for a migration.
        """
        try:
            if self.domain.jobInfo()[0] == virt.VIR_DOMAIN_JOB_NONE:
                return False
        except virt.libvirtError:  # whoever speaks to it next hears why
            return False
        return self.monitor.execute("query-status")["status"] in ("finish-migrate", "postmigrate")

    def has_resumed(self) -> bool:
        """Tell whether libvirt saw a paused guest go on up to the monitor's last answer; a fifth of a query's time.

        QEMU sends RESUME before any later answer on the same channel, and libvirt takes both in order.
        """
        with translate(f"asking for the state of {self.name}"):
            return bool(self.domain.state()[0] == virt.VIR_DOMAIN_RUNNING)

    def __repr__(self) -> str:
        return f"<Guest {self.name!r} {self.id[:8]} on {self.uri}>"
