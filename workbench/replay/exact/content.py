"""What a QEMU that stands still holds: memory, as it is in its process, and its digest.

Refuses to read a running guest: the caller has stopped it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import blake3

from workbench.errors import UsageError
from workbench.guest.memory import MemoryMap, read_memory_map
from workbench.guest.reader import MemoryReader, open_reader, read_block
from workbench.replay.exact.qemu import ExactQemu

__all__ = ["open_memory", "ram_digest", "read_physical"]


@contextlib.contextmanager
def open_memory(qemu: ExactQemu) -> Iterator[tuple[MemoryMap, MemoryReader]]:
    """Yield where the memory is and what reads it."""
    memory = read_memory_map(qemu.as_guest())
    with contextlib.closing(open_reader(qemu.as_guest(), memory)) as reader:
        yield memory, reader


def ram_digest(qemu: ExactQemu) -> str:
    """Return the BLAKE3-256 (hexadecimal) over name and content digest of every RAM block, by name."""
    whole = blake3.blake3()
    with open_memory(qemu) as (memory, reader):
        for block in sorted(memory.blocks, key=lambda each: each.name):
            content = blake3.blake3(read_block(reader, block).data, max_threads=blake3.blake3.AUTO)
            whole.update(block.name.encode() + b"\0" + content.digest())
    return whole.hexdigest()


def read_physical(memory: MemoryMap, reader: MemoryReader, address: int, length: int) -> bytes:
    """Return bytes at a guest-physical address.

    Raises
    ------
    UsageError
        If the range does not lie within one range of RAM.
    """
    import numpy as np

    hva = {block.name: block.hva for block in memory.blocks}
    for each in memory.ranges:
        if each.start <= address and address + length <= each.start + each.length and each.block in hva:
            start = hva[each.block] + each.offset + address - each.start
            content = np.empty(length, np.uint8)
            reader.read_into(np.array([[start, start + length]], np.int64), content)
            return content.tobytes()
    raise UsageError("no RAM at that address", address=hex(address), length=length, cure="Give a physical address.")
