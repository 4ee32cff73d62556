"""Start a QEMU that *is* a captured moment: started paused, memory written in, devices loaded, then let go.

A fresh QEMU of the same machine makes its ROMs, tables and options itself, so it survives its own reboot; memory is
written straight into it, zero pages not at all, decoded from the store while libvirt starts it; or its main memory is
mapped from a file, which is filled meanwhile or full already. Memory that is visible only once the devices are loaded
(video memory behind a BAR) is written after them. Preconditions: the disks of the XML hold the moment's content, and it
names the file, if there is one. On success the domain is there, still paused. On failure it is destroyed and nothing of
it is left.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.capture.session import DEVICES
from workbench.errors import GuestError, UnsupportedError, WorkbenchError
from workbench.guest import virt
from workbench.guest.connection import Guest, Hypervisor, translate
from workbench.guest.devices import load_device_state
from workbench.guest.leftovers import drop_descriptors
from workbench.guest.memory import MemoryMap, read_memory_map
from workbench.guest.reader import open_reader
from workbench.model import PAGE, RegionKind
from workbench.progress import Progress, ProgressEvent, silent
from workbench.rewind.apply import write_hidden, write_pages
from workbench.rewind.content import Blocks
from workbench.rewind.mapped import MappedMemory, mend_private
from workbench.rewind.mapped_kernel import kernel_shared
from workbench.store import CaptureView

__all__ = ["resume", "start_moment", "write_memory"]

_BATCH = 4096
"""Pages decoded at a time: 16 MiB."""
_AHEAD = 16
"""Batches decoded ahead of their writing: 256 MiB at most."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some pages of one block."""

    block: str
    pages: Blocks


class _Decoder:
    """Reads the non-zero pages of a moment in a thread of its own, a bounded way ahead; those of a file go there."""

    def __init__(self, view: CaptureView, mapped: MappedMemory | None) -> None:
        self._view = view
        self._mapped = mapped
        self._queue: queue.Queue[_Batch | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decode memory", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for region in self._view.record.regions:
                if region.spec.kind is RegionKind.MEMORY:
                    self._decode(region.spec.name)
            self._put(None)
        except BaseException as error:  # noqa: BLE001  (raised by whoever takes the batches)
            self._put(error)

    def _decode(self, name: str) -> None:
        region = self._view.region(name)
        file = self._mapped if self._mapped is not None and self._mapped.block == name else None
        if file is not None and file.sealed:
            return
        for indices in _batches(region.nonzero()):
            if self._stop.is_set():
                return
            blocks = Blocks(indices, region.read_blocks(indices))
            if file is None:
                self._put(_Batch(name, blocks))
            else:
                file.write(blocks)

    def _put(self, item: _Batch | BaseException | None) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return

    def __iter__(self) -> Iterator[_Batch]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the thread, whether or not all was taken."""
        self._stop.set()
        self._thread.join()


def start_moment(
    hypervisor: Hypervisor,
    xml: str,
    view: CaptureView,
    *,
    mapped: MappedMemory | None = None,
    progress: Progress = silent,
) -> Guest:
    """Create the domain of `xml`, paused at the moment of `view`.

    Parameters
    ----------
    mapped : MappedMemory, optional
        The file from which `xml` has QEMU map its main memory; filled and sealed here if it is not yet.

    Raises
    ------
    GuestError
        If libvirt or QEMU refuses it.
    UnsupportedError
        If its memory is not of the captured shape.
    StoreError
        If the moment cannot be read.
    """
    devices = view.region(DEVICES).open().read()
    with contextlib.closing(_Decoder(view, mapped)) as decoder:
        with translate("starting a domain at a moment of the past"):
            domain = hypervisor.connection.createXML(xml, virt.VIR_DOMAIN_START_PAUSED)
        guest = Guest(hypervisor, domain)
        try:
            with kernel_shared(guest, mapped) if mapped is not None else contextlib.nullcontext():
                written = _fill_memory(guest, view, decoder, mapped, progress)
                load_device_state(guest.monitor, devices)
                write_hidden(guest, view, written)
        except BaseException:
            with contextlib.suppress(virt.libvirtError):
                domain.destroy()
            raise
    return guest


def write_memory(guest: Guest, view: CaptureView, progress: Progress = silent) -> set[str]:
    """Write the memory of a moment into a fresh QEMU that stands, and return the blocks that it shows.

    The others are written when the devices are loaded, by `write_hidden`.

    Raises
    ------
    UnsupportedError
        If its memory is not of the captured shape.
    GuestError, StoreError
    """
    with contextlib.closing(_Decoder(view, None)) as decoder:
        return _fill_memory(guest, view, decoder, None, progress)


def _fill_memory(
    guest: Guest, view: CaptureView, decoder: _Decoder, mapped: MappedMemory | None, progress: Progress
) -> set[str]:
    """Write the pages of every block that QEMU shows, and return those blocks."""
    memory = read_memory_map(guest)
    _same_memory(memory, view)
    blocks = {block.name: block for block in memory.blocks}
    done, total = 0, sum(block.size for block in memory.blocks)
    with contextlib.closing(open_reader(guest, memory)) as reader:
        for batch in decoder:
            if batch.block in blocks:
                write_pages(reader, blocks[batch.block], batch.pages)
                done += len(batch.pages.indices) * PAGE
                progress(ProgressEvent(f"memory of {guest.name}", done, total))
        if mapped is not None:
            mapped.seal()
            mend_private(guest.pid, reader, blocks[mapped.block], view)
    progress(ProgressEvent(f"memory of {guest.name}", total, total))
    return set(blocks)


def _batches(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), _BATCH):
        yield indices[start : start + _BATCH]


def _same_memory(memory: MemoryMap, view: CaptureView) -> None:
    """Every captured block must have its size; one that QEMU does not show yet is looked at when it does."""
    found = {block.name: block.size for block in memory.blocks}
    for region in view.record.regions:
        name, size = region.spec.name, found.get(region.spec.name)
        if region.spec.kind is not RegionKind.MEMORY or (size is None and name in memory.unlocated):
            continue
        if size != region.spec.length:
            raise UnsupportedError("memory of another shape", block=name, expected=region.spec.length, found=size)


def resume(guest: Guest) -> None:
    """Let a started moment run."""
    try:
        guest.monitor.execute("cont")
        drop_descriptors(guest.monitor)
    except WorkbenchError as error:
        raise GuestError(f"{guest.name} was started and does not run: {error.message}") from error
