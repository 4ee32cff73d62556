"""Write a moment into a paused guest: disks, memory, devices, and proof that it is there.

Preconditions: the guest is paused and has the target's shape; `content` covers every block that differs. On success
memory and disks equal the target, devices are at its state, and the guest is still paused. On failure the guest is
between two moments and must not run: the caller applies the safety capture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from workbench.capture.pause import Laps
from workbench.capture.session import DEVICES, CaptureSession
from workbench.capture.staging import page_runs, read_pages
from workbench.errors import RewindError
from workbench.guest.devices import load_device_state
from workbench.guest.disks import write_clusters
from workbench.guest.memory import MemoryBlock
from workbench.guest.reader import MemoryReader
from workbench.guest.stream import with_clock_of
from workbench.model import PAGE, RegionKind
from workbench.rewind.content import Blocks, Content, disk_runs
from workbench.store import CaptureView

__all__ = ["apply"]


def apply(session: CaptureSession, content: Content, now_devices: bytes, laps: Laps) -> None:
    """Bring the paused guest of `session` to the moment of `content`.

    Parameters
    ----------
    now_devices : bytes
        The device stream of the present, for TCG's clock.
    laps : Laps
        Told what each part took.

    Raises
    ------
    GuestError, RewindError
        The guest is between two moments.
    """
    view = content.view
    for disk in session.disks:
        if disk.region in content.regions:
            write_clusters(session.guest, disk, disk_runs(content.regions[disk.region], view, disk.region))
    laps.mark("write disks")
    for block in session.memory.blocks:
        if block.name in content.regions:
            write_pages(session.reader, block, content.regions[block.name])
    laps.mark("write memory")
    load_device_state(session.guest.monitor, devices_for(session, view, now_devices))
    laps.mark("load devices")
    _prove_memory(session, content)
    laps.mark("prove memory")


def devices_for(session: CaptureSession, view: CaptureView, now_devices: bytes) -> bytes:
    """Return the device stream of `view`, with TCG's clock mended where the guest runs under TCG."""
    devices = view.region(DEVICES).open().read()
    return with_clock_of(devices, now_devices) if session.accelerator == "tcg" else devices


def write_pages(reader: MemoryReader, block: MemoryBlock, pages: Blocks) -> None:
    """Write pages of a block into the guest; the last page of a block may be short."""
    runs = page_runs(block, pages.indices)
    length = int((runs[:, 1] - runs[:, 0]).sum())
    reader.write(runs, pages.content.reshape(-1)[:length])


def _prove_memory(session: CaptureSession, content: Content) -> None:
    """Compare what was written, by us and by the machine's reset during the load, with the target; mend what differs.

    Raises
    ------
    RewindError
        If a page does not hold what was written into it.
    """
    written = _touched(session, content)
    for block in session.memory.blocks:
        touched = written.get(block.name, np.zeros(0, np.int64))
        for _attempt in range(2):
            wrong = _differing(session.reader, block, content, touched)
            if not len(wrong.indices):
                break
            write_pages(session.reader, block, wrong)
        else:
            raise RewindError(
                "memory does not hold what was written",
                guest_is="unknown",
                block=block.name,
                first_page=int(wrong.indices[0]),
            )


def _touched(session: CaptureSession, content: Content) -> Mapping[str, NDArray[np.int64]]:
    """Return the pages written since the pause; where the tracker names none, those of `content`."""
    if session.tracker.exact_pages:
        return session.collect_dirty()
    return {name: blocks.indices for name, blocks in content.regions.items()}


def _differing(reader: MemoryReader, block: MemoryBlock, content: Content, touched: NDArray[np.int64]) -> Blocks:
    if not len(touched):
        return Blocks(touched, np.zeros((0, PAGE), np.uint8))
    content.cover({block.name: touched}, RegionKind.MEMORY)
    wanted = content.only(block.name, touched)
    found = read_pages(reader, block, touched)
    wrong = np.flatnonzero((found != wanted.content).any(axis=1))
    return Blocks(touched[wrong], wanted.content[wrong])
