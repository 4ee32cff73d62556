"""What a rewind has to write: the blocks in which two captures differ, as the target holds them.

Reads the store only. Refuses to hold more than the differing blocks: a clone streams instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workbench.model import CLUSTER, CaptureId, RegionKind
from workbench.store import CaptureView, CaseStore

__all__ = ["Blocks", "Content", "difference", "disk_runs"]

_RUN = 64
"""Most clusters in one write."""
_GAP = 4
"""Unchanged clusters that are written along rather than starting another write: a monitor command costs more."""


@dataclass(slots=True)
class Blocks:
    """Blocks of one region: ascending indices, shape (n,), and content, shape (n, block_size), uint8."""

    indices: NDArray[np.int64]
    content: NDArray[np.uint8]


@dataclass(slots=True)
class Content:
    """Blocks of the target, per region; grows as the guest writes on."""

    view: CaptureView
    regions: dict[str, Blocks] = field(default_factory=dict)

    def cover(self, differing: Mapping[str, NDArray[np.int64]], kind: RegionKind) -> None:
        """Read from the store what of `differing` is not here yet."""
        for region in self.view.record.regions:
            wanted = differing.get(region.spec.name)
            if region.spec.kind is kind and wanted is not None and len(wanted):
                self._cover(region.spec.name, wanted)

    def _cover(self, name: str, wanted: NDArray[np.int64]) -> None:
        known = self.regions.get(name)
        if known is None:
            self.regions[name] = Blocks(wanted, self.view.region(name).read_blocks(wanted))
            return
        missing = np.setdiff1d(wanted, known.indices, assume_unique=True)
        if not len(missing):
            return
        indices = np.concatenate((known.indices, missing))
        content = np.concatenate((known.content, self.view.region(name).read_blocks(missing)))
        order = np.argsort(indices)
        self.regions[name] = Blocks(indices[order], content[order])

    def keep_only(self, wanted: Mapping[str, NDArray[np.int64]], kind: RegionKind) -> None:
        """Drop blocks of this kind that turned out not to differ."""
        for region in self.view.record.regions:
            name = region.spec.name
            if region.spec.kind is not kind or name not in self.regions:
                continue
            if name in wanted:
                self.regions[name] = self.only(name, wanted[name])
            else:
                del self.regions[name]

    def only(self, name: str, wanted: NDArray[np.int64]) -> Blocks:
        """Return the blocks `wanted` of region `name`; all of them must be covered."""
        known = self.regions[name]
        if len(known.indices) == len(wanted):  # then they are the same ones, and nothing need be copied
            return known
        return Blocks(wanted, known.content[np.searchsorted(known.indices, wanted)])

    def blocks(self, name: str, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the content of the blocks `wanted` of region `name`, from here or the store; nothing is kept."""
        known = self.regions.get(name, Blocks(np.zeros(0, np.int64), np.zeros((0, 0), np.uint8)))
        here = np.isin(wanted, known.indices, assume_unique=True)
        if not here.any():
            return self.view.region(name).read_blocks(wanted)
        content = np.empty((len(wanted), known.content.shape[1]), np.uint8)
        content[here] = known.content[np.searchsorted(known.indices, wanted[here])]
        if not here.all():
            content[~here] = self.view.region(name).read_blocks(wanted[~here])
        return content


def difference(store: CaseStore, now: CaptureId, target: CaptureId, kind: RegionKind) -> dict[str, NDArray[np.int64]]:
    """Return the blocks of this kind in which `target` and `now` differ, per region that both have."""
    shared = _names(store, now, kind) & _names(store, target, kind)
    return {name: indices for name, indices in store.diff(now, target).items() if name in shared and len(indices)}


def _names(store: CaseStore, capture: CaptureId, kind: RegionKind) -> set[str]:
    return {each.spec.name for each in store.record(capture).regions if each.spec.kind is kind}


def disk_runs(blocks: Blocks, view: CaptureView, region: str) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (byte offset, content) of runs of clusters; small gaps are filled with the target's own content."""
    total = view.record.region(region).spec.blocks
    for start, end in _runs(blocks.indices, total):
        wanted = np.arange(start, end)
        inside = np.isin(wanted, blocks.indices, assume_unique=True)
        content = np.empty((len(wanted), CLUSTER), np.uint8)
        content[inside] = blocks.content[np.searchsorted(blocks.indices, wanted[inside])]
        if not inside.all():
            content[~inside] = view.region(region).read_blocks(wanted[~inside])
        yield start * CLUSTER, content


def _runs(indices: NDArray[np.int64], total: int) -> Iterator[tuple[int, int]]:
    """Yield [start, end) runs that hold all of `indices`, bridging gaps up to `_GAP`, at most `_RUN` long."""
    start = end = -1
    for index in indices.tolist():
        if start >= 0 and index - end <= _GAP and index - start < _RUN:
            end = index + 1
            continue
        if start >= 0:
            yield start, end
        start, end = index, index + 1
    if start >= 0:
        yield start, min(end, total)
