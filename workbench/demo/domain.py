"""Describe a demo guest to libvirt: the shapes a guest can have, and the domain XML of one.

Refuses to start anything and to look at the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

from workbench.demo.image import DemoImage

__all__ = ["AGENT_PORT", "SUPERVISOR_PORT", "DemoSpec", "console_log", "domain_xml", "extra_disk", "supervisor_socket"]

AGENT_PORT = "org.qemu.guest_agent.0"
SUPERVISOR_PORT = "org.rewind.supervisor"
MARK_PORT = "org.rewind.mark.0"
_KERNEL_LINE = "console=ttyS0 panic=-1 quiet loglevel=4"


@dataclass(frozen=True, slots=True)
class DemoSpec:
    """The shape of a demo guest.

    Attributes
    ----------
    name : str
        The domain's name; must be free on the connection.
    memory_mib : int
        RAM in MiB.
    vcpus : int
        Virtual processors.
    machine : {"pc", "q35"}
        The machine type; libvirt picks its newest version.
    disk_bus : {"virtio", "scsi"}
        virtio-blk, or disks behind one virtio-scsi controller.
    extra_disks : int
        Further disks of 64 MiB with an ext4 each, mounted at `/mnt/data1` and so on; at most 4.
    extra_disk_format : {"qcow2", "raw"}
        Their format; the root disk is always qcow2.
    vga : bool
        Whether there is a VGA adapter.
    network : bool
        Whether there is a virtio network card on user-mode networking (no privileges; DHCP gives 10.0.2.15).
    iothread : bool
        Whether the disks work in an I/O thread of their own.
    balloon : bool
        Whether there is a virtio balloon.
    rng : bool
        Whether there is a virtio random number generator.
    agent : bool
        Whether there is the channel on which QEMU's guest agent answers; it is in the image and starts by itself.
    panic : bool
        Whether there is the device by which the kernel tells the host of its panic.
    on_crash : str
        What libvirt does then.
    watchdog : str
        What a watchdog (i6300esb, for which the guest has no driver) does when it fires; "" for none.
    accel : {"auto", "tcg", "kvm"}
        "auto" takes KVM where a trial boot shows that it works.
    cpu : str
        A libvirt CPU model name; "max" for all the accelerator can do; "default" for qemu64 under TCG and the host's
        own under KVM.
    cache, io : str
        libvirt's driver attributes for every disk; "" for `io` leaves it to libvirt.
    """

    name: str
    memory_mib: int = 512
    vcpus: int = 1
    machine: Literal["pc", "q35"] = "pc"
    disk_bus: Literal["virtio", "scsi"] = "virtio"
    extra_disks: int = 0
    extra_disk_format: Literal["qcow2", "raw"] = "qcow2"
    vga: bool = False
    network: bool = False
    iothread: bool = False
    balloon: bool = True
    rng: bool = True
    agent: bool = False
    panic: bool = False
    on_crash: Literal["destroy", "restart", "preserve"] = "destroy"
    watchdog: Literal["", "reset", "poweroff", "shutdown", "none", "inject-nmi", "pause"] = ""
    accel: Literal["auto", "tcg", "kvm"] = "auto"
    cpu: str = "default"
    cache: str = "writeback"
    io: str = ""


def supervisor_socket(directory: Path) -> Path:
    """Give the unix socket of the supervisor's port.

    Parameters
    ----------
    directory : Path
        The guest's directory.

    Returns
    -------
    Path
        A path inside it.
    """
    return directory / "supervisor.sock"


def mark_socket(directory: Path) -> Path:
    """Give the unix socket of the port that the guest asks for captures on.

    Parameters
    ----------
    directory : Path
        The guest's directory.

    Returns
    -------
    Path
        A path inside it.
    """
    return directory / "mark.sock"


def console_log(directory: Path) -> Path:
    """Give the file that collects the serial console's output.

    Parameters
    ----------
    directory : Path
        The guest's directory.

    Returns
    -------
    Path
        A path inside it.
    """
    return directory / "console.log"


def extra_disk(directory: Path, number: int, spec: DemoSpec) -> Path:
    """Give the file of a further disk.

    Parameters
    ----------
    directory : Path
        The guest's directory.
    number : int
        1 for the first further disk.
    spec : DemoSpec
        Says the format.

    Returns
    -------
    Path
        A path inside `directory`.
    """
    return directory / f"data{number}.{spec.extra_disk_format}"


def domain_xml(spec: DemoSpec, image: DemoImage, directory: Path, accel: Literal["tcg", "kvm"] = "tcg") -> str:
    """Write the domain XML of a demo guest.

    Parameters
    ----------
    spec : DemoSpec
        Its shape.
    image : DemoImage
        Kernel, initial RAM disk and the guest's own root disk, which it writes to: give a copy.
    directory : Path
        Where its sockets, console log and further disks are.
    accel : {"tcg", "kvm"}
        What "auto" came to.

    Returns
    -------
    str
        XML for `virDomainCreateXML`.
    """
    return f"""<domain type='{"kvm" if accel == "kvm" else "qemu"}'>
  <name>{spec.name}</name>
  <memory unit='MiB'>{spec.memory_mib}</memory>
  <vcpu>{spec.vcpus}</vcpu>
{"  <iothreads>1</iothreads>" if spec.iothread else ""}
  <os>
    <type arch='x86_64' machine='{spec.machine}'>hvm</type>
    <kernel>{image.kernel}</kernel>
    <initrd>{image.initrd}</initrd>
    <cmdline>{_KERNEL_LINE}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  {_cpu(spec, accel)}
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>{spec.on_crash}</on_crash>
  <devices>
{_disks(spec, image, directory)}
    <serial type='pty'><log file={quoteattr(str(console_log(directory)))} append='off'/><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <channel type='unix'>
      <source mode='bind' path={quoteattr(str(supervisor_socket(directory)))}/>
      <target type='virtio' name='{SUPERVISOR_PORT}'/>
    </channel>
    <channel type='unix'>
      <source mode='bind' path={quoteattr(str(mark_socket(directory)))}/>
      <target type='virtio' name='{MARK_PORT}'/>
    </channel>
{_optional_devices(spec)}
  </devices>
</domain>
"""


def _cpu(spec: DemoSpec, accel: str) -> str:
    if spec.cpu == "default" and accel == "kvm":
        return "<cpu mode='host-passthrough'/>"
    if spec.cpu == "max":
        return "<cpu mode='maximum'/>"
    model = "qemu64" if spec.cpu == "default" else spec.cpu
    return f"<cpu mode='custom' match='exact' check='none'><model fallback='allow'>{model}</model></cpu>"


def _disks(spec: DemoSpec, image: DemoImage, directory: Path) -> str:
    files = [(image.disk, "qcow2")]
    files += [(extra_disk(directory, n, spec), spec.extra_disk_format) for n in range(1, spec.extra_disks + 1)]
    lines = [_disk(spec, number, path, kind) for number, (path, kind) in enumerate(files)]
    if spec.disk_bus == "scsi":
        thread = "<driver iothread='1'/>" if spec.iothread else ""
        lines.append(f"    <controller type='scsi' index='0' model='virtio-scsi'>{thread}</controller>")
    return "\n".join(lines)


def _disk(spec: DemoSpec, number: int, path: Path, kind: str) -> str:
    thread = " iothread='1'" if spec.iothread and spec.disk_bus == "virtio" else ""
    io = f" io='{spec.io}'" if spec.io else ""
    target = f"{'sd' if spec.disk_bus == 'scsi' else 'vd'}{'abcde'[number]}"
    return f"""    <disk type='file' device='disk'>
      <driver name='qemu' type='{kind}' cache='{spec.cache}' discard='unmap'{io}{thread}/>
      <source file={quoteattr(str(path))}/>
      <target dev='{target}' bus='{spec.disk_bus}'/>
      <serial>{"root" if number == 0 else f"data{number}"}</serial>
    </disk>"""


def _optional_devices(spec: DemoSpec) -> str:
    lines = [f"    <memballoon model='{'virtio' if spec.balloon else 'none'}'/>"]
    lines.append(f"    <video><model type='{'vga' if spec.vga else 'none'}'/></video>")
    if spec.network:
        lines.append("    <interface type='user'><model type='virtio'/></interface>")
    if spec.agent:
        lines.append(f"    <channel type='unix'><target type='virtio' name='{AGENT_PORT}'/></channel>")
    if spec.panic:
        lines.append("    <panic model='isa'/>")
    if spec.watchdog:
        lines.append(f"    <watchdog model='i6300esb' action='{spec.watchdog}'/>")
    if spec.rng:
        lines.append("    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
    return "\n".join(lines)
