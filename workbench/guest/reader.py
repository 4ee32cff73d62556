"""Read and write a guest's memory from outside, many runs in one call, without its help.

`proc-mem` copies with `process_vm_readv(2)` and falls back to `/proc/PID/mem` where QEMU itself maps a page read-only;
`shared-map` reads blocks that QEMU shares (memfd, hugetlbfs, a file) through a mapping of our own. Writes always go
through QEMU's address space, so that trackers see them. Refuses every address outside of the blocks it was opened for:
a wrong run would read, or overwrite, QEMU itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.errors import GuestError, GuestGoneError, UnsupportedError, UsageError
from workbench.guest.connection import Guest
from workbench.guest.memory import MemoryBlock, MemoryMap
from workbench.guest.pagemap import expand_runs
from workbench.guest.process import HeldProcess, Vma, covering, read_vmas
from workbench.model import PAGE

__all__ = ["MemoryReader", "ProcMemReader", "SharedMapReader", "open_reader", "read_block"]

_IOV_MAX = 1024
"""UIO_MAXIOV, include/uapi/linux/uio.h: vectors of one call."""

_CALL_BYTES = 1 << 30
"""Bytes asked of one call: below MAX_RW_COUNT (include/linux/fs.h), where the kernel cuts the local vector short."""

_RIGHTS = "Run as root, or as the user that owns QEMU with kernel.yama.ptrace_scope=0"

_libc = ctypes.CDLL(None, use_errno=True)
for _call in (_libc.process_vm_readv, _libc.process_vm_writev):
    _call.restype = ctypes.c_ssize_t
    _vector = (ctypes.c_void_p, ctypes.c_ulong)
    _call.argtypes = (ctypes.c_int, *_vector, *_vector, ctypes.c_ulong)


class MemoryReader(Protocol):
    """Access to the bytes of a guest's RAM blocks.

    Attributes
    ----------
    name : str
        "proc-mem" or "shared-map".
    """

    name: str

    def read_into(self, hva_runs: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Copy runs, shape (n, 2) of [start, end) in bytes, one after the other into `out`.

        Raises
        ------
        UsageError
            If a run lies outside of the blocks, or `out` has another size than the runs together.
        GuestGoneError, GuestError
            If QEMU ended, or the kernel refused an address; `out` holds rubbish then.
        """

    def write(self, hva_runs: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        """Copy `data` into runs; raises as `read_into` does, with part of it possibly written."""

    def close(self) -> None:
        """Let go of the guest."""


class ProcMemReader:
    """Copy by `process_vm_readv`, and by `/proc/PID/mem` where that may not go.

    Raises
    ------
    UnsupportedError
        If this user has no right to QEMU's memory.
    GuestGoneError
        If QEMU is gone.
    """

    name = "proc-mem"

    def __init__(self, process: HeldProcess, blocks: Sequence[MemoryBlock]) -> None:
        self._process = process
        ordered = sorted(blocks, key=lambda block: block.hva)
        self._starts = np.array([block.hva for block in ordered], np.int64)
        self._ends = np.array([block.end for block in ordered], np.int64)
        try:
            # This descriptor belongs to the address space, not to the number: safe whatever becomes of the pid.
            self._mem = os.open(f"/proc/{process.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except PermissionError as error:
            raise UnsupportedError("QEMU's memory may not be read", cure=_RIGHTS, pid=process.pid) from error
        except FileNotFoundError as error:
            raise GuestGoneError(f"the QEMU process of {process.name} is gone", pid=process.pid) from error

    def read_into(self, hva_runs: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """See `MemoryReader`."""
        self._transfer(_libc.process_vm_readv, hva_runs, out)

    def write(self, hva_runs: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        """See `MemoryReader`."""
        self._transfer(_libc.process_vm_writev, hva_runs, np.ascontiguousarray(data))

    def check(self, hva_runs: NDArray[np.int64], size: int) -> None:
        """Raise `UsageError` unless every run lies within a block and all of them hold `size` bytes."""
        starts, ends = hva_runs[:, 0], hva_runs[:, 1]
        block = np.searchsorted(self._starts, starts, side="right") - 1
        inside = (block >= 0) & (starts < ends)
        inside[inside] &= ends[inside] <= self._ends[block[inside]]
        if not inside.all():
            wrong = hva_runs[~inside][0]
            raise UsageError(
                "an address run lies outside of the guest's memory", start=hex(wrong[0]), end=hex(wrong[1])
            )
        if int((ends - starts).sum()) != size:
            raise UsageError("the buffer has another size than the runs", runs=int((ends - starts).sum()), buffer=size)

    def _transfer(self, call: ctypes._NamedFuncPointer, hva_runs: NDArray[np.int64], buffer: NDArray[np.uint8]) -> None:
        if not len(hva_runs) and not buffer.size:
            return
        runs = np.ascontiguousarray(hva_runs, np.int64)
        if not buffer.flags.c_contiguous or buffer.dtype != np.uint8:
            raise UsageError("the buffer must be contiguous uint8", dtype=str(buffer.dtype))
        self.check(runs, buffer.nbytes)
        vectors = _vectors(runs)
        ends = np.cumsum(vectors[:, 1])
        flat, done, total = buffer.reshape(-1), 0, int(ends[-1])
        while done < total:
            done += self._some(call, vectors, ends, flat, done)
        self._process.require("copying memory")

    def _some(
        self,
        call: ctypes._NamedFuncPointer,
        vectors: NDArray[np.uint64],
        ends: NDArray[np.uint64],
        flat: NDArray[np.uint8],
        done: int,
    ) -> int:
        """Transfer what one call takes from byte `done` on and return how many bytes that was."""
        first = int(np.searchsorted(ends, done, side="right"))
        last = min(int(np.searchsorted(ends, done + _CALL_BYTES, side="right")) + 1, first + _IOV_MAX, len(ends))
        part = vectors[first:last].copy()
        skipped = done - (int(ends[first]) - int(vectors[first, 1]))
        part[0] += np.array([skipped, -skipped], np.int64).astype(np.uint64)
        local = np.array([[flat.ctypes.data + done, int(part[:, 1].sum())]], np.uint64)
        moved = int(call(self._process.pid, local.ctypes.data, 1, part.ctypes.data, len(part), 0))
        if moved > 0:
            return moved
        code = ctypes.get_errno() if moved < 0 else errno.EFAULT
        if code not in (errno.EFAULT, errno.ENOSYS, errno.EPERM):
            raise self._failure(code, int(part[0, 0]))
        start, size = int(part[0, 0]), int(part[0, 1])
        return self._by_file(call is _libc.process_vm_writev, start, flat[done : done + size])

    def _by_file(self, writing: bool, start: int, view: NDArray[np.uint8]) -> int:
        """Transfer through `/proc/PID/mem`, which may also write what QEMU maps read-only (FOLL_FORCE)."""
        try:
            moved = (os.pwritev if writing else os.preadv)(self._mem, [view.data], start)
        except OSError as error:
            raise self._failure(error.errno or errno.EIO, start) from error
        if not moved:
            raise self._failure(errno.ESRCH, start)
        return moved

    def _failure(self, code: int, address: int) -> GuestError | UnsupportedError:
        words, where = os.strerror(code), hex(address)
        if not self._process.alive() or code == errno.ESRCH:
            return GuestGoneError(
                f"{self._process.name}: QEMU ended while its memory was copied", pid=self._process.pid
            )
        if code == errno.EPERM:
            return UnsupportedError(f"QEMU's memory may not be touched: {words}", cure=_RIGHTS, address=where)
        return GuestError(f"{self._process.name}: memory could not be copied: {words}", address=where)

    def close(self) -> None:
        """Let go of the guest."""
        if self._mem >= 0:
            os.close(self._mem)
            self._mem = -1
            self._process.close()


def _vectors(runs: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return `struct iovec` rows (base, length) for runs, those longer than one call cut into pieces."""
    lengths = runs[:, 1] - runs[:, 0]
    if int(lengths.max()) > _CALL_BYTES:
        pieces = -(-lengths // _CALL_BYTES)
        nth = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        starts = np.repeat(runs[:, 0], pieces) + nth * _CALL_BYTES
        lengths = np.minimum(np.repeat(runs[:, 1], pieces) - starts, _CALL_BYTES)
        return np.stack((starts, lengths), axis=1).astype(np.uint64)
    return np.stack((runs[:, 0], lengths), axis=1).astype(np.uint64)


class SharedMapReader:
    """Read shared blocks through a mapping of their file, and the others as `inner` does.

    Parameters
    ----------
    inner : ProcMemReader
    mappings : sequence of (block, mapping)
        The mapping holds exactly the block's bytes.
    """

    name = "shared-map"

    def __init__(self, inner: ProcMemReader, mappings: Sequence[tuple[MemoryBlock, mmap.mmap]]) -> None:
        self._inner = inner
        self._mappings = [(block, np.frombuffer(mapping, np.uint8).reshape(-1, PAGE)) for block, mapping in mappings]

    def read_into(self, hva_runs: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """See `MemoryReader`."""
        runs = np.ascontiguousarray(hva_runs, np.int64).reshape(-1, 2)
        for block, pages in self._mappings:
            whole = not (runs % PAGE).any() and out.flags.c_contiguous
            if len(runs) and whole and runs[:, 0].min() >= block.hva and runs[:, 1].max() <= block.end:
                self._inner.check(runs, out.nbytes)
                np.take(pages, expand_runs(runs, block.hva), axis=0, out=out.reshape(-1, PAGE), mode="clip")
                return
        self._inner.read_into(runs, out)

    def write(self, hva_runs: NDArray[np.int64], data: NDArray[np.uint8]) -> None:
        """See `MemoryReader`."""
        self._inner.write(hva_runs, data)

    def close(self) -> None:
        """Let go of the guest."""
        self._mappings = []
        self._inner.close()


def open_reader(guest: Guest, memory_map: MemoryMap) -> MemoryReader:
    """Return the best reader for this guest, chosen by trying.

    Raises
    ------
    UnsupportedError
        If this user may not read QEMU's memory.
    GuestGoneError
        If QEMU is gone.
    """
    process = HeldProcess(guest.pid, guest.id, guest.name)
    try:
        inner = ProcMemReader(process, memory_map.blocks)
    except BaseException:
        process.close()
        raise
    try:
        return _opened(inner, guest.pid, memory_map)
    except BaseException:
        inner.close()
        raise


def _opened(inner: ProcMemReader, pid: int, memory_map: MemoryMap) -> MemoryReader:
    for block in memory_map.blocks:  # the proof that it works: one byte of every block
        inner.read_into(np.array([[block.hva, block.hva + 1]]), np.empty(1, np.uint8))
    vmas = read_vmas(pid)
    mappings = [(block, mapping) for block in memory_map.blocks if (mapping := _map_shared(pid, vmas, block))]
    return SharedMapReader(inner, mappings) if mappings else inner


def _map_shared(pid: int, vmas: Sequence[Vma], block: MemoryBlock) -> mmap.mmap | None:
    """Map the file behind a shared block; None for private memory, or where the file cannot be had or is another."""
    held = covering(vmas, block.hva, block.end)
    if len(held) != 1 or not held[0].shared or block.size % PAGE:
        return None
    offset = held[0].offset + block.hva - held[0].start
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(_behind(pid, held[0]), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_ino == held[0].inode and os.fstat(descriptor).st_size >= offset + block.size:
                return mmap.mmap(descriptor, block.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)
        finally:
            os.close(descriptor)
    return None


def _behind(pid: int, vma: Vma) -> str:
    """Return a path that opens the file behind a mapping, deleted or anonymous ones too."""
    direct = f"/proc/{pid}/map_files/{vma.start:x}-{vma.end:x}"  # needs CAP_CHECKPOINT_RESTORE
    if os.access(direct, os.R_OK):
        return direct
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if entry.stat().st_ino == vma.inode:
                return str(entry)
    raise FileNotFoundError(vma.path)


def read_block(reader: MemoryReader, block: MemoryBlock) -> NDArray[np.uint8]:
    """Return all bytes of a block, shape (size,): what an audit compares with."""
    content = np.empty(block.size, np.uint8)
    reader.read_into(np.array([[block.hva, block.end]]), content)
    return content
