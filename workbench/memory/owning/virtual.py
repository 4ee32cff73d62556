"""The kernel's virtual memory of one capture, many addresses at a time.

Refuses to call unmapped memory zero: each row says whether all of it could be read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workbench.memory.owning.frames import I64, U8, U64, Frames
from workbench.model import PAGE

__all__ = ["Virtual", "field", "strings"]

_FRAME = np.uint64(0x000F_FFFF_FFFF_F000)
_KEPT_TABLES = 4096
"""Page tables kept: 16 MiB."""
_GATHERED = 4 << 20
"""Bytes gathered at once; each costs an index of 8 bytes meanwhile."""
_STEP = 4096
"""Pages read at once: 16 MiB."""


class Virtual:
    """Virtual memory by one page table.

    Parameters
    ----------
    frames : Frames
    root : int
        Physical address of the topmost table.
    levels : {4, 5}
    """

    def __init__(self, frames: Frames, root: int, levels: int) -> None:
        self.frames = frames
        self._root = root
        self._levels = levels
        self._kept: dict[int, U64] = {}

    def locate(self, addresses: U64) -> I64:
        """Return physical addresses, -1 for what is not mapped.

        Raises
        ------
        StoreError
        """
        addresses = np.asarray(addresses, np.uint64)
        pages, back = np.unique(addresses >> np.uint64(12), return_inverse=True)
        found = self._locate_pages(pages)[back]
        return np.where(found >= 0, found + (addresses & np.uint64(PAGE - 1)).astype(np.int64), -1)

    def _locate_pages(self, pages: U64) -> I64:
        found = np.full(len(pages), -1, np.int64)
        rows = np.arange(len(pages))
        table = np.full(len(pages), self._root >> 12, np.int64)
        for level in range(self._levels, 0, -1):
            size = 1 << (9 * (level - 1))
            entry = self._entries(table, (pages[rows] >> np.uint64(9 * (level - 1)) & np.uint64(511)).astype(np.int64))
            there = entry & np.uint64(1) != 0
            leaf = there & ((entry & np.uint64(1 << 7) != 0) if 1 < level <= 3 else level == 1)
            frame = ((entry & _FRAME) >> np.uint64(12)).astype(np.int64)
            inside = (pages[rows] & np.uint64(size - 1)).astype(np.int64)
            found[rows[leaf]] = ((frame & ~(size - 1)) + inside)[leaf] * PAGE
            onward = there & ~leaf
            rows, table = rows[onward], frame[onward]
        return found

    def _entries(self, tables: I64, slots: I64) -> U64:
        which, back = np.unique(tables, return_inverse=True)
        new = np.array([each for each in which.tolist() if each not in self._kept], np.int64)
        content = self.frames.take(new)[0].view("<u8")
        read = dict(zip(new.tolist(), content, strict=True))
        out = np.zeros(len(tables), np.uint64)
        order = np.argsort(back, kind="stable")
        cuts = np.searchsorted(back[order], np.arange(len(which) + 1))
        for at, each in enumerate(which.tolist()):
            rows = order[cuts[at] : cuts[at + 1]]
            out[rows] = (read[each] if each in read else self._kept[each])[slots[rows]]
        if len(self._kept) + len(read) <= _KEPT_TABLES:
            self._kept.update(read)
        return out

    def gather(self, addresses: U64, length: int) -> tuple[U8, NDArray[np.bool_]]:
        """Return `length` bytes at each address, zeros where unmapped, and whether all of them could be read.

        Parameters
        ----------
        addresses : (n,) uint64
        length : int
            At most a page.

        Returns
        -------
        rows : (n, length) uint8
        whole : (n,) bool

        Raises
        ------
        StoreError
        """
        addresses = np.asarray(addresses, np.uint64)
        rows, whole = np.zeros((len(addresses), length), np.uint8), np.zeros(len(addresses), bool)
        step = max(1, _GATHERED // length)
        for begin in range(0, len(addresses), step):
            part = slice(begin, begin + step)
            whole[part] = self._gather(rows[part], addresses[part], length)
        return rows, whole

    def _gather(self, rows: U8, addresses: U64, length: int) -> NDArray[np.bool_]:
        """Fill rows from addresses, and from the page behind where they go on there."""
        inside = (addresses & np.uint64(PAGE - 1)).astype(np.int64)
        head = np.minimum(length, PAGE - inside)
        whole = self._fill(rows, addresses, np.zeros(len(addresses), np.int64), head)
        crossing = np.flatnonzero((head < length) & (addresses < np.uint64((1 << 64) - PAGE)))
        if len(crossing):
            rest, begin = addresses[crossing] + head[crossing].astype(np.uint64), head[crossing]
            part = rows[crossing]
            whole[crossing] &= self._fill(part, rest, begin, length - begin)
            rows[crossing] = part
        return whole

    def _fill(self, rows: U8, addresses: U64, begin: I64, count: I64) -> NDArray[np.bool_]:
        """Fill `rows[i, begin[i] : begin[i] + count[i]]` from addresses; these stay inside of a page."""
        places = self.locate(addresses)
        found = np.flatnonzero(places >= 0)
        whole = np.zeros(len(addresses), bool)
        frames, back = np.unique(places[found] // PAGE, return_inverse=True)
        for step in range(0, len(frames), _STEP):
            content, present = self.frames.take(frames[step : step + _STEP])
            mine = np.flatnonzero((back >= step) & (back < step + _STEP))
            which, at = found[mine], back[mine] - step
            columns = np.arange(rows.shape[1])[None, :] - begin[which, None]
            source = np.clip((places[which] % PAGE)[:, None] + columns, 0, PAGE - 1)
            taken = content[at[:, None], source]
            rows[which] = np.where((columns >= 0) & (columns < count[which, None]), taken, rows[which])
            whole[which] = present[at]
        return whole

    def elements(self, base: int, index: I64, size: int) -> tuple[U8, NDArray[np.bool_]]:
        """Return elements of an array that begins at `base`, as `gather` does; quick where they do not cross pages.

        Raises
        ------
        StoreError
        """
        addresses = np.uint64(base) + index.astype(np.uint64) * np.uint64(size)
        if PAGE % size or base % size:
            return self.gather(addresses, size)
        pages, back = np.unique(addresses >> np.uint64(12), return_inverse=True)
        places = self.locate(pages << np.uint64(12))
        rows, whole = np.zeros((len(index), size), np.uint8), np.zeros(len(index), bool)
        slot = (addresses & np.uint64(PAGE - 1)).astype(np.int64) // size
        for begin in range(0, len(pages), _STEP):
            content, present = self.frames.take(places[begin : begin + _STEP] // PAGE)
            mine = np.flatnonzero((back >= begin) & (back < begin + _STEP))
            at = back[mine] - begin
            rows[mine] = content.reshape(len(content), PAGE // size, size)[at, slot[mine]]
            whole[mine] = present[at]
        return rows, whole

    def words(self, addresses: U64) -> U64:
        """Return the 64-bit word at each address, 0 where it cannot be read."""
        rows, whole = self.gather(addresses, 8)
        return np.where(whole, field(rows, 0), np.uint64(0))


def field(rows: U8, offset: int, kind: str = "<u8") -> U64:
    """Return the member at an offset of structures in rows, as uint64; zeros where the rows are too short."""
    size = np.dtype(kind).itemsize
    if offset < 0 or offset + size > rows.shape[1]:
        return np.zeros(len(rows), np.uint64)
    return np.ascontiguousarray(rows[:, offset : offset + size]).view(kind)[:, 0].astype(np.uint64)


def strings(rows: U8) -> list[str]:
    """Return what stands in each row up to its first NUL; other bytes than UTF-8 as replacement characters."""
    return [row.tobytes().split(b"\0", 1)[0].decode("utf-8", "replace") for row in rows]
