"""The machine that an exact recording runs on, as QEMU arguments: the same for recording and for every replay.

One vCPU under TCG counts its instructions (`-icount`), disks lie behind `blkreplay`, the console is a serial port whose
input is part of the log. Sources: QEMU docs/system/replay.rst, docs/devel/replay.rst. Refuses what QEMU 7.2 cannot
replay, by name, before anything is started: a recording that cannot be replayed is worth nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from workbench.errors import UnsupportedError, UsageError

__all__ = ["DISK", "LOG", "STATE", "Machine", "Mode", "comma_twice", "qemu_arguments", "refuse_arguments"]

Mode = Literal["record", "replay"]

LOG, STATE, DISK = "log", "state.qcow2", "disk.qcow2"
"""Names in the directory of a run: QEMU's event log, VM states, and what was written over the base disk."""

_TAKES_VALUE_CLOCKS = "every answer of the outside world would have to be in the log"
_REFUSED_OPTIONS = {
    "-accel": "record and replay count instructions, which only TCG can",
    "-enable-kvm": "record and replay count instructions, which only TCG can",
    "-netdev": f"a network without filter-replay is not in the log: {_TAKES_VALUE_CLOCKS}",
    "-nic": f"a network without filter-replay is not in the log: {_TAKES_VALUE_CLOCKS}",
    "-net": f"a network without filter-replay is not in the log: {_TAKES_VALUE_CLOCKS}",
    "-incoming": "a state from elsewhere has no instruction count (see the design, 19)",
    "-icount": "the workbench sets it",
    "-drive": "a disk that is not behind blkreplay is not in the log",
    "-blockdev": "a disk that is not behind blkreplay is not in the log",
    "-cdrom": "a disk that is not behind blkreplay is not in the log",
    "-hda": "a disk that is not behind blkreplay is not in the log",
    "-chardev": "a channel that is not the recorded console is not in the log",
    "-serial": "the recorded console is the one serial port",
    "-monitor": "a second monitor could change what is replayed",
    "-qmp": "a second monitor could change what is replayed",
    "-smp": "QEMU records and replays one vCPU",
    "-object": "objects with threads or files of the host of their own are not in the log",
}
_REFUSED_DEVICES = {
    "virtio-rng": "it draws random numbers of the host",
    "virtio-net": "a network card without filter-replay is not in the log",
    "e1000": "a network card without filter-replay is not in the log",
    "rtl8139": "its replays crashed QEMU 7.2",
    "ide-": "replays with IDE disks crashed QEMU 7.2",
    "vhost-": "its back end is another process, which is not in the log",
    "vfio-": "real hardware cannot be replayed",
    "virtio-serial": "its ports take input that is not in the log",
    "virtserialport": "its ports take input that is not in the log",
    "virtio-balloon": "what the host takes back is not in the log",
}
_OPTIONS = ("-device", "-global", "-rtc", "-boot", "-vga")
_DEVICES = (
    "VGA", "pvpanic", "i6300esb", "isa-debug-exit", "pci-bridge", "pcie-root-port", "qemu-xhci", "usb-kbd",
)  # fmt: skip
_OUTSIDE = {"file", "romfile", "drive", "chardev", "netdev", "memdev", "rootdir", "splash", "driver"}
"""Properties that name something outside of the machine, or another device than the one that was looked at."""
_VALUE = re.compile(r"[A-Za-z0-9_.,=:+-]{1,200}")


@dataclass(frozen=True, slots=True)
class Machine:
    """What is recorded.

    Attributes
    ----------
    name : str
        What it is called in the case.
    memory_mib : int
        RAM in MiB.
    kernel_line : str
        Kernel command line; the console is `ttyS0`.
    machine, cpu : str
        QEMU's machine type and CPU model.
    shift : int
        One instruction takes 2**shift ns of the guest's time. 5 (about 31 million a second) is near to what TCG does;
        a smaller one makes a guest that waits by counting wait longer.
    vcpus : int
        Only 1 can be recorded.
    arguments : tuple of str
        Further QEMU arguments; those that could not be replayed are refused.
    """

    name: str = "exact"
    memory_mib: int = 128
    kernel_line: str = "console=ttyS0 panic=-1 quiet loglevel=4"
    machine: str = "pc"
    cpu: str = "qemu64"
    shift: int = 5
    vcpus: int = 1
    arguments: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse a machine that cannot be recorded and replayed.

        Raises
        ------
        UnsupportedError
            Naming the option or device that is in the way.
        UsageError
            If a number is out of range.
        """
        if self.vcpus != 1:
            raise UnsupportedError(
                "-smp is in the way: QEMU records and replays one vCPU",
                found=self.vcpus,
                cure="Record it with one vCPU.",
            )
        if not 16 <= self.memory_mib <= 65536 or not 0 <= self.shift <= 10:
            raise UsageError(
                "memory or shift out of range", memory_mib=self.memory_mib, shift=self.shift,
                cure="Give 16 to 65536 MiB and a shift of 0 to 10.",
            )  # fmt: skip
        for word in (self.machine, self.cpu):
            if not word or not all(each.isalnum() or each in "-_.+" for each in word):
                raise UsageError("not a machine type or CPU model", found=word, cure="Give QEMU's name of it.")
        refuse_arguments(self.arguments)


def refuse_arguments(arguments: Sequence[str]) -> None:
    """Refuse QEMU arguments that QEMU could not replay, and those that are not known to be harmless.

    A recording may come from a stranger, and its arguments go to a QEMU of this host: only a few options and devices
    pass, and none that names a file.

    Raises
    ------
    UnsupportedError
        Naming the option or device and why.
    """
    words = [each.replace("--", "-", 1) if each.startswith("--") else each for each in arguments]
    for option, value in zip_longest(words[::2], words[1::2], fillvalue=""):
        if why := _REFUSED_OPTIONS.get(option):
            raise UnsupportedError(f"{option} is in the way: {why}", cure="Record without it.")
        if option not in _OPTIONS or not _VALUE.fullmatch(value):
            raise UnsupportedError(
                f"{option} {value} is in the way: it is not known to be replayed, or names a file",
                cure=f"Record without it; there are {', '.join(_OPTIONS)}.",
            )
        if option == "-device":
            _refuse_device(value)
        _refuse_properties(option, value)


def _refuse_device(words: str) -> None:
    device = words.partition(",")[0].removeprefix("driver=")
    for name, why in _REFUSED_DEVICES.items():
        if device.startswith(name):
            raise UnsupportedError(f"the device {device} is in the way: {why}", cure="Record without it.")
    if device not in _DEVICES:
        raise UnsupportedError(
            f"the device {device} is in the way: it is not known to be replayed",
            cure=f"Record without it; there are {', '.join(_DEVICES)}.",
        )


def _refuse_properties(option: str, words: str) -> None:
    for each in words.split(","):
        name = each.partition("=")[0].rpartition(".")[2]
        if name in _OUTSIDE:
            raise UnsupportedError(
                f"{option} {words} is in the way: {name} reaches out of it", cure="Record without it."
            )


def qemu_arguments(
    machine: Machine, source: Path, run: Path, uuid: str, mode: Mode, *, disk: bool, snapshot: str, load: str = ""
) -> list[str]:
    """Return the arguments of QEMU, console and monitor apart.

    Parameters
    ----------
    source : Path
        The directory with `kernel` and, where the recording has it, `initrd`.
    run : Path
        The directory with `log`, `state.qcow2` and, with `disk`, `disk.qcow2`.
    snapshot : str
        The VM state that is made (record) or that the replay begins at.
    load : str
        The VM state that a recording goes on from.
    """
    words = ["-uuid", uuid, "-machine", machine.machine, "-accel", "tcg", "-smp", "1", "-cpu", machine.cpu]
    words += [
        "-m",
        str(machine.memory_mib),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-no-shutdown",
    ]
    words += ["-icount", f"shift={machine.shift},rr={mode},rrfile={comma_twice(run / LOG)},rrsnapshot={snapshot}"]
    # QEMU 7.2 never comes back from loading kvmvapic: it waits for the vCPU, and that for the loader's replay lock.
    words += ["-global", "apic-common.vapic=off"]
    words += ["-kernel", str(source / "kernel"), "-append", machine.kernel_line]
    if (source / "initrd").exists():
        words += ["-initrd", str(source / "initrd")]
    # The first block back end holds the VM states. It must not be the recorded disk: flushing that at a snapshot waits
    # for an event of the log that never comes.
    words += ["-drive", f"if=none,id=state,format=qcow2,file={comma_twice(run / STATE)}"]
    if disk:
        words += ["-blockdev", f"driver=qcow2,node-name=image,file.driver=file,file.filename={comma_twice(run / DISK)}"]
        words += ["-blockdev", "driver=blkreplay,node-name=recorded,image=image"]
        words += ["-device", "virtio-blk-pci,id=root,drive=recorded,serial=root"]
    if load:
        words += ["-loadvm", load]
    return [*words, *machine.arguments]


def comma_twice(path: Path) -> str:
    """Return a path as QEMU's option parser wants it: a comma is written twice."""
    return str(path).replace(",", ",,")
