"""Captures of memory with known content, without a guest: pages put where a test wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from workbench.guest.memory import MemoryMap, PhysicalRange
from workbench.model import PAGE, CaptureId, CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
PAGES = 4096
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, PAGES * PAGE, PAGE)
ROM = RegionSpec("pc.rom", RegionKind.MEMORY, 16 * PAGE, PAGE)
LAYOUT = RegionSpec("state:layout", RegionKind.STATE, 0, PAGE)
SPLIT = 1 << 32
"""Where the second half of the RAM is: above a hole."""
RANGES = (
    PhysicalRange(0, RAM.length // 2, RAM.name, 0, False),
    PhysicalRange(SPLIT, RAM.length // 2, RAM.name, RAM.length // 2, False),
)
Pages = Mapping[tuple[str, int], bytes]


def page(content: bytes, at: int = 0) -> bytes:
    """A page of zeros with something in it."""
    return bytes(at) + content + bytes(PAGE - at - len(content))


def build(path: Path, captures: Sequence[Pages]) -> tuple[CaseStore, list[CaptureId]]:
    """A case whose captures put pages (by region and number) over those of the capture before."""
    store = CaseStore.create(path)
    store.add_guest(GUEST, "synthetic")
    layout = json.dumps({"memory": MemoryMap((), RANGES).to_json()}).encode()
    made = []
    with store.writer(GUEST) as writer:
        for number, pages in enumerate(captures):
            with writer.begin([RAM, ROM, LAYOUT]) as transaction:
                for spec in (RAM, ROM):
                    mine = sorted((at, content) for (name, at), content in pages.items() if name == spec.name)
                    if mine:
                        blocks = np.frombuffer(b"".join(content for _, content in mine), np.uint8).reshape(-1, PAGE)
                        transaction.put(spec.name, np.array([at for at, _ in mine], np.int64), blocks)
                transaction.put_stream(LAYOUT.name, layout)
                record = transaction.commit(
                    time_ns=(1 + number) * 10**9, mode=CaptureMode.CONTINUOUS, reason=str(number), facts={}
                )
            made.append(record.id)
    return store, made
