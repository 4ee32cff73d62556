"""Memory pages on their way from the guest to the store.

Inside the pause pages are only copied; comparing, hashing and compressing happen after it. Refuses to hold more than
the dirty pages: a guest whose tracker cannot name them is compared in batches against the head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.guest.memory import MemoryBlock, MemoryMap
from workbench.guest.reader import MemoryReader
from workbench.model import PAGE

__all__ = ["Pages", "Scratch", "changed_pages", "copy_pages", "page_runs"]

_BATCH = 4096
_SCRATCH = 64 << 20
"""Bytes that scratch memory has at most: it counts towards what a session may take beyond the guest's RAM."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Copied pages of one block: ascending indices, shape (n,), and content, shape (n, PAGE), uint8."""

    block: str
    indices: NDArray[np.int64]
    content: NDArray[np.uint8]


class Scratch:
    """Memory that is there before a pause copies into it: to have it faulted in meanwhile is twice the copy's time.

    What was taken is valid until the next `ready`.
    """

    def __init__(self) -> None:
        self._buffer = np.empty((0, PAGE), np.uint8)
        self._used = 0

    def ready(self, pages: int) -> None:
        """Have room for `pages`, as far as the bound allows, all of it touched; outside of a pause."""
        self._used = 0
        pages = min(pages, _SCRATCH // PAGE)
        if pages > len(self._buffer):
            self._buffer = np.empty((pages, PAGE), np.uint8)
            self._buffer[:, 0] = 1

    def take(self, pages: int) -> NDArray[np.uint8]:
        """Return (pages, PAGE) uint8 of any content: from what is ready if it is enough, else fresh."""
        if pages > len(self._buffer) - self._used:
            return np.empty((pages, PAGE), np.uint8)
        self._used += pages
        return self._buffer[self._used - pages : self._used]


def page_runs(block: MemoryBlock, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return host address runs, shape (k, 2) [start, end), of ascending page `indices`; the last page may be short."""
    if not len(indices):
        return np.zeros((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    first = indices[np.concatenate(([0], breaks))]
    last = indices[np.concatenate((breaks - 1, [len(indices) - 1]))]
    return np.stack((block.hva + first * PAGE, block.hva + np.minimum((last + 1) * PAGE, block.size)), axis=1)


def read_pages(
    reader: MemoryReader, block: MemoryBlock, indices: NDArray[np.int64], scratch: Scratch | None = None
) -> NDArray[np.uint8]:
    """Return the content of ascending page `indices`, shape (n, PAGE); a short last page is padded with zeros."""
    content = np.empty((len(indices), PAGE), np.uint8) if scratch is None else scratch.take(len(indices))
    runs = page_runs(block, indices)
    short = len(indices) * PAGE - int((runs[:, 1] - runs[:, 0]).sum())
    flat = content.reshape(-1)
    reader.read_into(runs, flat[: flat.size - short])
    flat[flat.size - short :] = 0
    return content


def copy_pages(
    reader: MemoryReader, memory: MemoryMap, dirty: Mapping[str, NDArray[np.int64]], scratch: Scratch
) -> list[Pages]:
    """Copy the dirty pages of every block."""
    return [
        Pages(block.name, dirty[block.name], read_pages(reader, block, dirty[block.name], scratch))
        for block in memory.blocks
        if len(dirty.get(block.name, ()))
    ]


def changed_pages(reader: MemoryReader, block: MemoryBlock, head: NDArray[np.uint8]) -> Iterator[Pages]:
    """Yield the pages of `block` that differ from `head`, shape (pages, PAGE), in batches."""
    total = -(-block.size // PAGE)
    for start in range(0, total, _BATCH):
        indices = np.arange(start, min(start + _BATCH, total))
        content = read_pages(reader, block, indices)
        known = head[start : start + len(indices)]
        differ = np.flatnonzero((content.view(np.uint64) != known.view(np.uint64)).any(axis=1))
        if len(differ):
            yield Pages(block.name, indices[differ], content[differ])
