"""What this host offers, in plain words: found by trying wherever something can be tried.

Refuses to raise and to change anything: a question that fails becomes a finding. Says what follows from each finding
and what to do about it, and calls nothing good that was not seen to work.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import UnsupportedError, WorkbenchError
from workbench.guest import virt
from workbench.guest.connection import DEFAULT_URI, Guest, Hypervisor
from workbench.guest.memory import read_memory_map
from workbench.guest.probe import probe_userfaultfd
from workbench.guest.reader import open_reader
from workbench.guest.softdirty import kernel_has_soft_dirty
from workbench.guest.tracker import writers_past_page_tables

__all__ = ["Finding", "examine", "unreachable"]

Status = Literal["good", "limited", "missing"]

_CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h
_LOW_BYTES = 5 << 30
_NEEDED = (
    "xen-save-devices-state",
    "snapshot-load",
    "transaction",
    "blockdev-backup",
    "block-dirty-bitmap-add",
    "add-fd",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes
    ----------
    topic : str
        "kernel", "libvirt", "reading memory", "dirty pages" ...
    status : {"good", "limited", "missing"}
        "limited": it goes, but see `consequence`.
    what : str
        What was seen.
    consequence : str
        What follows for captures and rewinds; empty if nothing does.
    cure : str
        What to do about it; empty if nothing need be done.
    """

    topic: str
    status: Status
    what: str
    consequence: str = ""
    cure: str = ""


def examine(hypervisor: Hypervisor | None = None, place: Path | None = None) -> list[Finding]:
    """Return what this host, and the guests that run on it, offer. Never raises.

    Parameters
    ----------
    hypervisor : Hypervisor, optional
        An open connection; by default one to `qemu:///session` is tried.
    place : Path, optional
        Where cases are to be kept; by default the working directory.
    """
    findings: list[Finding] = []
    host: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("kernel", _kernel),
        ("reading memory", _reading_rights),
        ("dirty pages", _dirty_pages),
        ("KVM", _kvm),
        ("free space", lambda: _space(place or Path.cwd())),
    ]
    for topic, question in host:
        findings += _asked(topic, question)
    findings += _asked("libvirt", lambda: _libvirt(hypervisor))
    return findings


def _asked(topic: str, question: Callable[[], Iterator[Finding]]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(question())
    except Exception as error:  # noqa: BLE001  # the doctor's promise: what fails is a finding
        findings.append(Finding(topic, "missing", f"could not be examined: {error}", "Nothing is known about it"))
    return findings


def _kernel() -> Iterator[Finding]:
    yield Finding("kernel", "good", f"Linux {platform.release()} on {platform.machine()}")


def _reading_rights() -> Iterator[Finding]:
    topic = "reading memory"
    if _has_capability(_CAP_SYS_PTRACE):
        yield Finding(topic, "good", "this process may trace any other (CAP_SYS_PTRACE)")
        return
    scope = _setting("/proc/sys/kernel/yama/ptrace_scope", "0")
    if scope == "0":
        yield Finding(topic, "limited", "ptrace_scope is 0", "Guests of this user can be captured, others cannot")
    else:
        yield Finding(
            topic,
            "missing",
            f"ptrace_scope is {scope} and this process has no CAP_SYS_PTRACE",
            "No guest's memory can be read",
            "Run as root, or set kernel.yama.ptrace_scope=0",
        )


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _setting(path: str, absent: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return absent


def _dirty_pages() -> Iterator[Finding]:
    topic = "dirty pages"
    reason = probe_userfaultfd()
    soft_dirty = kernel_has_soft_dirty()
    if reason:
        instead = "soft-dirty bits are used" if soft_dirty else "All memory is compared inside each pause"
        yield Finding(topic, "limited", f"userfaultfd does not work: {reason}", instead, "Linux 6.7 and ptrace rights")
    else:
        allowed = _setting("/proc/sys/vm/unprivileged_userfaultfd", "absent")
        note = f"(vm.unprivileged_userfaultfd is {allowed}; it does not matter here)"
        yield Finding(
            topic, "good", f"userfaultfd and PAGEMAP_SCAN saw the pages a process wrote, and no others {note}"
        )
    if soft_dirty:
        yield Finding(topic, "good", "soft-dirty bits work: the second choice")
    else:
        after = "Only userfaultfd knows pages; else comparison" if not reason else ""
        yield Finding(
            topic, "limited", "the kernel reports no soft-dirty bits", after, "Not needed where userfaultfd works"
        )
    yield Finding(topic, "good", "comparison works everywhere: about 0.1 to 0.2 s of pause per GiB")


def _kvm() -> Iterator[Finding]:
    if not os.path.exists("/dev/kvm"):
        yield Finding("KVM", "missing", "there is no /dev/kvm", "Guests run by TCG, slowly")
    elif os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield Finding(
            "KVM", "limited", "/dev/kvm opens", "That is no proof that a guest boots with it", "Boot one to know"
        )
    else:
        yield Finding("KVM", "missing", "/dev/kvm may not be opened", "Guests run by TCG, slowly", "Join the group kvm")


def _space(place: Path) -> Iterator[Finding]:
    while not place.exists():  # a case that is yet to be made
        place = place.absolute().parent
    free = shutil.disk_usage(place).free
    status: Status = "good" if free > _LOW_BYTES else "limited"
    lack = "" if status == "good" else "A case grows by what the guest writes: days of it may not fit"
    yield Finding("free space", status, f"{free / 2**30:.1f} GiB free at {place}", lack)


def unreachable(uri: str, error: Exception) -> Finding:
    """Return the finding that there is no libvirt at an address, by the error that said so."""
    if isinstance(error, UnsupportedError):
        lack = "No guest can be recorded, cloned or rewound; cases can be read"
        return Finding("libvirt", "missing", error.message, lack, error.cure)
    cure = "Start libvirtd and virtlogd, or name another connection"
    return Finding("libvirt", "missing", f"{uri}: {error}", "No guest can be found", cure)


def _libvirt(hypervisor: Hypervisor | None) -> Iterator[Finding]:
    with contextlib.ExitStack() as stack:
        if hypervisor is None:
            try:
                hypervisor = stack.enter_context(Hypervisor())
            except WorkbenchError as error:
                yield unreachable(DEFAULT_URI, error)
                return
        versions = hypervisor.versions()
        yield Finding("libvirt", "good", f"libvirt {versions['libvirt']}, QEMU {versions['qemu']} on {hypervisor.uri}")
        if not hasattr(virt, "qemuMonitorCommandWithFiles"):
            what = "the libvirt binding cannot send descriptors to QEMU"
            yield Finding("libvirt", "missing", what, "No capture is possible", "Install libvirt-python 8.2 or newer")
        guests = hypervisor.guests()
        if not guests:
            yield Finding("guests", "limited", "no guest runs", "QEMU's own abilities were not asked")
        for guest in guests:
            yield from _asked(f"guest {guest.name}", lambda guest=guest: _guest(guest))  # type: ignore[misc]


def _guest(guest: Guest) -> Iterator[Finding]:
    topic = f"guest {guest.name}"
    version = guest.monitor.execute("query-version")["qemu"]
    number = f"{version['major']}.{version['minor']}.{version['micro']}"
    offered = {command["name"] for command in guest.monitor.execute("query-commands")}
    lacking = [name for name in _NEEDED if name not in offered]
    if lacking:
        yield Finding(
            topic, "missing", f"its QEMU {number} has no {', '.join(lacking)}", "It cannot be captured and rewound"
        )
    else:
        yield Finding(topic, "good", f"its QEMU {number} has every command that is needed")
    if (version["major"], version["minor"]) == (10, 0) and guest.monitor.execute("query-iothreads"):
        yield Finding(
            topic,
            "limited",
            f"QEMU {number} with an iothread",
            "This QEMU loses guest I/O at plain stop and cont under heavy disk load; every capture is one",
            "Remove the iothread from the domain, or use another QEMU",
        )
    yield from _guest_memory(guest, topic)


def _guest_memory(guest: Guest, topic: str) -> Iterator[Finding]:
    memory_map = read_memory_map(guest)
    reader = open_reader(guest, memory_map)
    reader.close()
    total = sum(block.size for block in memory_map.blocks) / 2**20
    yield Finding(topic, "good", f"{total:.0f} MiB in {len(memory_map.blocks)} blocks, readable by {reader.name}")
    if past := writers_past_page_tables(guest.pid, memory_map):
        yield Finding(topic, "limited", past, "Pages cannot be tracked: memory is compared inside each pause")
    if count := len(memory_map.unlocated):
        yield Finding(topic, "good", f"left out: {count} ROMs, which the guest cannot write and QEMU brings along")
