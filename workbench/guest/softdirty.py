"""Know the written pages by the kernel's soft-dirty bit (CONFIG_MEM_SOFT_DIRTY).

The bit belongs to the whole process and to whoever clears it: refuses nothing but cannot notice another user of it
(CRIU) on the same QEMU. Pages are read one entry each, so a look costs about 10 ms per GiB.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.errors import GuestGoneError, UnsupportedError, UsageError
from workbench.guest.memory import MemoryMap
from workbench.guest.pagemap import PRESENT, SOFT_DIRTY, SWAPPED, Pagemap, soft_dirty_pages
from workbench.guest.process import HeldProcess
from workbench.model import PAGE

__all__ = ["SoftDirtyTracker", "kernel_has_soft_dirty"]

_CLEAR_SOFT_DIRTY = b"4"
"""CLEAR_REFS_SOFT_DIRTY, fs/proc/task_mmu.c."""


def kernel_has_soft_dirty() -> bool:
    """Tell whether the kernel really sets and clears the bit, by a page of our own.

    Kernels without it accept the clearing too, and some set the bit for new mappings only: so both ways are looked at.
    """
    try:
        pagemap = Pagemap(os.getpid())
    except (GuestGoneError, UnsupportedError):
        return False
    with mmap.mmap(-1, PAGE) as page:
        address = np.frombuffer(page, np.uint8).ctypes.data
        try:
            page[0] = 1
            _clear(os.getpid())
            clean = pagemap.entries(address, 1)[0] & SOFT_DIRTY
            page[0] = 2
            return not clean and bool(pagemap.entries(address, 1)[0] & SOFT_DIRTY)
        except OSError:
            return False
        finally:
            pagemap.close()


def _clear(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_bytes(_CLEAR_SOFT_DIRTY)


class SoftDirtyTracker:
    """See `tracker.Tracker`.

    Raises
    ------
    UnsupportedError
        If the kernel does not report the bit, or this user may not clear it in QEMU.
    GuestGoneError
        If QEMU is gone.
    """

    name = "soft-dirty"
    exact_pages = True

    def __init__(self, process: HeldProcess, memory_map: MemoryMap) -> None:
        if not kernel_has_soft_dirty():
            raise UnsupportedError("the kernel reports no soft-dirty bits", cure="CONFIG_MEM_SOFT_DIRTY=y has them")
        self.why = ""
        self._process = process
        self._blocks = memory_map.blocks
        self._populated: dict[str, NDArray[np.bool_]] = {}
        self._pending: dict[str, NDArray[np.int64]] = {}
        self._armed = False
        self._pagemap = Pagemap(process.pid)
        if not os.access(f"/proc/{process.pid}/clear_refs", os.W_OK):
            self._pagemap.close()
            raise UnsupportedError("soft-dirty bits of QEMU may not be cleared", cure="Run as root or as QEMU's user")

    def arm(self) -> None:
        """Start: the next `collect` reports every page."""
        self._armed = True
        self._pending = {block.name: np.arange(block.pages) for block in self._blocks}

    def collect(self) -> dict[str, NDArray[np.int64]]:
        """Return the pages written since the last `collect` per block; only while the guest is paused.

        Raises
        ------
        GuestGoneError
            If QEMU ended.
        """
        self._pending = self._look(remember=True)  # kept until the bits are cleared, should that fail
        try:
            _clear(self._process.pid)
        except OSError as error:
            self._process.require("clearing soft-dirty bits")
            raise UnsupportedError(f"soft-dirty bits of QEMU cannot be cleared: {error.strerror}") from error
        self._process.require("clearing soft-dirty bits")
        found, self._pending = self._pending, {}
        return found

    def peek(self) -> dict[str, NDArray[np.int64]]:
        """Return what `collect` would, without a new starting point; also while the guest runs."""
        return self._look(remember=False)

    def _look(self, *, remember: bool) -> dict[str, NDArray[np.int64]]:
        if not self._armed:
            raise UsageError("the tracker was not armed", cure="Call arm() before collect()")
        found: dict[str, NDArray[np.int64]] = {}
        populated: dict[str, NDArray[np.bool_]] = {}
        for block in self._blocks:
            entries = self._pagemap.entries(block.hva, block.pages)
            before = self._populated.get(block.name, np.zeros(block.pages, np.bool_))
            dirty = soft_dirty_pages(entries, before)
            found[block.name] = np.union1d(dirty, self._pending.get(block.name, dirty))
            populated[block.name] = (entries & (PRESENT | SWAPPED)) != 0
        self._process.require("the look at soft-dirty bits")
        if remember:
            self._populated = populated
        return found

    def close(self) -> None:
        """Let go; soft-dirty bits mean nothing to QEMU."""
        self._armed = False
        self._pagemap.close()
        self._process.close()
