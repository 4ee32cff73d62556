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

__all__ = ["Pages", "changed_pages", "copy_pages", "page_runs"]

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Pages:
    """Copied pages of one block: ascending indices, shape (n,), and content, shape (n, PAGE), uint8."""

    block: str
    indices: NDArray[np.int64]
    content: NDArray[np.uint8]


def page_runs(block: MemoryBlock, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return host address runs, shape (k, 2) [start, end), of ascending page `indices`; the last page may be short."""
    if not len(indices):
        return np.zeros((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    first = indices[np.concatenate(([0], breaks))]
    last = indices[np.concatenate((breaks - 1, [len(indices) - 1]))]
    return np.stack((block.hva + first * PAGE, block.hva + np.minimum((last + 1) * PAGE, block.size)), axis=1)


def read_pages(reader: MemoryReader, block: MemoryBlock, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the content of ascending page `indices`, shape (n, PAGE); a short last page is padded with zeros."""
    content = np.empty((len(indices), PAGE), np.uint8)
    runs = page_runs(block, indices)
    short = len(indices) * PAGE - int((runs[:, 1] - runs[:, 0]).sum())
    flat = content.reshape(-1)
    reader.read_into(runs, flat[: flat.size - short])
    flat[flat.size - short :] = 0
    return content


def copy_pages(reader: MemoryReader, memory: MemoryMap, dirty: Mapping[str, NDArray[np.int64]]) -> list[Pages]:
    """Copy the dirty pages of every block."""
    return [
        Pages(block.name, dirty[block.name], read_pages(reader, block, dirty[block.name]))
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
