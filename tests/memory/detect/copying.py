"""Copies of captures with changed bytes: what an intruder in the kernel would have written, without a kernel module.

A case is copied once; each plant is a capture of its own after the first, and stores only the pages that it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from workbench.memory.detect.reading import Reader
from workbench.memory.physical import PhysicalMemory
from workbench.model import PAGE, RegionKind
from workbench.store import CaptureView, CaseStore

__all__ = ["Changes", "CopiedCase"]


class Changes:
    """Bytes to be written, by physical address, told by virtual ones.

    Parameters
    ----------
    reader : Reader
        Of the capture that is to be changed.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.bytes: dict[int, bytes] = {}

    def word(self, address: int, value: int, size: int = 8) -> None:
        """Write a number."""
        at = self.reader.physical(address)
        assert at is not None, hex(address)
        assert at % PAGE + size <= PAGE
        self.bytes[at] = value.to_bytes(size, "little")

    def unlink(self, entry: int) -> None:
        """Take a `list_head` out of its list, as `list_del_init` does."""
        following, before = self.reader.word(entry), self.reader.word(entry + 8)
        self.word(following + 8, before)
        self.word(before, following)
        self.word(entry, entry)
        self.word(entry + 8, entry)


class CopiedCase:
    """A new case with one capture of another, and plants.

    Parameters
    ----------
    source : CaptureView
    place : Path
        For the new case; must not exist.
    """

    def __init__(self, source: CaptureView, place: Path) -> None:
        record = source.record
        self.store = CaseStore.create(place)
        self.store.add_guest(record.guest, "copied")
        self._writer = self.store.writer(record.guest)
        self._writer.move_to(None)
        self._time = record.time_ns
        with self._writer.begin([region.spec for region in record.regions]) as transaction:
            for region in source.regions:
                if region.spec.kind is RegionKind.STATE:
                    transaction.put_stream(region.spec.name, region.read(0, region.spec.length))
                elif region.spec.kind is RegionKind.MEMORY:
                    index = region.nonzero()
                    transaction.put(region.spec.name, index, region.read_blocks(index))
            self._source = transaction.commit(
                time_ns=self._time, mode=record.mode, reason="copied", facts=dict(record.facts)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def view(self) -> CaptureView:
        """Return the copy, unchanged."""
        return self.store.view(self._source.id)

    def plant(self, changes: Mapping[int, bytes]) -> CaptureView:
        """Return a further capture: the copy with bytes changed at physical addresses, none across pages."""
        memory = PhysicalMemory.of_capture(self.view())
        pages: dict[tuple[str, int], bytearray] = {}
        for address, content in changes.items():
            place = memory.place(address)
            assert place is not None
            page = pages.setdefault((place.region, place.page), bytearray(memory.read(address & -PAGE, PAGE)))
            page[address % PAGE : address % PAGE + len(content)] = content
        self._writer.move_to(self._source.id)
        self._time += 1_000_000_000
        with self._writer.begin([region.spec for region in self._source.regions]) as transaction:
            for (region, page_number), page in pages.items():
                transaction.put(region, np.array([page_number]), np.frombuffer(bytes(page), np.uint8)[None])
            record = transaction.commit(time_ns=self._time, mode=self._source.mode, reason="planted", facts={})
        return self.store.view(record.id)
