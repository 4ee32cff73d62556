"""A captured moment as the state that a recording begins with.

A QEMU that counts instructions, and neither records nor replays, is given the moment's memory and devices, and its
state is saved as one that recordings go on from. Preconditions: the recording's directory is there; the moment can be
read. On success it holds the moment's disk and that state; the guest has run no instruction. On failure nothing of ours
runs, and the caller removes the directory. Refuses what cannot be recorded by name (`native`, `refusing`), before QEMU
is started; nobody's guest is touched.
"""

from __future__ import annotations

import os
from pathlib import Path

from workbench.capture.session import DEVICES, XML
from workbench.errors import GuestError, MonitorError, UnsupportedError
from workbench.guest.connection import Hypervisor, translate
from workbench.guest.qcow2 import SNAPSHOT_TAG, write_state_image
from workbench.model import RegionKind
from workbench.replay.exact import images
from workbench.replay.exact.counted import with_count
from workbench.replay.exact.machine import Machine, qemu_arguments
from workbench.replay.exact.native import machine_of
from workbench.replay.exact.qemu import ExactQemu
from workbench.replay.exact.refusing import properties
from workbench.replay.exact.states import run_job, save_state
from workbench.rewind.apply import write_hidden
from workbench.rewind.domain import clone_xml
from workbench.rewind.images import content_image
from workbench.rewind.start import write_memory
from workbench.store import CaptureView, CaseStore

__all__ = ["machine_of_moment", "seed"]

_NODE = "rwb-seed"
_NOBODY = "00000000-0000-4000-8000-000000000000"
_MAIN = "pc.ram"


def machine_of_moment(hypervisor: Hypervisor, store: CaseStore, view: CaptureView) -> Machine:
    """Return the machine that a moment's guest is, as it can be recorded.

    Raises
    ------
    UnsupportedError
        Naming the option or device that is in the way.
    GuestError, StoreError
    """
    names = [each.spec.name for each in view.record.regions]
    if _MAIN not in names:
        raise UnsupportedError("the moment is of no PC whose memory is in one piece", found=names)
    disks = [each.removeprefix("disk:") for each in names if each.startswith("disk:")]
    xml = clone_xml(
        view.region(XML).open().read().decode(),
        name="exact", uuid=_NOBODY, directory=Path("/nonexistent"), sockets=Path("/nonexistent"),
        disks={each: Path("/nonexistent") / each for each in disks},
        emulators=hypervisor.emulators(),
    )  # fmt: skip
    with translate("asking libvirt what the guest's QEMU was started with"):
        command = hypervisor.connection.domainXMLToNative("qemu-argv", xml)
    name = next((each.name for each in store.guests() if each.id == view.record.guest), "guest")
    return machine_of(command, name, view.record.region(_MAIN).spec.length >> 20)


def seed(store: CaseStore, view: CaptureView, machine: Machine, place: Path, uuid: str, tag: str) -> None:
    """Lay the moment's disk, and a state named `tag` of its memory and devices, into a recording's directory.

    Raises
    ------
    UnsupportedError
        If its memory is of another shape, or its state cannot be counted on from.
    GuestError
        If QEMU refuses the state; it says which device.
    StoreError
    """
    stream = with_count(view.region(DEVICES).open().read())
    disks = [each.spec.name for each in view.record.regions if each.spec.kind is RegionKind.DISK]
    if disks:
        images.keep_base(content_image(store.path / "cache", view, disks[0]), "raw", place)
    images.fresh_run(place, place, disk=bool(disks))
    words = qemu_arguments(machine, place, place, uuid, "seed", disk=bool(disks), snapshot="")
    with ExactQemu([*words, "-S"], place, uuid, machine.name) as qemu:
        written = write_memory(qemu.as_guest(), view)
        _load_devices(qemu, stream, place / "seed.qcow2")
        write_hidden(qemu.as_guest(), view, written)
        _unplug(qemu, machine)
        save_state(qemu, tag, ["image"] if disks else [])
        if not qemu.quit():
            raise GuestError("the QEMU that was given the moment does not end", cure="Try again.")
    for name in ("console", "stderr"):
        (place / name).unlink(missing_ok=True)


def _load_devices(qemu: ExactQemu, stream: bytes, path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_state_image(descriptor, stream)
    finally:
        os.close(descriptor)
    file = {"driver": "file", "filename": str(path)}
    qemu.monitor.execute("blockdev-add", driver="qcow2", node_name=_NODE, file=file)
    try:
        run_job(qemu, "snapshot-load", tag=SNAPSHOT_TAG, vmstate=_NODE, devices=[_NODE])
    except MonitorError as error:
        raise GuestError(
            f"QEMU refuses the moment's devices: {(qemu.said() or error.message).splitlines()[-1]}",
            cure="Boot the moment's disk (disk=).",
        ) from error
    qemu.monitor.execute("blockdev-del", node_name=_NODE)
    path.unlink()


def _unplug(qemu: ExactQemu, machine: Machine) -> None:
    """Take the cables out of network cards: there is nothing at their other end, as in a clone."""
    for device in machine.arguments[1::2]:
        if device.startswith("virtio-net-pci,"):
            qemu.monitor.execute("set_link", name=dict(properties(device))["id"], up=False)
