"""The machine that an exact recording runs on, as QEMU arguments: the same for recording and for every replay.

One vCPU under TCG counts its instructions (`-icount`), disks lie behind `blkreplay`, the console is a serial port whose
input is part of the log; channels and random numbers have back ends of our own, with nothing of the host behind them.
Sources: QEMU docs/system/replay.rst, docs/devel/replay.rst. Refuses what QEMU 7.2 cannot replay (`refusing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import UnsupportedError, UsageError
from workbench.replay.exact.refusing import properties, refuse_arguments, refuse_disk, refuse_model

__all__ = ["A_DISK", "DISK", "LOG", "STATE", "Machine", "Mode", "comma_twice", "qemu_arguments"]

Mode = Literal["record", "replay", "seed"]
"""`seed`: instructions are counted, and nothing is recorded or replayed, while a state from elsewhere is loaded."""

LOG, STATE, DISK = "log", "state.qcow2", "disk.qcow2"
"""Names in the directory of a run: QEMU's event log, VM states, and what was written over the base disk."""
A_DISK = "virtio-blk-pci,serial=root"


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
        QEMU's machine type and CPU model, each with its features.
    shift : int
        One instruction takes 2**shift ns of the guest's time. 5 (about 31 million a second) is near to what TCG does;
        a smaller one makes a guest that waits by counting wait longer.
    vcpus : int
        Only 1 can be recorded.
    arguments : tuple of str
        Further QEMU arguments; those that could not be replayed are refused.
    disk : str
        The device that the disk is, with its properties.
    """

    name: str = "exact"
    memory_mib: int = 128
    kernel_line: str = "console=ttyS0 panic=-1 quiet loglevel=4"
    machine: str = "pc"
    cpu: str = "qemu64"
    shift: int = 5
    vcpus: int = 1
    arguments: tuple[str, ...] = ()
    disk: str = A_DISK

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
        refuse_model(self.machine, self.cpu)
        refuse_disk(self.disk)
        refuse_arguments(self.arguments)


def qemu_arguments(
    machine: Machine, source: Path, run: Path, uuid: str, mode: Mode, *, disk: bool, snapshot: str, load: str = ""
) -> list[str]:
    """Return the arguments of QEMU, console and monitor apart.

    Parameters
    ----------
    source : Path
        The directory with `kernel` and `initrd`, where the recording has them: one that begins with a state has none.
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
    log = f",rr={mode},rrfile={comma_twice(run / LOG)},rrsnapshot={snapshot}" if mode != "seed" else ""
    words += ["-icount", f"shift={machine.shift}{log}"]
    # QEMU 7.2 never comes back from loading kvmvapic: it waits for the vCPU, and that for the loader's replay lock.
    words += ["-global", "apic-common.vapic=off"]
    if (source / "kernel").exists():
        words += ["-kernel", str(source / "kernel"), "-append", machine.kernel_line]
    if (source / "initrd").exists():
        words += ["-initrd", str(source / "initrd")]
    # The first block back end holds the VM states. It must not be the recorded disk: flushing that at a snapshot waits
    # for an event of the log that never comes.
    words += ["-drive", f"if=none,id=state,format=qcow2,file={comma_twice(run / STATE)}"]
    if disk:
        words += ["-blockdev", f"driver=qcow2,node-name=image,file.driver=file,file.filename={comma_twice(run / DISK)}"]
        words += ["-blockdev", "driver=blkreplay,node-name=recorded,image=image"]
    words += [*_back_ends(machine.arguments), *machine.arguments]
    if disk:  # last: it may be on a bus that one of them is
        words += ["-device", f"{machine.disk},id=root,drive=recorded"]
    if load:
        words += ["-loadvm", load]
    return words


def _back_ends(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of the back ends that devices name; only such of ours passed `refuse_arguments`."""
    words: list[str] = []
    for device in arguments[1::2]:
        for name, value in properties(device):
            if name == "chardev":
                words += ["-chardev", f"null,id={value}"]
            elif name == "rng":
                words += ["-object", f"rng-builtin,id={value}"]
    return words


def comma_twice(path: Path) -> str:
    """Return a path as QEMU's option parser wants it: a comma is written twice."""
    return str(path).replace(",", ",,")
