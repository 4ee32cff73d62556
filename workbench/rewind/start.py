"""Start a QEMU that *is* a captured moment: started paused, memory written in, devices loaded, then let go.

A fresh QEMU of the same machine makes its ROMs, tables and options itself, so it survives its own reboot; memory is
written straight into it, zero pages not at all. Preconditions: the disks of the XML hold the moment's content. On
success the domain is there, still paused. On failure it is destroyed and nothing of it is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import libvirt
import numpy as np
from numpy.typing import NDArray

from workbench.capture.session import DEVICES
from workbench.errors import GuestError, UnsupportedError, WorkbenchError
from workbench.guest.connection import Guest, Hypervisor, translate
from workbench.guest.devices import load_device_state
from workbench.guest.leftovers import drop_descriptors
from workbench.guest.memory import MemoryMap, read_memory_map
from workbench.guest.reader import open_reader
from workbench.model import RegionKind
from workbench.progress import Progress, ProgressEvent, silent
from workbench.rewind.apply import write_pages
from workbench.rewind.content import Blocks
from workbench.store import CaptureView

__all__ = ["resume", "start_moment"]

_BATCH = 8192


def start_moment(hypervisor: Hypervisor, xml: str, view: CaptureView, *, progress: Progress = silent) -> Guest:
    """Create the domain of `xml`, paused at the moment of `view`.

    Raises
    ------
    GuestError
        If libvirt or QEMU refuses it.
    UnsupportedError
        If its memory is not of the captured shape.
    """
    with translate("starting a domain at a moment of the past"):
        domain = hypervisor.connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
    guest = Guest(hypervisor, domain)
    try:
        _fill_memory(guest, view, progress)
        load_device_state(guest.monitor, view.region(DEVICES).open().read())
    except BaseException:
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
        raise
    return guest


def _fill_memory(guest: Guest, view: CaptureView, progress: Progress) -> None:
    memory = read_memory_map(guest)
    _same_memory(memory, view)
    blocks = {block.name: block for block in memory.blocks}
    names = [each.spec.name for each in view.record.regions if each.spec.kind is RegionKind.MEMORY]
    with contextlib.closing(open_reader(guest, memory)) as reader:
        for name in names:
            if name not in blocks:
                continue
            region = view.region(name)
            wanted = region.nonzero()
            for part in _batches(wanted):
                write_pages(reader, blocks[name], Blocks(part, region.read_blocks(part)))
                progress(ProgressEvent(f"memory of {guest.name}", int(part[-1]), region.spec.blocks, "pages"))


def _batches(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), _BATCH):
        yield indices[start : start + _BATCH]


def _same_memory(memory: MemoryMap, view: CaptureView) -> None:
    """Every captured block that QEMU can show must have its size; ROM blocks that are not mapped yet are QEMU's own."""
    found = {block.name: block.size for block in memory.blocks}
    for region in view.record.regions:
        size = found.get(region.spec.name)
        if region.spec.kind is RegionKind.MEMORY and size is not None and size != region.spec.length:
            raise UnsupportedError(
                "memory of another shape", block=region.spec.name, expected=region.spec.length, found=size
            )


def resume(guest: Guest) -> None:
    """Let a started moment run."""
    try:
        guest.monitor.execute("cont")
        drop_descriptors(guest.monitor)
    except WorkbenchError as error:
        raise GuestError(f"{guest.name} was started and does not run: {error.message}") from error
