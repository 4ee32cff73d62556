"""A case of three captures without a guest, for a service to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workbench.model import CaptureId, CaptureMode, GuestId, Mark, RegionKind, RegionSpec
from workbench.store import CaseStore

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
NAME = "web1"
NOON = 1_714_566_600_000_000_000
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 16 * 4096, 4096)


def build(path: Path) -> list[CaptureId]:
    """Make it; returns the captures' ids, oldest first."""
    store, made = CaseStore.create(path), []
    store.add_guest(GUEST, NAME)
    with store.writer(GUEST) as writer:
        for number in range(3):
            with writer.begin([RAM]) as transaction:
                transaction.put(RAM.name, np.array([number]), np.full((1, 4096), number + 1, np.uint8))
                time_ns = NOON + number * 2 * 10**9
                record = transaction.commit(time_ns=time_ns, mode=CaptureMode.CONTINUOUS, reason="", facts={})
            made.append(record.id)
    store.add_mark(Mark("alert-7", GUEST, NOON + 10**9, None, "alert", "odd"))
    return made
