"""Write a moment into a paused guest: disks, memory, devices, and proof that it is there.

Preconditions: the guest is paused and has the target's shape; `content` covers every block that differs. On success
memory and disks equal the target, devices are at its state, and the guest is still paused. On failure the guest is
between two moments and must not run: the caller applies the safety capture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.capture.pause import Laps
from workbench.capture.session import DEVICES, CaptureSession
from workbench.capture.staging import changed_pages, page_runs, read_pages
from workbench.errors import RewindError
from workbench.guest.connection import Guest
from workbench.guest.devices import load_device_state
from workbench.guest.disks import Disk, write_clusters
from workbench.guest.memory import MemoryBlock, MemoryMap, read_memory_map
from workbench.guest.reader import MemoryReader, open_reader
from workbench.guest.stream import with_clock_of
from workbench.guest.tracker import Tracker
from workbench.model import PAGE, RegionKind
from workbench.rewind.content import Blocks, Content, disk_runs
from workbench.rewind.shape import captured_memory
from workbench.store import CaptureView, RegionView, Writer

__all__ = ["Attached", "apply", "devices_for", "mend_pages", "write_hidden", "write_pages"]

_BATCH = 4096
"""Pages compared or written at a time: 16 MiB."""


class Attached(Protocol):
    """What a moment is applied to: a capture session, or the little of one that a recovery has.

    Attributes
    ----------
    guest, disks, memory, reader, tracker
        Of the paused guest.
    writer : Writer
        Its heads are the memory that the guest had when it was paused.
    """

    guest: Guest
    disks: tuple[Disk, ...]
    memory: MemoryMap
    reader: MemoryReader
    tracker: Tracker
    writer: Writer

    def collect_dirty(self) -> dict[str, NDArray[np.int64]]:
        """Return the pages written since the last call; asked only where the tracker names pages."""


def apply(session: Attached, content: Content, devices: bytes, laps: Laps) -> None:
    """Bring the paused guest of `session` to the moment of `content`.

    Parameters
    ----------
    devices : bytes
        The moment's device stream, from `devices_for`.
    laps : Laps
        Told what each part took.

    Raises
    ------
    GuestError, RewindError
        The guest is between two moments.
    """
    for disk in session.disks:
        if disk.region in content.regions:
            write_clusters(session.guest, disk, disk_runs(content.regions[disk.region], content.view, disk.region))
    laps.mark("write disks")
    for block in session.memory.blocks:
        if block.name in content.regions:
            write_pages(session.reader, block, content.regions[block.name])
    if session.tracker.exact_pages:
        session.collect_dirty()  # what is reported after this was written by somebody else than us
    laps.mark("write memory")
    load_device_state(session.guest.monitor, devices)
    laps.mark("load devices")
    write_hidden(session.guest, content.view, {block.name for block in session.memory.blocks})
    _prove_memory(session, content)
    laps.mark("prove memory")


def devices_for(session: CaptureSession, view: CaptureView, now: CaptureView) -> bytes:
    """Return the device stream of `view`, with TCG's clock mended by that of `now` where the guest runs under TCG.

    Raises
    ------
    FormatError
        If the clock is not where it must be: such a guest can only be started anew.
    """
    devices = view.region(DEVICES).open().read()
    return with_clock_of(devices, now.region(DEVICES).open().read()) if session.accelerator == "tcg" else devices


def write_pages(reader: MemoryReader, block: MemoryBlock, pages: Blocks) -> None:
    """Write pages of a block into the guest; the last page of a block may be short."""
    runs = page_runs(block, pages.indices)
    length = int((runs[:, 1] - runs[:, 0]).sum())
    reader.write(runs, pages.content.reshape(-1)[:length])


def write_hidden(guest: Guest, view: CaptureView, written: set[str]) -> None:
    """Write the memory blocks that only the loaded device state made visible, whole: video memory behind a BAR.

    Preconditions: the device state of `view` is loaded, the guest paused, and every other block written.

    Raises
    ------
    GuestError, RewindError
        If a block that the guest could write then is still nowhere to be seen.
    """
    wanted = {r.spec.name for r in view.record.regions if r.spec.kind is RegionKind.MEMORY} - written
    if not wanted:
        return
    memory = read_memory_map(guest)
    missing = (wanted & _writable(view)) - {block.name for block in memory.blocks}
    if missing:
        raise RewindError("memory of the moment is not in the guest", guest_is="unknown", blocks=sorted(missing))
    with contextlib.closing(open_reader(guest, memory)) as reader:
        for block in memory.blocks:
            if block.name in wanted:
                _write_whole(reader, block, view.region(block.name))


def _writable(view: CaptureView) -> set[str]:
    """Return the blocks that the captured guest could write: ROM is QEMU's own and the same in every QEMU."""
    return {each.block for each in captured_memory(view).ranges if not each.read_only}


def _write_whole(reader: MemoryReader, block: MemoryBlock, region: RegionView) -> None:
    for indices in _batches(np.arange(block.pages)):
        wanted, found = region.read_blocks(indices), read_pages(reader, block, indices)
        wrong = differing_rows(found, wanted)
        write_pages(reader, block, Blocks(indices[wrong], wanted[wrong]))


def _prove_memory(session: Attached, content: Content) -> None:
    """See that memory is the target's also where the machine's reset, or a device, wrote during the load.

    Where the tracker names pages, only those written by others than us need a look: our own writes were acknowledged
    byte by byte. Where it does not, all memory is compared.

    Raises
    ------
    RewindError
        If a page does not keep what is written into it.
    """
    touched = session.collect_dirty() if session.tracker.exact_pages else _suspects(session, content)
    for block in session.memory.blocks:
        if any(region.spec.name == block.name for region in content.view.record.regions):
            mend_pages(session.reader, block, content, touched.get(block.name, np.zeros(0, np.int64)))


def _suspects(session: Attached, content: Content) -> Mapping[str, NDArray[np.int64]]:
    """Return the pages that do not hold what the head holds, and those that must not."""
    found = {}
    for block in session.memory.blocks:
        if block.name not in session.writer.heads:
            continue
        parts = [pages.indices for pages in changed_pages(session.reader, block, session.writer.head(block.name))]
        if block.name in content.regions:
            parts.append(content.regions[block.name].indices)
        found[block.name] = np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
    return found


def mend_pages(reader: MemoryReader, block: MemoryBlock, content: Content, touched: NDArray[np.int64]) -> int:
    """Compare pages of a block with the target, write again those that differ, and return how many did.

    Raises
    ------
    RewindError
        If a page does not keep what is written into it.
    """
    count = 0
    for indices in _batches(touched):
        wanted = content.blocks(block.name, indices)
        wrong = differing_rows(read_pages(reader, block, indices), wanted)
        if not len(wrong):
            continue
        count += len(wrong)
        mended = Blocks(indices[wrong], wanted[wrong])
        write_pages(reader, block, mended)
        still = differing_rows(read_pages(reader, block, mended.indices), mended.content)
        if len(still):
            raise RewindError(
                "memory does not hold what was written",
                guest_is="unknown",
                block=block.name,
                first_page=int(mended.indices[still[0]]),
            )
    return count


def differing_rows(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the indices of rows of PAGE bytes that are not alike."""
    words = PAGE // 8
    different: NDArray[np.bool_] = (a.view(np.uint64) != b.view(np.uint64)).reshape(-1, words).any(axis=1)
    return np.flatnonzero(different)


def _batches(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(indices), _BATCH):
        yield indices[start : start + _BATCH]
