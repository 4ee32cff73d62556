"""What the kernel knows about a process's pages: `/proc/PID/pagemap`, entry by entry and by PAGEMAP_SCAN.

Page arrays come out of the kernel's buffers without a Python step per page. Refuses to change anything but
write-protection that a userfaultfd has asked for.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

import numpy as np
from numpy.typing import NDArray

from workbench.errors import GuestError, GuestGoneError, UnsupportedError
from workbench.model import PAGE

__all__ = [
    "FILE_PAGE",
    "PAGE_IS_WRITTEN",
    "PRESENT",
    "SOFT_DIRTY",
    "SWAPPED",
    "Pagemap",
    "expand_runs",
    "soft_dirty_pages",
]

# include/uapi/linux/fs.h
PAGE_IS_WRITTEN = 1 << 1
_WP_MATCHING, _CHECK_WPASYNC = 1 << 0, 1 << 1
_ARGUMENT = struct.Struct("<12Q")  # struct pm_scan_arg
_PAGEMAP_SCAN = 3 << 30 | _ARGUMENT.size << 16 | ord("f") << 8 | 16  # _IOWR('f', 16, struct pm_scan_arg)
_WALK_END = 32  # offset of walk_end
_REGIONS = 65536  # struct page_region (start, end, categories) per call: 1.5 MiB

# Documentation/admin-guide/mm/pagemap.rst: bits of an 8-byte entry
SOFT_DIRTY = np.uint64(1 << 55)
FILE_PAGE = np.uint64(1 << 61)  # of a file or shared, not a private copy
SWAPPED = np.uint64(1 << 62)
PRESENT = np.uint64(1 << 63)


class Pagemap:
    """The page map of one process.

    Raises
    ------
    GuestGoneError
        If the process is gone.
    UnsupportedError
        If this user may not look at it.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise GuestGoneError(f"process {pid} is gone", pid=pid) from error
        except PermissionError as error:
            raise UnsupportedError(
                f"/proc/{pid}/pagemap may not be read", cure="Run as root or as QEMU's user"
            ) from error
        self._regions = np.ones((_REGIONS, 3), np.uint64)  # touched now, not in the pause

    def scan(self, start: int, end: int, *, protect: bool) -> NDArray[np.int64]:
        """Return the runs of written pages in `[start, end)`, shape (n, 2) of [start, end) in bytes, ascending.

        Parameters
        ----------
        protect : bool
            Protect them again in the same step, so that the next scan tells what was written after this one.

        Raises
        ------
        GuestError
            If memory in the range is not registered with an asynchronous userfaultfd (any more): what was written
            there is not known.
        UnsupportedError
            If the kernel has no PAGEMAP_SCAN.
        """
        found: list[NDArray[np.int64]] = []
        flags = _CHECK_WPASYNC | (_WP_MATCHING if protect else 0)
        while start < end:
            argument = bytearray(
                _ARGUMENT.pack(
                    *(_ARGUMENT.size, flags, start, end, 0, self._regions.ctypes.data, _REGIONS, 0),
                    *(0, PAGE_IS_WRITTEN, 0, PAGE_IS_WRITTEN),
                )
            )
            try:
                count = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, argument)
            except OSError as error:
                raise _scan_failure(error, start) from error
            found.append(self._regions[:count, :2].astype(np.int64))
            (start,) = struct.unpack_from("<Q", argument, _WALK_END)
        return np.concatenate(found) if found else np.zeros((0, 2), np.int64)

    def entries(self, start: int, pages: int) -> NDArray[np.uint64]:
        """Return the entries of `pages` pages from address `start` on, shape (pages,).

        Raises
        ------
        GuestGoneError
            If the process is gone.
        """
        raw = bytearray(pages * 8)
        view, done = memoryview(raw), 0
        while done < len(raw):
            count = os.preadv(self._fd, [view[done:]], start // PAGE * 8 + done)
            if not count:
                raise GuestGoneError("the process behind a page map is gone", address=hex(start))
            done += count
        return np.frombuffer(raw, np.uint64)

    def close(self) -> None:
        """Let go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _scan_failure(error: OSError, address: int) -> GuestError | UnsupportedError:
    if error.errno == errno.EPERM:
        return GuestError(
            "memory of the guest is not tracked any more", address=hex(address), cure="Arm the tracker again"
        )
    if error.errno in (errno.ENOTTY, errno.EINVAL):
        return UnsupportedError(
            "the kernel has no PAGEMAP_SCAN", cure="Linux 6.7 has it; without it memory is compared"
        )
    return GuestError(f"PAGEMAP_SCAN failed: {error.strerror}", address=hex(address))


def expand_runs(runs: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    """Return the indices of the pages in byte runs, counted from address `base`, ascending, without duplicates.

    Parameters
    ----------
    runs : ndarray of int64, shape (n, 2)
        [start, end) in bytes on page boundaries, ascending and disjoint.
    """
    first, count = (runs[:, 0] - base) // PAGE, (runs[:, 1] - runs[:, 0]) // PAGE
    before = np.cumsum(count) - count
    return np.repeat(first - before, count) + np.arange(int(count.sum()))


def soft_dirty_pages(entries: NDArray[np.uint64], populated: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the indices of pages written since soft-dirty was cleared.

    Parameters
    ----------
    entries : ndarray of uint64, shape (pages,)
        As `Pagemap.entries` gives them.
    populated : ndarray of bool, shape (pages,)
        Which pages held something at the last look: one that does not any more was dropped (a balloon), reads as
        zeros, and carries no soft-dirty bit.
    """
    now = (entries & (PRESENT | SWAPPED)) != 0
    return np.flatnonzero(((entries & SOFT_DIRTY) != 0) | (populated & ~now))
