"""A disk of a moment as an image that other tools read: sparse raw, or qcow2. The whole image or none.

Refuses to overwrite, and to write what was not verified: a damaged block ends the export, and nothing is left. The
qcow2 is version 3 with clusters of 64 KiB, uncompressed, without a backing file; clusters of zeros take no space.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workbench.disk.publishing import new_file, target_errors
from workbench.errors import UnsupportedError, UsageError
from workbench.guest import c_qcow2 as c
from workbench.model import CLUSTER
from workbench.progress import Progress, ProgressEvent, silent
from workbench.store import CaptureView, RegionView
from workbench.store.types import I64

__all__ = ["Format", "export_disk"]

Format = Literal["qcow2", "raw"]
_SECTOR = 512
_BUFFER = 16 << 20


def export_disk(
    view: CaptureView,
    region: str,
    target: Path,
    format: Format = "qcow2",  # noqa: A002
    progress: Progress = silent,
) -> Path:
    """Write a disk of a capture into a new file.

    Parameters
    ----------
    region : str
        "disk:vda" ...
    target : Path
        Must not exist; its directory must.
    format : {"qcow2", "raw"}
    progress : Progress
        Told of bytes of non-zero content.

    Returns
    -------
    Path
        `target`, readable by its owner alone.

    Raises
    ------
    UsageError
        If the target exists, the format is not known, or the capture has no such disk.
    UnsupportedError
        If the disk cannot be a qcow2: its length is not of whole sectors.
    StoreFullError
        If the target's volume is full; nothing is left of the file.
    MissingError, DamagedError, StoreError
        If the case is damaged there, or the file cannot be written.
    """
    disk = view.region(region)
    write = {"qcow2": _write_qcow2, "raw": _write_raw}.get(format)
    if write is None:
        raise UsageError("no such format of images", format=format, cure="Ask for qcow2 or raw.")
    if disk.spec.block_size != CLUSTER:
        raise UsageError("region is not a disk", region=region, cure="Name one whose name begins with disk:.")
    with new_file(Path(target)) as handle, target_errors(target):
        write(handle, disk, progress)
    return Path(target)


def _write_raw(handle: int, disk: RegionView, progress: Progress) -> None:
    os.ftruncate(handle, disk.spec.length)
    for first, content in _runs(disk, progress):
        offset = first * CLUSTER
        _pwrite(handle, content[: disk.spec.length - offset], offset)


def _runs(disk: RegionView, progress: Progress) -> Iterator[tuple[int, memoryview]]:
    """Yield runs of non-zero clusters, index and bytes, and tell of each that was dealt with."""
    task, done, total = f"export of {disk.spec.name}", 0, len(disk.nonzero()) * CLUSTER
    for first, blocks in disk.stored_runs(_BUFFER):
        yield first, blocks.reshape(-1).data
        done += blocks.nbytes
        progress(ProgressEvent(task, done, total))


def _pwrite(handle: int, content: memoryview | bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where what lies in the image, in clusters: header, refcount table, refcount blocks, L1, L2 tables, data."""

    table: int
    blocks: int
    l1: int
    l2: int
    data: int

    @classmethod
    def of(cls, l1: int, l2: int, data: int) -> _Layout:
        """Return the layout of so many clusters: refcounts count themselves, so it grows until it fits."""
        table, blocks = 1, 1
        while True:
            layout = cls(table, blocks, l1, l2, data)
            needed = -(-layout.used // c.REFCOUNT_ENTRIES)
            if needed <= blocks and -(-blocks // c.ENTRIES) <= table:
                return layout
            blocks = max(blocks, needed)
            table = -(-blocks // c.ENTRIES)

    @property
    def blocks_at(self) -> int:
        return 1 + self.table

    @property
    def l1_at(self) -> int:
        return self.blocks_at + self.blocks

    @property
    def l2_at(self) -> int:
        return self.l1_at + self.l1

    @property
    def data_at(self) -> int:
        return self.l2_at + self.l2

    @property
    def used(self) -> int:
        return self.data_at + self.data


def _write_qcow2(handle: int, disk: RegionView, progress: Progress) -> None:
    """Write tables, then content: all clusters of content lie one after the other, in the disk's order."""
    size, index = disk.spec.length, disk.nonzero()
    if size % _SECTOR:
        raise UnsupportedError(
            "a qcow2 has whole sectors, the disk has not", region=disk.spec.name, length=size, cure="Export it as raw."
        )
    entries = max(1, -(-size // c.L2_SPAN))
    spans = np.unique(index // c.ENTRIES)
    layout = _Layout.of(-(-entries * 8 // CLUSTER), len(spans), len(index))
    os.ftruncate(handle, layout.used * CLUSTER)
    _pwrite(handle, _header(size, entries, layout), 0)
    _write_refcounts(handle, layout)
    l1 = np.zeros(entries, ">u8")
    l1[spans] = _entries(layout.l2_at, len(spans))
    _pwrite(handle, l1.tobytes(), layout.l1_at * CLUSTER)
    _write_l2(handle, layout, index, spans)
    offset = layout.data_at * CLUSTER
    for _, content in _runs(disk, progress):
        _pwrite(handle, content, offset)
        offset += len(content)


def _header(size: int, l1_entries: int, layout: _Layout) -> bytes:
    return c.HEADER.pack(
        c.MAGIC, 3, 0, 0, c.CLUSTER_BITS, size, 0, l1_entries, layout.l1_at * CLUSTER, CLUSTER, layout.table,
        0, 0, 0, 0, 0, 4, c.HEADER.size,
    )  # fmt: skip


def _entries(first: int, count: int) -> NDArray[np.uint64]:
    """Return table entries for `count` clusters from `first` on, each used once."""
    offsets = np.arange(first, first + count, dtype=np.uint64) * np.uint64(CLUSTER)
    return offsets | np.uint64(c.COPIED)


def _write_refcounts(handle: int, layout: _Layout) -> None:
    """Every cluster of the file is used once."""
    table = (np.arange(layout.blocks, dtype=np.uint64) + np.uint64(layout.blocks_at)) * np.uint64(CLUSTER)
    _pwrite(handle, table.astype(">u8").tobytes(), CLUSTER)
    for number in range(layout.blocks):
        inside = max(0, min(c.REFCOUNT_ENTRIES, layout.used - number * c.REFCOUNT_ENTRIES))
        _pwrite(handle, np.ones(inside, ">u2").tobytes(), (layout.blocks_at + number) * CLUSTER)


def _write_l2(handle: int, layout: _Layout, index: I64, spans: I64) -> None:
    cuts = index.searchsorted(np.append(spans, spans[-1:] + 1) * c.ENTRIES)
    for number, (begin, end) in enumerate(pairwise(cuts.tolist())):
        table = np.zeros(c.ENTRIES, ">u8")
        table[index[begin:end] % c.ENTRIES] = _entries(layout.data_at + begin, end - begin)
        _pwrite(handle, table.tobytes(), (layout.l2_at + number) * CLUSTER)
