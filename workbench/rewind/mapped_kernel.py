"""The kernel that QEMU itself boots a guest with (`<kernel>`), once for all clones of a moment.

Such a QEMU keeps a copy of the kernel's file for its guest's reboots. It lies behind the main memory in the moment's
memory file (`mapped`), and is mapped from there in the place of each copy. Nothing but memory is saved by it: whatever
stands in the way leaves a clone with a copy of its own. Refuses pages that are not byte for byte the file's, and to
look at a QEMU whose guest has written anything yet: a guest could put a kernel where it likes.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from workbench.errors import GuestError, UnsupportedError
from workbench.guest.connection import Guest
from workbench.guest.injection import map_file
from workbench.guest.process import HeldProcess, Vma, read_vmas
from workbench.model import PAGE
from workbench.rewind.mapped import MappedMemory

__all__ = ["kernel_shared", "read_kernel"]

_LARGEST = 256 << 20
"""Bytes of a kernel's file; larger ones are left alone."""
_LEAST = 1 << 20
"""Bytes that are worth the work."""
_BESIDE = 32 << 20
"""Bytes of other memory that a mapping with the copy may hold: the kernel joins neighbours."""
_IN_THE_WAY = (OSError, GuestError, UnsupportedError)


@dataclass(frozen=True, slots=True)
class _Copy:
    """Whole pages of QEMU's copy that are the file's: where in QEMU, what, and from where on in the file (bytes)."""

    address: int
    content: bytes
    offset: int


def read_kernel(xml: str) -> bytes:
    """Return the file of a domain's kernel; nothing where it has none, or where it cannot be read as we are."""
    path = ET.fromstring(xml).findtext("./os/kernel")
    if not path:
        return b""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and _LEAST <= status.st_size <= _LARGEST:
                return file.read(_LARGEST)
    return b""


@contextlib.contextmanager
def kernel_shared(guest: Guest, mapped: MappedMemory) -> Iterator[None]:
    """Have QEMU's copy of the kernel mapped from the moment's memory file, at the latest at the end of the body.

    Preconditions: the guest is new and nothing was written into it; the file is filled and sealed in the body, if it is
    not yet.
    """
    copy = None
    with contextlib.suppress(*_IN_THE_WAY):
        copy = _copy(guest.pid, mapped.kernel) if mapped.kernel else None
        if copy is not None and not _in_file(copy, mapped):
            copy = None
    if copy is None:
        yield
        return
    # It waits for QEMU's main thread and for a process of its own: meanwhile memory is written and devices are loaded.
    thread = threading.Thread(target=_map, args=(guest, mapped, copy), name="share the kernel")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _copy(pid: int, kernel: bytes) -> _Copy | None:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for vma in read_vmas(pid):
            if _may_hold(vma, len(kernel)) and (copy := _copy_in(vma, memory.fileno(), kernel)) is not None:
                return copy
    return None


def _may_hold(vma: Vma, size: int) -> bool:
    """Whether this is plain memory of a fitting size; the file's first sectors are not in QEMU's copy."""
    return vma.permissions == "rw-p" and not vma.path and size - _LEAST <= vma.end - vma.start <= size + _BESIDE


def _copy_in(vma: Vma, memory: int, kernel: bytes) -> _Copy | None:
    """Return the whole pages around the middle of the file that a mapping holds."""
    held = os.pread(memory, vma.end - vma.start, vma.start)
    middle = len(kernel) // 2
    at = held.find(kernel[middle : middle + PAGE])
    if at < 0:
        return None
    shift = at - middle
    first = -(-max(0, shift) // PAGE) * PAGE
    last = min(len(held), shift + len(kernel)) // PAGE * PAGE
    ours = np.frombuffer(kernel, np.uint8, last - first, first - shift).reshape(-1, PAGE)
    theirs = np.frombuffer(held, np.uint8, last - first, first).reshape(-1, PAGE)
    other = np.flatnonzero((ours != theirs).any(axis=1))
    page = (at - first) // PAGE + 1
    begin = first + PAGE * int(max(other[other < page], default=-1) + 1)
    end = min([first + PAGE * int(each) for each in other[other >= page][:1]], default=last)
    return _Copy(vma.start + begin, held[begin:end], begin - shift) if end - begin >= _LEAST else None


def _place(copy: _Copy, mapped: MappedMemory) -> int:
    return mapped.size + copy.offset // PAGE * PAGE


def _in_file(copy: _Copy, mapped: MappedMemory) -> bool:
    """Put the copy into a file that is not whole yet; of one that is, say whether it is there."""
    place = _place(copy, mapped)
    if mapped.sealed:
        return os.pread(mapped.descriptor, len(copy.content), place) == copy.content
    mapped.put(memoryview(copy.content), place)
    return True


def _map(guest: Guest, mapped: MappedMemory, copy: _Copy) -> None:
    with contextlib.suppress(*_IN_THE_WAY):
        file = os.fstat(mapped.descriptor)
        found = [int(each.name) for each in Path(f"/proc/{guest.pid}/fd").iterdir() if _same(each, file)]
        with contextlib.closing(HeldProcess(guest.pid, guest.id, guest.name)) as process:
            map_file(process, copy.address, len(copy.content), found[0], _place(copy, mapped))


def _same(entry: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(entry.stat(), file)
    except OSError:  # closed meanwhile
        return False
