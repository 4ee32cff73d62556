"""Where changed pages lie in a guest's physical memory, cut into cells that a page can draw.

Pages are numbered along one line: the physical address space (address / 4096), and past it, region after region, what
the guest's processors cannot see (video memory, parts of a ROM). Cells are aligned, of a power of two of pages, and
never lie in a hole alone. Refuses to make more cells than asked for, whatever a layout says: then they are larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from workbench.model import PAGE
from workbench.notebook.text import inert

__all__ = ["OUTSIDE", "Cells", "PageMap", "bytes_text"]

I64 = npt.NDArray[np.int64]

OUTSIDE = 1 << 40
"""The first number past the physical address space: x86-64 has at most 2**52 bytes (Intel SDM volume 3, 4.1.4)."""
_REGION = 1 << 32
"""Numbers between the beginnings of two regions that the guest cannot see."""
_BAND = 32
"""Cells that the heading of a stretch between two holes counts as."""
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True, slots=True)
class Cells:
    """A part of the line, cut.

    Attributes
    ----------
    step : int
        Pages per cell.
    low : (n,) int64
        Number of each cell's first page, rising.
    counts : (n, kinds) int64
        Changed pages of each kind of owner.
    bands : list of dict
        Stretches without a hole: first (int, cell), base (float, number that is taken off), name (inert text, "" for
        physical memory), hole (words on what was left out before it, or "").
    """

    step: int
    low: I64
    counts: I64
    bands: list[dict[str, Any]]


class PageMap:
    """Changed pages at their places.

    Parameters
    ----------
    pages : DataFrame
        As `Diff.pages`: region, page, pfn, owner are read.
    ranges : DataFrame
        As `Moment.physical_ranges`.

    Attributes
    ----------
    kinds : list of str
        Kinds of owner, the most frequent first.
    totals : list of int
        Changed pages of each.
    place : (n,) int64
        Number of each page, in the order of `pages`.
    """

    def __init__(self, pages: pd.DataFrame, ranges: pd.DataFrame) -> None:
        counted = pages["owner"].astype("str").value_counts()
        self.kinds = [str(each) for each in counted.index]
        self.totals = [int(each) for each in counted]
        self.kind = pages["owner"].astype("str").map({name: at for at, name in enumerate(self.kinds)}).to_numpy("i8")
        self.place, self._names = _placed(pages)
        self._spans = _spans(ranges, self.place, len(self._names))

    @property
    def ends(self) -> tuple[int, int]:
        """The first number and the one past the last; (0, 1) where there is no memory at all."""
        return (int(self._spans[0, 0]), int(self._spans[-1, 1])) if len(self._spans) else (0, 1)

    def cells(self, low: int, high: int, most: int) -> Cells:
        """Cut what lies in `[low, high)` into at most so many cells."""
        spans = np.clip(self._spans, low, high)
        spans = spans[spans[:, 1] > spans[:, 0]]
        step = 1
        while True:
            first, last = _covered(spans, step)
            bands = int(np.count_nonzero(np.diff(first) > (last - first + 1)[:-1])) + 1 if len(first) else 0
            if int((last - first + 1).sum()) + _BAND * (bands - 1) <= most:
                break
            step *= 2
        lows = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, b + 1) for a, b in zip(first, last, strict=True))])
        return Cells(step, lows * step, self._counted(lows, step), self._bands(lows, step))

    def _counted(self, lows: I64, step: int) -> I64:
        numbers = self.place // step
        at = np.minimum(np.searchsorted(lows, numbers), max(0, len(lows) - 1))
        inside = lows[at] == numbers if len(lows) else np.zeros(len(numbers), bool)
        flat = at[inside] * len(self.kinds) + self.kind[inside]
        return np.bincount(flat, minlength=len(lows) * len(self.kinds)).reshape(len(lows), len(self.kinds))

    def _bands(self, lows: I64, step: int) -> list[dict[str, Any]]:
        starts = np.flatnonzero(np.diff(lows, prepend=-2) != 1)
        return [self._band(int(at), lows, step) for at in starts]

    def _band(self, at: int, lows: I64, step: int) -> dict[str, Any]:
        begin = int(lows[at]) * step
        region = (begin - OUTSIDE) // _REGION
        if region >= 0:
            name = inert(self._names[region], 80)
            return {"first": at, "base": float(OUTSIDE + region * _REGION), "name": name, "hole": ""}
        hole = begin - (int(lows[at - 1]) + 1) * step if at else 0
        words = f"hole of {bytes_text(hole * PAGE)}" if hole else ""
        return {"first": at, "base": 0.0, "name": "", "hole": words}


def _placed(pages: pd.DataFrame) -> tuple[I64, list[str]]:
    """Return each page's number, and the names of the regions that have pages out of the guest's view."""
    frames = pages["pfn"].fillna(-1).to_numpy("i8")
    unseen = frames < 0
    regions = pages["region"].astype("str")
    names = sorted(set(regions[unseen]))
    base = regions.map({name: OUTSIDE + at * _REGION for at, name in enumerate(names)}).fillna(0).to_numpy("i8")
    return np.where(unseen, base + pages["page"].to_numpy("i8"), frames), names


def _spans(ranges: pd.DataFrame, place: I64, regions: int) -> I64:
    """Return the stretches of numbers that stand for memory, (n, 2), rising: physical, then regions out of view."""
    begin = ranges["start"].to_numpy("i8")
    physical = np.stack([begin // PAGE, -(-(begin + ranges["bytes"].to_numpy("i8")) // PAGE)], axis=1)
    bases = OUTSIDE + np.arange(regions, dtype=np.int64) * _REGION
    ends = [int(place[(place >= base) & (place < base + _REGION)].max(initial=base)) + 1 for base in bases]
    unseen = np.stack([bases, np.array(ends, np.int64)], axis=1)
    found = np.concatenate([physical[np.argsort(physical[:, 0], kind="stable")], unseen])
    return found[found[:, 1] > found[:, 0]]


def _covered(spans: I64, step: int) -> tuple[I64, I64]:
    """Return the first and last cell of each span, without those that the span before it has."""
    first, last = spans[:, 0] // step, (spans[:, 1] - 1) // step
    first[1:] = np.maximum(first[1:], np.maximum.accumulate(last)[:-1] + 1)
    inside = last >= first
    return first[inside], last[inside]


def bytes_text(size: int) -> str:
    """Return a number of bytes in the largest unit that leaves at least 1."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}".replace(".0 ", " ")
