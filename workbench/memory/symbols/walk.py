"""What this room asks of a memory, and the one walk of page tables that says whether a kernel found there is in use.

Source: Intel SDM volume 3, 4.5 (4-level and 5-level paging). Refuses permissions: only where an address lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.errors import UnreadableError

__all__ = ["Memory", "present", "translate"]

_PRESENT = 1
_LARGE = 1 << 7
_FRAME = 0x000F_FFFF_FFFF_F000
_ENTRY = 8
_LEAST = 64
"""Bytes to which `present` finds a hole."""


class Memory(Protocol):
    """Physical memory, as `workbench.memory.physical.PhysicalMemory` gives it."""

    def read(self, address: int, length: int) -> bytes:
        """Return bytes; raises `UnreadableError` where there is no memory in part of it."""

    def holds(self, address: int, length: int = 1) -> bool:
        """Tell whether there is memory in all of `[address, address + length)`."""

    def runs(self, *, most: int = ...) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield runs of pages that are not all zero, ascending; a run longer than `most` bytes is cut."""


def translate(memory: Memory, root: int, levels: int, virtual: int) -> int | None:
    """Return the physical address of a virtual one, by page tables of 4 or 5 levels; None where it is not mapped."""
    table = root & _FRAME
    for level in range(levels, 0, -1):
        shift = 12 + 9 * (level - 1)
        try:
            entry = int.from_bytes(memory.read(table + _ENTRY * (virtual >> shift & 511), _ENTRY), "little")
        except UnreadableError:
            return None
        if not entry & _PRESENT:
            return None
        if level == 1 or (entry & _LARGE and level <= 3):
            inside = (1 << shift) - 1
            return entry & _FRAME & ~inside | virtual & inside
        table = entry & _FRAME
    return None


def present(memory: Memory, address: int, before: int, after: int) -> tuple[int, int]:
    """Return begin and end of memory without a hole around an address: at most `before` and `after` bytes of it.

    The begin is a multiple of 8. Both are found in halves, so a few bytes of what is there may be missing.
    """
    back = _reach(before, lambda count: count <= address and memory.holds(address - count, count))
    on = _reach(after, lambda count: memory.holds(address, count))
    return min(address, -(-(address - back) // 8) * 8), address + on


def _reach(most: int, holds: Callable[[int], bool]) -> int:
    """Return how many bytes, at most `most`, hold: what holds for some bytes holds for fewer."""
    reach, step = 0, most
    while step >= _LEAST:
        if reach + step <= most and holds(reach + step):
            reach += step
        step //= 2
    return reach
