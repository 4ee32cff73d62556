"""A map of a guest's memory in a page: which pages changed, and whose they are.

The kernel cuts the visible part into cells (see `rammap_cells`) and the page draws them; zooming asks for a finer cut
of a smaller part. What is chosen (`span`, `owner`) is a filter of the pages, and goes both ways. Refuses to send pages
one by one: what goes to the page is bounded, whatever the guest's size.

Layout of `columns`, little-endian, one after another, n cells: number of the first page (f64); then for each kind of
owner, in the order of `kinds`, changed pages (u32).
"""

from __future__ import annotations

import math
from typing import Any

import anywidget
import numpy as np
import numpy.typing as npt
import pandas as pd
import traitlets

from workbench.model import PAGE
from workbench.notebook.front import module, style
from workbench.notebook.picture import as_image
from workbench.notebook.rammap_cells import OUTSIDE, Cells, PageMap, bytes_text
from workbench.notebook.rammap_picture import OTHER, OWNERS, map_picture
from workbench.notebook.still import Still
from workbench.notebook.text import inert, table

__all__ = ["RamMap"]

MOST_CELLS = 4096
_NOTHING = pd.DataFrame({"region": [], "page": [], "pfn": [], "owner": []})
_NOWHERE = pd.DataFrame({"start": [], "bytes": []})


class RamMap(Still, anywidget.AnyWidget):
    """Changed pages over the physical address space.

    Parameters
    ----------
    pages : DataFrame, optional
        As `Diff.pages` returns them.
    ranges : DataFrame, optional
        As `Moment.physical_ranges` returns them.

    Attributes
    ----------
    view : list of float
        The visible part, two page numbers, the second past the end; all of it when empty.
    span : list of float
        The chosen part, likewise; nothing when empty.
    owner : str
        The chosen kind of owner, or "".
    """

    _esm = module("base", "rammap")
    _css = style("base", "rammap")

    columns = traitlets.Bytes(b"").tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)
    bands = traitlets.List(traitlets.Dict()).tag(sync=True)
    kinds = traitlets.List(traitlets.Unicode()).tag(sync=True)
    totals = traitlets.List(traitlets.Int()).tag(sync=True)
    looks = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    ends = traitlets.List(traitlets.Float()).tag(sync=True)
    view = traitlets.List(traitlets.Float()).tag(sync=True)
    span = traitlets.List(traitlets.Float()).tag(sync=True)
    owner = traitlets.Unicode("").tag(sync=True)

    def __init__(self, pages: pd.DataFrame | None = None, ranges: pd.DataFrame | None = None) -> None:
        self._ranges = _NOWHERE
        self._map = PageMap(_NOTHING, _NOWHERE)
        super().__init__()
        self.show(_NOTHING if pages is None else pages, ranges)

    def __repr__(self) -> str:
        return f"<RamMap of {sum(self.totals):,} changed pages>"

    def show(self, pages: pd.DataFrame, ranges: pd.DataFrame | None = None) -> None:
        """Show other pages, of the same memory without `ranges`; what was chosen is let go."""
        self._ranges = self._ranges if ranges is None else ranges
        self._map = PageMap(pages if len(pages) else _NOTHING, self._ranges)
        with self.hold_sync(), self.hold_trait_notifications():  # whoever hears of one finds the others in step
            self.span, self.owner = [], ""
            self.ends = [float(each) for each in self._map.ends]
            self.view = self._within(self.view)
            self.kinds, self.totals = [inert(each, 40) for each in self._map.kinds], self._map.totals
            self.looks = [list(OWNERS.get(each, OTHER)) for each in self._map.kinds]
            self._cut()

    @property
    def chosen(self) -> npt.NDArray[np.bool_]:
        """Which of the pages, in their order, lie in `span` and belong to `owner`."""
        found = np.ones(len(self._map.place), bool)
        if self.span:
            found &= (self._map.place >= self.span[0]) & (self._map.place < self.span[1])
        if self.owner:
            found &= self._map.kind == self.kinds.index(self.owner)
        return found

    @property
    def words(self) -> str:
        """What is chosen, for a heading."""
        parts = [f"of {self.owner}"] if self.owner else []
        if self.span and self.span[0] < OUTSIDE:
            low, high = (round(each) * PAGE for each in self.span)
            parts.append(f"from {low:#x} to {high:#x} ({bytes_text(high - low)})")
        elif self.span:
            parts.append("that the guest's processors cannot see")
        return " ".join(parts)

    def still(self) -> str:
        """Return it as a picture, with the owners by count."""
        picture = as_image(map_picture(self._whole(), self._map.kinds), repr(self))
        counts = list(zip(self.kinds, (f"{each:,}" for each in self.totals), strict=True))
        return picture + table(list(counts), ("owner", "changed pages"))

    def _whole(self) -> Cells:
        return self._map.cells(*self._map.ends, MOST_CELLS)

    @traitlets.observe("view")
    def _cut(self, _change: Any = None) -> None:
        """Cut what is visible anew."""
        low, high = (int(each) for each in self.view or self._map.ends)
        cells = self._map.cells(low, high, MOST_CELLS)
        with self.hold_sync():
            self.step, self.bands = cells.step, cells.bands
            self.columns = cells.low.astype("<f8").tobytes() + cells.counts.T.astype("<u4").tobytes()

    @traitlets.validate("view", "span")
    def _part(self, proposal: Any) -> list[float]:
        part = [float(each) for each in proposal["value"]]
        if part and (len(part) != 2 or not all(math.isfinite(each) for each in part) or part[0] == part[1]):
            raise traitlets.TraitError(f"two page numbers, or none: {part}")
        return self._within(sorted(part))

    def _within(self, part: list[float]) -> list[float]:
        """Return the part that there is; nothing, for all, where there is none of it."""
        low, high = self._map.ends
        inside = [float(min(high, max(low, round(each)))) for each in part]
        return inside if inside and inside[0] < inside[1] else []

    @traitlets.validate("owner")
    def _known(self, proposal: Any) -> str:
        name = str(proposal["value"])
        if name and name not in self.kinds:
            raise traitlets.TraitError(f"no changed page belongs to {inert(name, 64)!r}")
        return name
