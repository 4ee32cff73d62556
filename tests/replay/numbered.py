"""A case whose captures carry a number in their memory, with a rewind in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workbench.case import Moment
from workbench.model import CaptureId, CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore, Writer, plan_prune

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
OTHER = GuestId("0e7f3a52-9b1c-4e6d-8f00-ba9876543210")
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 4 * 4096, 4096)
START_NS = 1_700_000_000_000_000_000


@dataclass
class Numbered:
    """Captures 0 to 29 on one line, and 30 to 49 on a branch from capture 19; one of another guest."""

    path: Path
    ids: list[CaptureId] = field(default_factory=list)
    stranger: CaptureId | None = None

    def build(self) -> Numbered:
        store = CaseStore.create(self.path)
        for guest, name in ((GUEST, "demo"), (OTHER, "other")):
            store.add_guest(guest, name)
        with store.writer(GUEST) as writer:
            writer.move_to(None)
            self.ids = [self._take(writer, number) for number in range(30)]
            writer.move_to(self.ids[19])
            self.ids += [self._take(writer, number, 1 if number == 30 else None) for number in range(30, 50)]
        with store.writer(OTHER) as writer:
            writer.move_to(None)
            self.stranger = self._take(writer, 99)
        return self

    def _take(self, writer: Writer, number: int, branch: int | None = None) -> CaptureId:
        with writer.begin([RAM], branch=branch) as transaction:
            transaction.put("pc.ram", np.array([0]), np.full((1, 4096), number, np.uint8))
            when = START_NS + number * 2_000_000_000
            return transaction.commit(time_ns=when, mode=CaptureMode.CONTINUOUS, reason="", facts={}).id

    def prune(self, *numbers: int) -> None:
        plan_prune(CaseStore.open(self.path), GUEST, [self.ids[number] for number in numbers]).execute(patience_s=0)


def number_of(moment: Moment) -> int:
    """Which capture it is, as its memory says."""
    return moment.read("pc.ram", 0, 1)[0]


def from_number(least: int) -> Callable[[Moment], bool]:
    """Hold from a capture on."""
    return lambda moment: number_of(moment) >= least
