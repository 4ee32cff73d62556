"""Which pages did the guest write? The best tracker that this host and this guest offer, found by trying.

`userfaultfd` and `soft-dirty` know the pages; `compare` knows nothing and has every page looked at, which is always
right and slower. Refuses the first two where memory can be written past QEMU's page tables (devices passed through,
memory shared with another process): a fast answer with pages missing is worse than none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.errors import UnsupportedError, UsageError
from workbench.guest.connection import Guest
from workbench.guest.memory import MemoryMap
from workbench.guest.process import HeldProcess, covering, read_vmas
from workbench.guest.softdirty import SoftDirtyTracker
from workbench.guest.userfaultfd import UserfaultfdTracker

__all__ = ["TRACKERS", "CompareTracker", "Tracker", "open_tracker", "writers_past_page_tables"]

_MIGRATING = {
    "setup",
    "active",
    "pre-switchover",
    "device",
    "postcopy-active",
    "postcopy-paused",
    "postcopy-recover",
    "colo",
}
"""MigrationStatus (qapi/migration.json) in which QEMU may need a userfaultfd of its own, or the memory moves away."""

_PASSTHROUGH = ("/dev/vfio/", "/dev/iommu", "/dev/vhost-vdpa", "anon_inode:[vfio", "anon_inode:[iommufd")
"""Descriptors by which a device may write guest memory by DMA."""


class Tracker(Protocol):
    """Knows which pages were written.

    Attributes
    ----------
    name : str
        "userfaultfd", "soft-dirty" or "compare".
    exact_pages : bool
        False if `collect` names every page and the caller has to compare.
    why : str
        Why it is not a better one, in words; empty for the best.
    """

    name: str
    exact_pages: bool
    why: str

    def arm(self) -> None:
        """Start: the next `collect` reports every page. Best called in a pause, see `collect`."""

    def collect(self) -> dict[str, NDArray[np.int64]]:
        """Return block name -> ascending indices of pages written since the last call.

        Call it only while the guest is paused: in a running one a page can be taken as clean while a direct read is
        still landing in it.

        Raises
        ------
        GuestGoneError
            If QEMU ended.
        GuestError
            If memory is not tracked any more; the next call, if it succeeds, reports what this one had taken.
        """

    def peek(self) -> dict[str, NDArray[np.int64]]:
        """Return what `collect` would and change nothing; also while the guest runs, for estimates."""

    def close(self) -> None:
        """Let go and leave the guest unharmed."""


class CompareTracker:
    """See `Tracker`: every page of every block, each time."""

    name = "compare"
    exact_pages = False

    def __init__(self, process: HeldProcess, memory_map: MemoryMap) -> None:
        self.why = ""
        self._process = process
        self._blocks = memory_map.blocks

    def arm(self) -> None:
        """Do nothing: there is nothing to start."""

    def collect(self) -> dict[str, NDArray[np.int64]]:
        """Return every page."""
        self._process.require("naming pages")
        return self.peek()

    def peek(self) -> dict[str, NDArray[np.int64]]:
        """Return every page."""
        return {block.name: np.arange(block.pages) for block in self._blocks}

    def close(self) -> None:
        """Let go."""
        self._process.close()


TRACKERS: dict[str, Callable[[HeldProcess, MemoryMap], Tracker]] = {
    "userfaultfd": UserfaultfdTracker,
    "soft-dirty": SoftDirtyTracker,
    "compare": CompareTracker,
}
"""Every kind, best first."""


def open_tracker(guest: Guest, memory_map: MemoryMap, *, prefer: str | None = None) -> Tracker:
    """Return a tracker that works for this guest, not yet armed.

    Parameters
    ----------
    prefer : str, optional
        Insist on one kind of `TRACKERS`.

    Raises
    ------
    UsageError
        If there is no such kind.
    UnsupportedError
        If the kind insisted on does not work here. Without `prefer` the next one is taken, down to "compare", and
        the reasons are in `why`.
    GuestGoneError
        If QEMU is gone.
    """
    if prefer is not None and prefer not in TRACKERS:
        raise UsageError(f"no tracker is called {prefer!r}", known=", ".join(TRACKERS))
    reasons: list[str] = []
    for name in [prefer] if prefer else list(TRACKERS):
        try:
            tracker = _open(guest, memory_map, name)
        except UnsupportedError as error:
            if prefer:
                raise
            reasons.append(f"{name}: {error.message}")
        else:
            tracker.why = "; ".join(reasons)
            return tracker
    raise UnsupportedError("no tracker works", reasons=reasons)


def _open(guest: Guest, memory_map: MemoryMap, name: str) -> Tracker:
    if TRACKERS[name] is not CompareTracker and (obstacle := _obstacle(guest, memory_map)):
        raise UnsupportedError(obstacle, cure="Memory is compared instead (tracker 'compare')")
    process = HeldProcess(guest.pid, guest.id, guest.name)
    try:
        return TRACKERS[name](process, memory_map)
    except BaseException:
        process.close()
        raise


def _obstacle(guest: Guest, memory_map: MemoryMap) -> str:
    """Return why pages of this guest must not be tracked at the moment, or nothing."""
    migration = str(guest.monitor.execute("query-migrate").get("status", "none"))
    if migration in _MIGRATING or guest.monitor.execute("query-status")["status"] == "inmigrate":
        return f"the guest is migrating ({migration})"
    return writers_past_page_tables(guest.pid, memory_map)


def writers_past_page_tables(pid: int, memory_map: MemoryMap) -> str:
    """Return who can write guest memory unseen by the kernel's page tracking, or nothing.

    Raises
    ------
    UnsupportedError
        If this user may not look.
    """
    for entry in _entries(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith(_PASSTHROUGH):
            return f"a device is passed through ({target}) and writes memory by DMA"
    vmas = read_vmas(pid)
    held = [vma for block in memory_map.blocks for vma in covering(vmas, block.hva, block.end)]
    files = {(vma.device, vma.inode) for vma in held if vma.shared}
    return _sharer(pid, files) if files else ""


def _sharer(pid: int, files: set[tuple[str, int]]) -> str:
    """Return which other process has one of the files mapped (a vhost-user backend), or nothing."""
    for entry in _entries("/proc"):
        if not entry.name.isdigit() or int(entry.name) in (pid, os.getpid()):
            continue
        try:
            text = (entry / "maps").read_text(errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            _span, permissions, _offset, device, inode, *_path = line.split(maxsplit=5)
            if permissions[1] == "w" and permissions[3] == "s" and (device, int(inode)) in files:
                return f"process {entry.name} shares the guest's memory and may write it"
    return ""


def _entries(directory: str) -> list[Path]:
    try:
        return list(Path(directory).iterdir())
    except PermissionError as error:
        raise UnsupportedError(f"{directory} may not be read", cure="Run as root or as QEMU's user") from error
    except OSError:
        return []
