"""Boot a demo guest under libvirt, talk to it, and leave nothing behind.

The domain is transient and its files live in one directory: closing ends both. Refuses to take over a domain that
already has the name.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from workbench.demo.accel import probe_kvm
from workbench.demo.commands import run_tool
from workbench.demo.daemon import connect
from workbench.demo.domain import DemoSpec, console_log, domain_xml, extra_disk, supervisor_socket
from workbench.demo.image import DemoImage, build_demo_image
from workbench.demo.supervisor import Health, RunResult, Supervisor
from workbench.errors import GuestError, OutcomeUnknownError, UsageError
from workbench.guest import virt

if TYPE_CHECKING:
    import libvirt

__all__ = ["DemoGuest"]

_EXTRA_BYTES = 64 << 20


class DemoGuest:
    """A running demo guest; make one with `DemoGuest.boot`.

    Attributes
    ----------
    spec : DemoSpec
        Its shape.
    uri : str
        The libvirt address it runs on.
    connection : libvirt.virConnect
        This object's own connection.
    domain : libvirt.virDomain
        The running domain.
    directory : Path
        Its disks, sockets and console log.
    supervisor : Supervisor
        The channel to the program inside that carries out requests.
    """

    def __init__(
        self, spec: DemoSpec, uri: str, connection: libvirt.virConnect, domain: libvirt.virDomain, directory: Path
    ) -> None:
        self.spec, self.uri, self.connection, self.domain, self.directory = spec, uri, connection, domain, directory
        self.supervisor = Supervisor(supervisor_socket(directory))
        self._closed = False

    @classmethod
    def boot(
        cls,
        spec: DemoSpec,
        uri: str = "qemu:///session",
        directory: Path | None = None,
        *,
        image: DemoImage | None = None,
        timeout: float = 120,
    ) -> Self:
        """Start a guest and wait until it answers.

        Parameters
        ----------
        spec : DemoSpec
            Its shape.
        uri : str
            Where to run it. For root a daemon is started when none runs.
        directory : Path, optional
            A directory for its files, made where missing and removed by `close`. QEMU must reach it, and QEMU may run
            as another user: parents need search permission for all. A temporary one when left out.
        image : DemoImage, optional
            What to boot; the cached demo image when left out.
        timeout : float
            Seconds to wait for the first answer.

        Returns
        -------
        DemoGuest
            Use it as a context manager, or `close` it.

        Raises
        ------
        UsageError
            The name is taken, or the spec cannot be.
        UnsupportedError
            Something is not installed.
        GuestError
            libvirt or the guest failed; nothing is left running.
        """
        if not 0 <= spec.extra_disks <= 4:
            raise UsageError("a demo guest has at most 4 further disks", asked=spec.extra_disks)
        image = image or build_demo_image()
        accel = _accel(spec)
        connection = connect(uri)
        place = _prepare(spec, directory)
        try:
            domain = _create(connection, spec, domain_xml(spec, _copy(image, place), place, accel))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            connection.close()
            raise
        guest = cls(spec, uri, connection, domain, place)
        try:
            guest.supervisor.wait_ready(timeout)
        except BaseException:
            guest.close()
            raise
        return guest

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close."""
        self.close()

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.spec.name

    @property
    def console(self) -> Path:
        """The file that collects the serial console's output."""
        return console_log(self.directory)

    def run(self, cmd: str, timeout: float = 120) -> RunResult:
        """Run a shell command as root in the guest; see `Supervisor.run`."""
        return self.supervisor.run(cmd, timeout)

    def ping(self) -> float:
        """Give the guest's clock in epoch seconds; see `Supervisor.ping`."""
        return self.supervisor.ping()

    def health(self) -> Health:
        """Let the guest examine itself; see `Supervisor.health`."""
        return self.supervisor.health()

    def uptime(self) -> float:
        """Give the seconds since the guest booted, by its own clock."""
        return float(self.run("cat /proc/uptime").stdout.split()[0])

    def load(self, kind: str, mib: int = 64) -> None:
        """Start "shell", "memory" or "disk" load, or turn all "off"; see `Supervisor.load`."""
        self.supervisor.load(kind, mib)

    def bench(self) -> float:
        """Do fixed work, give the host's seconds; see `Supervisor.bench`."""
        return self.supervisor.bench()

    def truth(self) -> list[dict[str, object]]:
        """Read the truth log; see `Supervisor.truth`."""
        return self.supervisor.truth()

    def reconnect(self, timeout: float = 60) -> float:
        """Open the channel anew and wait for an answer, after a rewind or a reboot; see `Supervisor.wait_ready`."""
        return self.supervisor.wait_ready(timeout)

    def reboot(self, timeout: float = 120) -> None:
        """Let the guest reboot itself, and wait until the new boot answers.

        Parameters
        ----------
        timeout : float
            Seconds to wait.

        Raises
        ------
        OutcomeUnknownError
            No new boot answered in time.
        """
        end = time.monotonic() + timeout
        before = self._boot_id()
        self.run("reboot")
        while time.monotonic() < end:
            with suppress(GuestError):
                self.reconnect(timeout=5)
                if (now := self._boot_id()) and now != before:
                    return
            time.sleep(0.2)
        raise OutcomeUnknownError(f"the guest did not come back within {timeout:g} s")

    def _boot_id(self) -> str:
        """Tell which boot it is; "" where the guest cannot, as one that is on its way down."""
        told = self.run("cat /proc/sys/kernel/random/boot_id", timeout=2)
        return told.stdout.strip() if told.rc == 0 else ""

    def close(self) -> None:
        """End the guest and remove its files; harmless when repeated or when the domain is gone."""
        if self._closed:
            return
        self._closed = True
        self.supervisor.close()
        try:
            self.domain.destroy()
        except virt.libvirtError as error:
            gone = {virt.VIR_ERR_NO_DOMAIN, virt.VIR_ERR_OPERATION_INVALID}
            if error.get_error_code() not in gone:
                raise GuestError(f"the demo guest {self.name} could not be ended: {error}") from error
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.connection.close()


def _accel(spec: DemoSpec) -> Literal["tcg", "kvm"]:
    if spec.accel != "auto":
        return spec.accel
    return "kvm" if probe_kvm()[0] else "tcg"


def _prepare(spec: DemoSpec, directory: Path | None) -> Path:
    """Make the guest's directory, searchable by QEMU's user, with the further disks in it."""
    place = directory or Path(tempfile.mkdtemp(prefix="rewind-demo-"))
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o711)
    for number in range(1, spec.extra_disks + 1):
        raw, final = place / f"data{number}.new", extra_disk(place, number, spec)
        run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", f"data{number}", raw, f"{_EXTRA_BYTES >> 10}k")
        run_tool("qemu-img", "convert", "-q", "-f", "raw", "-O", spec.extra_disk_format, raw, final)
        raw.unlink()
    return place


def _copy(image: DemoImage, place: Path) -> DemoImage:
    """Copy the image: libvirt changes the owner of what it starts from, and the disk is written to."""
    copies = [place / path.name for path in (image.kernel, image.initrd, image.disk)]
    for source, target in zip((image.kernel, image.initrd, image.disk), copies, strict=True):
        shutil.copyfile(source, target)
    return DemoImage(*copies)


def _create(connection: libvirt.virConnect, spec: DemoSpec, xml: str) -> libvirt.virDomain:
    if any(domain.name() == spec.name for domain in connection.listAllDomains()):
        raise UsageError("a domain of that name exists", name=spec.name, cure="Choose another name.")
    try:
        return connection.createXML(xml)
    except virt.libvirtError as error:
        raise GuestError(f"libvirt could not start the demo guest: {error}") from error
