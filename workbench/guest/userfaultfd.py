"""Know the written pages exactly: userfaultfd in asynchronous write-protect mode, read with PAGEMAP_SCAN.

The kernel clears a page's protection at its first write, whoever writes (vCPUs, threads, direct and native I/O,
io_uring), and one call returns those pages and protects them again. When the tracker is closed, or dies in any way,
the kernel drops everything and QEMU runs on unharmed. Refuses guests whose memory somebody else has registered.

Not seen are writes that do not go through QEMU's page tables: `tracker` keeps such guests away from here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

import numpy as np
from numpy.typing import NDArray

from workbench.errors import GuestError, UnsupportedError, UsageError
from workbench.guest.injection import inject
from workbench.guest.memory import MemoryBlock, MemoryMap
from workbench.guest.pagemap import Pagemap, expand_runs
from workbench.guest.process import HeldProcess
from workbench.model import PAGE

__all__ = ["UserfaultfdTracker", "negotiate", "register", "take_userfaultfd"]

# include/uapi/linux/userfaultfd.h
_UFFD_API = 0xAA
_FEATURE_WP, _FEATURE_WP_SHARED, _FEATURE_WP_UNPOPULATED, _FEATURE_WP_ASYNC = 1 << 0, 1 << 12, 1 << 13, 1 << 15
_MODE_WP = 1 << 1
_API_CALL = 3 << 30 | 24 << 16 | 0xAA << 8 | 0x3F  # UFFDIO_API: _IOWR(0xAA, 0x3F, struct uffdio_api)
_REGISTER_CALL = 3 << 30 | 32 << 16 | 0xAA << 8  # UFFDIO_REGISTER: _IOWR(0xAA, 0, struct uffdio_register)


def take_userfaultfd(process: HeldProcess) -> tuple[int, int]:
    """Return a userfaultfd for QEMU's memory and for how many µs QEMU's main thread was held.

    Raises
    ------
    UnsupportedError
        If it is refused here; the message says by what.
    GuestGoneError
        If QEMU ended.
    """
    report, descriptors = inject(process)
    if not descriptors:
        process.require("making a userfaultfd")
        reason = report.get("refused") or report.get("gone")
        raise UnsupportedError(f"no userfaultfd in QEMU: {reason}", cure="See `workbench doctor`")
    return descriptors[0], int(report["held_us"])


def negotiate(descriptor: int) -> None:
    """Switch a fresh userfaultfd to asynchronous write-protection.

    Raises
    ------
    UnsupportedError
        If the kernel lacks it.
    """
    always = _FEATURE_WP | _FEATURE_WP_UNPOPULATED | _FEATURE_WP_ASYNC
    for features in (always | _FEATURE_WP_SHARED, always):
        with contextlib.suppress(OSError):
            fcntl.ioctl(descriptor, _API_CALL, bytearray(struct.pack("<QQQ", _UFFD_API, features, 0)))
            return
    raise UnsupportedError("the kernel has no asynchronous write-protection (WP_ASYNC)", cure="Linux 6.7 has it")


def register(descriptor: int, start: int, length: int, what: str) -> None:
    """Register memory for write-protection.

    Raises
    ------
    UnsupportedError
        If somebody else tracks it, or this kind of memory cannot be protected.
    """
    try:
        fcntl.ioctl(descriptor, _REGISTER_CALL, bytearray(struct.pack("<QQQQ", start, length, _MODE_WP, 0)))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise UnsupportedError(
                f"{what} is registered with another userfaultfd (EBUSY)",
                cure="End the other tracker, postcopy or background snapshot of this guest",
            ) from error
        raise UnsupportedError(f"{what} cannot be write-protected: {error.strerror}", errno=error.errno) from error


class UserfaultfdTracker:
    """See `tracker.Tracker`. Registers every block at once; `arm` only sets the starting point.

    Attributes
    ----------
    held_us : int
        For how long QEMU's main thread was held, once, in µs.

    Raises
    ------
    UnsupportedError
        If this host, or this guest now, does not offer it.
    GuestGoneError
        If QEMU ended.
    """

    name = "userfaultfd"
    exact_pages = True

    def __init__(self, process: HeldProcess, memory_map: MemoryMap) -> None:
        self.why = ""
        self._process = process
        self._blocks = memory_map.blocks
        self._pending: dict[str, list[NDArray[np.int64]]] = {}
        self._armed = self._everything = False
        self._fd = -1
        self._pagemap = Pagemap(process.pid)
        try:
            self._fd, self.held_us = take_userfaultfd(process)
            negotiate(self._fd)
            for block in self._blocks:
                register(self._fd, block.hva, block.pages * PAGE, block.name)
                # Protect once now: it makes page tables (67 ms for 4 GiB), and the first collect() is in a pause.
                self._pagemap.scan(block.hva, block.hva + block.pages * PAGE, protect=True)
        except BaseException:
            self._release()
            raise

    def arm(self) -> None:
        """Start: the next `collect` reports every page."""
        self._armed = self._everything = True

    def collect(self) -> dict[str, NDArray[np.int64]]:
        """Return the pages written since the last `collect` per block; only while the guest is paused.

        A page that a failing call had already protected again is in the next call's answer.

        Raises
        ------
        GuestGoneError
            If QEMU ended.
        GuestError
            If part of the memory is not tracked any more.
        """
        return self._look(protect=True)

    def peek(self) -> dict[str, NDArray[np.int64]]:
        """Return what `collect` would, without a new starting point; also while the guest runs."""
        return self._look(protect=False)

    def _look(self, *, protect: bool) -> dict[str, NDArray[np.int64]]:
        if not self._armed:
            raise UsageError("the tracker was not armed", cure="Call arm() before collect()")
        found = {block.name: [*self._pending.get(block.name, []), self._scan(block, protect)] for block in self._blocks}
        self._process.require("the scan for written pages")  # the page map of a dead process is silently empty
        everything = self._everything
        if protect:
            self._pending, self._everything = {}, False
        if everything:
            return {block.name: np.arange(block.pages) for block in self._blocks}
        return {
            name: parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts)) for name, parts in found.items()
        }

    def _scan(self, block: MemoryBlock, protect: bool) -> NDArray[np.int64]:
        try:
            runs = self._pagemap.scan(block.hva, block.hva + block.pages * PAGE, protect=protect)
        except GuestError:
            self._process.require("the scan for written pages")
            raise
        pages = expand_runs(runs, block.hva)
        if protect:
            self._pending.setdefault(block.name, []).append(pages)
        return pages

    def _release(self) -> None:
        self._pagemap.close()
        if self._fd >= 0:
            os.close(self._fd)  # the kernel unregisters and unprotects everything
            self._fd = -1

    def close(self) -> None:
        """Let go: nothing stays registered."""
        self._armed = False
        self._release()
        self._process.close()
