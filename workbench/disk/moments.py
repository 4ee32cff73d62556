"""Moments' disks at hand: opened file systems, walks and maps of extents, made once for each capture.

What is a function of a capture alone is kept: in memory, and by a keeper (an answer cache) if one is given. Refuses
to keep file systems of many moments open: each holds clusters in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import pandas as pd

from workbench.disk.extentmap import EXTENTS, ExtentMap, extent_frame
from workbench.disk.pagecache import PageCache
from workbench.disk.parts import Opened, Part, open_parts
from workbench.disk.walk import WALK, walk_frame
from workbench.errors import WorkbenchError
from workbench.model import CaptureId
from workbench.store import CaseStore
from workbench.store.lru import BoundedCache

__all__ = ["FindCache", "Keeper", "Moments", "OpenParts"]

OpenParts = Callable[..., Opened]
"""Opens the file systems of a view, under a page cache if one is given too."""
FindCache = Callable[[CaptureId], PageCache]
"""Returns what the memory of a moment has of its file systems; raises `WorkbenchError` where it cannot be told."""
_OPEN = 3
"""Moments whose file systems are held open."""
_KEPT = 40_000_000
"""Cells of frames kept in memory."""


class Keeper(Protocol):
    """Who keeps frames for other processes and days, `attrs` included; `columns.armoured` makes Arrow take names."""

    def get(self, capture: CaptureId, question: str) -> pd.DataFrame | None:
        """Return what was kept, or None."""

    def put(self, capture: CaptureId, question: str, frame: pd.DataFrame) -> None:
        """Keep a frame."""


class Moments:
    """The disks of a case's captures.

    Parameters
    ----------
    store : CaseStore
    opener : callable, optional
        Opens a moment's parts.
    keeper : Keeper, optional
    memory : callable, optional
        Finds page caches; without it the disks are read alone.

    Attributes
    ----------
    alone : dict of CaptureId to str
        Moments whose disks are read alone because their memory cannot be told, and why.
    """

    def __init__(
        self,
        store: CaseStore,
        opener: OpenParts | None = None,
        keeper: Keeper | None = None,
        memory: FindCache | None = None,
    ) -> None:
        self.store = store
        self.alone: dict[CaptureId, str] = {}
        self._memory = memory
        self._caches: OrderedDict[CaptureId, PageCache | None] = OrderedDict()
        self._opener = opener or (lambda view, cache=None: open_parts(view, cache=cache))
        self._keeper = keeper
        self._open: OrderedDict[CaptureId, Opened] = OrderedDict()
        self._frames: BoundedCache[tuple[CaptureId, str], pd.DataFrame] = BoundedCache(_KEPT)
        self._maps: BoundedCache[tuple[CaptureId, str], ExtentMap] = BoundedCache(_KEPT)

    def parts(self, capture: CaptureId) -> list[Part]:
        """Return a moment's file systems, opened.

        Raises
        ------
        UsageError
            If the case does not have the capture.
        DiskError, StoreError
        """
        return self.opened(capture).parts

    def page_cache(self, capture: CaptureId) -> PageCache | None:
        """Return what memory has of a moment's file systems; None where that is not asked for, or cannot be told."""
        if self._memory is None or capture in self.alone:
            return None
        if capture not in self._caches:
            while len(self._caches) >= _OPEN:
                self._caches.popitem(last=False)
            try:
                self._caches[capture] = self._memory(capture)
            except WorkbenchError as error:
                self.alone[capture] = error.message
                return None
        self._caches.move_to_end(capture)
        return self._caches[capture]

    def opened(self, capture: CaptureId) -> Opened:
        """Return a moment's file systems, with what could not be opened.

        Raises
        ------
        UsageError
            If the case does not have the capture.
        DiskError, StoreError
        """
        if capture not in self._open:
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)
            cache = self.page_cache(capture)
            self._open[capture] = self._opener(self.store.view(capture), *(() if cache is None else (cache,)))
        self._open.move_to_end(capture)
        return self._open[capture]

    def walk(self, capture: CaptureId) -> pd.DataFrame:
        """Return `walk_frame` of a capture, made once.

        Raises
        ------
        DiskError, StoreError
        """
        return self._frame(capture, WALK, lambda: self._walked(capture))

    def _walked(self, capture: CaptureId) -> pd.DataFrame:
        opened = self.opened(capture)
        frame = walk_frame(opened.parts)
        frame.attrs["damage"] = [*opened.findings, *frame.attrs["damage"]]
        return frame

    def extents(self, capture: CaptureId) -> pd.DataFrame:
        """Return `extent_frame` of a capture, made once.

        Raises
        ------
        DiskError, StoreError
        """
        return self._frame(capture, EXTENTS, lambda: extent_frame(self.parts(capture), self.walk(capture)))

    def map(self, capture: CaptureId, volume: str) -> ExtentMap:
        """Return who owns which bytes of a volume of a capture.

        Raises
        ------
        DiskError, StoreError
        """
        known = self._maps.get((capture, volume))
        if known is None:
            extents = self.extents(capture)
            known = ExtentMap(extents, volume)
            self._maps.put((capture, volume), known, extents.size)
        return known

    def _frame(self, capture: CaptureId, question: str, made: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        frame = self._frames.get((capture, question))
        if frame is None and self._keeper is not None:
            frame = self._keeper.get(capture, question)
        if frame is None:
            frame = made()
            if self._keeper is not None:
                self._keeper.put(capture, question, frame)
        self._frames.put((capture, question), frame, frame.size)
        return frame

    def close(self) -> None:
        """Forget everything."""
        self._open.clear()
        self._caches.clear()
        self._frames.clear()
        self._maps.clear()
