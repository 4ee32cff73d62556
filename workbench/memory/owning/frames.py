"""Physical page frames of one capture, many at a time: content by frame number, in the order asked.

Refuses frames where the guest has no memory: their rows are zeros, and said to be absent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workbench.memory.physical import PhysicalMemory
from workbench.model import PAGE
from workbench.store import CaptureView

__all__ = ["I64", "U8", "U64", "Frames"]

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]


class Frames:
    """The frames of a capture.

    Parameters
    ----------
    memory : PhysicalMemory
    view : CaptureView
        The capture that it is of.

    Attributes
    ----------
    memory : PhysicalMemory
    numbers : (n,) int64
        Page frame numbers that the guest has memory at, ascending.
    """

    def __init__(self, memory: PhysicalMemory, view: CaptureView) -> None:
        self.memory = memory
        # A range that does not begin at a page holds no frame that Linux could use.
        ranges = [each for each in memory.ranges if not (each.start % PAGE or each.offset % PAGE)]
        self._regions = [view.region(each.block) for each in ranges]
        self._first = np.array([each.start // PAGE for each in ranges], np.int64)
        self._count = np.array([each.length // PAGE for each in ranges], np.int64)
        self._page = np.array([each.offset // PAGE for each in ranges], np.int64)
        parts = [np.arange(first, first + count) for first, count in zip(self._first, self._count, strict=True)]
        self.numbers: I64 = np.concatenate([np.zeros(0, np.int64), *parts])

    def _range_of(self, numbers: I64) -> I64:
        """Return which range each frame is in, -1 for none."""
        at: I64 = np.searchsorted(self._first, numbers, "right") - 1
        inside = (at >= 0) & (numbers < self._first[at] + self._count[at]) if len(self._first) else at >= 0
        return np.where(inside, at, -1)

    def holds(self, numbers: I64) -> NDArray[np.bool_]:
        """Tell of each frame whether the guest has memory there."""
        return self._range_of(np.asarray(numbers, np.int64)) >= 0

    def take(self, numbers: I64) -> tuple[U8, NDArray[np.bool_]]:
        """Return the content of frames, zeros where there is no memory, and where there is some.

        Returns
        -------
        content : (n, 4096) uint8
        present : (n,) bool

        Raises
        ------
        StoreError
        """
        numbers = np.asarray(numbers, np.int64)
        content = np.zeros((len(numbers), PAGE), np.uint8)
        where = self._range_of(numbers)
        for each in np.unique(where[where >= 0]).tolist():
            rows = np.flatnonzero(where == each)
            content[rows] = self._regions[each].read_blocks(numbers[rows] - self._first[each] + self._page[each])
        return content, where >= 0
