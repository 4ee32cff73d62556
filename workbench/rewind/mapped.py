"""The main memory of a moment in a file of its own, which the QEMUs of all its clones map: read once, shared, lazy.

The file is a memfd: it has no name that could outlive a crash, and lives while a QEMU maps it or a maker fills it.
There is no keeper: a further clone takes the file from the QEMU of one that runs, so the last clone takes it along.
Once filled it is sealed against every change. Each QEMU maps it privately: what a guest writes is its own page, what it
only reads is everybody's, and pages of zeros are holes. A balloon, which would punch holes for all, fails at the seal.
Refuses to share a file that is not sealed, has another size, or lies with a process that is not QEMU's user's.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from workbench.errors import GuestError
from workbench.guest.lend import User
from workbench.guest.memory import MemoryBlock
from workbench.guest.pagemap import FILE_PAGE, PRESENT, SWAPPED, Pagemap
from workbench.guest.process import find_qemu
from workbench.guest.reader import MemoryReader
from workbench.model import PAGE
from workbench.rewind.apply import write_pages
from workbench.rewind.content import Blocks
from workbench.store import CaptureView

__all__ = ["MappedMemory", "mapped_memory", "mend_private"]

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_PATIENCE = 30.0
"""Seconds to wait for another maker to fill the same file; after that a second one is made."""
_BATCH = 4096
"""Pages written at a time: 16 MiB."""


class MappedMemory:
    """A file with one memory block of a moment.

    Attributes
    ----------
    block : str
    size : int
        Bytes.
    descriptor : int
    sealed : bool
        Whether it is whole; else it is to be filled.
    kernel : bytes
        What QEMU boots the guest with, for which there is room behind the block; empty where there is none.
    """

    def __init__(self, block: str, size: int, descriptor: int, *, sealed: bool, kernel: bytes = b"") -> None:
        self.block, self.size, self.descriptor, self.sealed = block, size, descriptor, sealed
        self.kernel = kernel

    def write(self, blocks: Blocks) -> None:
        """Put pages into it, ascending."""
        breaks = np.flatnonzero(np.diff(blocks.indices) != 1) + 1
        bounds = [0, *breaks.tolist(), len(blocks.indices)]
        for first, last in itertools.pairwise(bounds):
            offset = int(blocks.indices[first]) * PAGE
            self.put(blocks.content[first:last].reshape(-1).data[: self.size - offset], offset)

    def put(self, content: memoryview, offset: int) -> None:
        """Put bytes into it."""
        while content:
            done = os.pwrite(self.descriptor, content, offset)
            content, offset = content[done:], offset + done

    def seal(self) -> None:
        """Say that it is whole: nobody, also not a QEMU that has it open for writing, changes it from now on."""
        if not self.sealed:
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self.sealed = True


@contextlib.contextmanager
def mapped_memory(
    view: CaptureView, block: str, clones: Path, running: Iterable[str], user: User, kernel: bytes = b""
) -> Iterator[MappedMemory]:
    """Yield the file with a block of a moment: that of a running clone if one has it, else a new one.

    Makers of one case take turns until the file is there: one that needs a new one keeps the turn for the body, in
    which its QEMU must be started and the file filled and sealed.

    Parameters
    ----------
    clones : Path
        The case's directory of clones.
    running : iterable of str
        UUIDs of clones that may have it.
    user : User
        Whose processes QEMUs are.
    kernel : bytes
        What QEMU boots the guest with.

    Raises
    ------
    OSError
        If there is no memory for it, or no memfd.
    """
    spec = view.record.region(block).spec
    name = f"rwb-memory-{view.record.region(block).digest}"
    with contextlib.ExitStack() as stack:
        turn = contextlib.ExitStack()
        stack.enter_context(turn)
        turn.enter_context(_turn(clones))
        size = spec.length + -(-len(kernel) // PAGE) * PAGE
        descriptor = _find(name, size, running, user)
        shared = descriptor is not None
        if descriptor is None:
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            turn.close()
        stack.callback(os.close, descriptor)
        if not shared:
            os.ftruncate(descriptor, size)
        yield MappedMemory(block, spec.length, descriptor, sealed=shared, kernel=kernel)


@contextlib.contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Have a directory's lock for the body, or no lock where another holds it for too long: it only saves memory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _find(name: str, size: int, running: Iterable[str], user: User) -> int | None:
    """Return a descriptor of our own of the file that one of the clones has open."""
    for uuid in running:
        with contextlib.suppress(OSError, GuestError):
            process = Path(f"/proc/{find_qemu(uuid, 'a clone')}")
            # Anybody may put the UUID of a clone on a command line; QEMU's user is the one whose word counts.
            if process.stat().st_uid != user[0]:
                continue
            for entry in (process / "fd").iterdir():
                if os.readlink(entry).removeprefix("/memfd:").removesuffix(" (deleted)") == name:
                    descriptor = os.open(entry, os.O_RDWR | os.O_CLOEXEC)
                    if _whole(descriptor, size):
                        return descriptor
                    os.close(descriptor)
    return None


def _whole(descriptor: int, size: int) -> bool:
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:  # not a memfd
        return False
    return seals & _SEALS == _SEALS and os.fstat(descriptor).st_size == size


def mend_private(pid: int, reader: MemoryReader, block: MemoryBlock, view: CaptureView) -> int:
    """Write the moment's content over the pages that a new QEMU has written itself, and return how many there were.

    Its machine put ROMs and tables there before the file was whole, or after: such a page is QEMU's own by now, and
    shows nothing of the file.
    """
    pagemap = Pagemap(pid)
    try:
        entries = pagemap.entries(block.hva, block.pages)
    finally:
        pagemap.close()
    own = ((entries & SWAPPED) != 0) | (((entries & PRESENT) != 0) & ((entries & FILE_PAGE) == 0))
    pages = np.flatnonzero(own)
    region = view.region(block.name)
    for start in range(0, len(pages), _BATCH):
        indices = pages[start : start + _BATCH]
        write_pages(reader, block, Blocks(indices, region.read_blocks(indices)))
    return len(pages)
