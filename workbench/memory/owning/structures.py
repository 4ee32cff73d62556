"""What this room asks of a kernel's symbols: sizes, offsets, addresses, enumerations.

Refuses nothing and knows nothing: `workbench.memory.volatility.ownership` answers it from Volatility's table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from workbench.memory.owning.frames import Frames
from workbench.memory.owning.virtual import Virtual

__all__ = ["Moment", "Structures"]


class Structures(Protocol):
    """Structures of one kernel build, at the addresses of one boot."""

    def size(self, kind: str) -> int:
        """Return the bytes of a structure; raises `SymbolsError` where there is none."""

    def offset(self, kind: str, path: str) -> int:
        """Return the offset of a member ("d_name.len"); raises `SymbolsError` where there is none."""

    def has(self, kind: str, path: str = "") -> bool:
        """Tell whether there is such a structure and member."""

    def symbol(self, name: str) -> int | None:
        """Return the canonical virtual address of a symbol in this boot; None where there is none."""

    def enumeration(self, name: str) -> Mapping[str, int]:
        """Return an enumeration's values by name; empty where there is none."""


class Moment:
    """One capture of one boot: its frames, its kernel's virtual memory, and its structures.

    Attributes
    ----------
    frames : Frames
    virtual : Virtual
    structures : Structures
    levels : {4, 5}
    delta : int
        Physical less virtual address, for the kernel's image.
    root : int
        Physical address of the kernel's topmost page table.
    """

    def __init__(self, frames: Frames, structures: Structures, *, root: int, levels: int, delta: int) -> None:
        self.frames = frames
        self.virtual = Virtual(frames, root, levels)
        self.structures = structures
        self.levels = levels
        self.delta = delta
        self.root = root

    def word(self, address: int) -> int:
        """Return the 64-bit word at a virtual address, 0 where it cannot be read."""
        return int(self.virtual.words(np.array([address % (1 << 64)], np.uint64))[0])
