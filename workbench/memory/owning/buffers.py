"""Buffers of pages: which blocks of a page the kernel holds the newest content of.

Source: Linux include/linux/buffer_head.h and jbd2.h: a page's buffers are a ring; jbd2's own bits begin where the
block layer's end. Metadata of ext4 that waits in a transaction is neither dirty for the page nor for the block layer:
only jbd2's bits tell that it is newer than the disk.

Refuses rings without an end, and buffers whose content does not lie in their page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.memory.owning.frames import I64, U64
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.virtual import field
from workbench.model import PAGE

__all__ = ["Buffers", "read_buffers"]

_MOST = 8
"""Blocks of 512 bytes in a page."""
_PRIVATE = 16
"""BH_PrivateStart of Linux 4.x to 6.x, where the symbols do not say."""
_DELAYED = 8
"""BH_Delay: has no place on the disk yet."""


@dataclass(slots=True)
class Buffers:
    """Buffers whose content is all there; columns of equal length.

    Attributes
    ----------
    page : int64
        Position in what was asked.
    offset, length : int64
        Bytes in the page.
    newer : bool
        Newer than the disk: dirty, delayed, or held by a journal.
    """

    page: I64
    offset: I64
    length: I64
    newer: NDArray[np.bool_]


def read_buffers(moment: Moment, frames: I64, first: U64) -> Buffers:
    """Follow the rings of pages' buffers, all in step.

    Parameters
    ----------
    frames : (n,) int64
        Of pages.
    first : (n,) uint64
        Virtual address of each page's first buffer, 0 for none.

    Raises
    ------
    SymbolsError
        If the symbols have no buffers.
    StoreError
    """
    structures = moment.structures
    size = structures.size("buffer_head")
    at = {name: structures.offset("buffer_head", name) for name in ("b_state", "b_this_page", "b_size", "b_data")}
    newer = _newer(moment)
    page, address, parts = np.flatnonzero(first), first[first != 0], []
    for _ in range(_MOST):
        rows, whole = moment.virtual.gather(address, min(PAGE, size))
        state, following, length, data = (
            field(rows, at[name]) for name in ("b_state", "b_this_page", "b_size", "b_data")
        )
        place = moment.virtual.locate(data)
        within = place - frames[page] * PAGE
        sound = whole & (length >= 512) & (length <= PAGE) & (within >= 0) & (within < PAGE)
        sound &= within.astype(np.uint64) + length <= PAGE
        kept = sound & (state & np.uint64(1) != 0)
        parts.append(Buffers(page[kept], within[kept], length[kept].astype(np.int64), state[kept] & newer != 0))
        onward = sound & (following != first[page]) & (following != 0)
        page, address = page[onward], following[onward]
    return Buffers(*(np.concatenate([getattr(each, name) for each in parts]) for name in Buffers.__slots__))


def _newer(moment: Moment) -> np.uint64:
    """Return the bits of a buffer's state by which its content is newer than the disk."""
    states = moment.structures.enumeration("bh_state_bits")
    private = states.get("BH_PrivateStart", _PRIVATE)
    private = private if 0 < private < 60 else _PRIVATE
    bits = (1, states.get("BH_Delay", _DELAYED), private, private + 5)  # BH_Dirty, BH_JBD, BH_JBDDirty
    return np.uint64(sum({1 << bit for bit in bits if 0 <= bit < 64}))
