"""The audit: no page is missed under load, and one that is missed is told loudly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from truth import assert_equal_to_guest, nothing_left, standing

from workbench.case import Case, Recording
from workbench.demo import DemoGuest
from workbench.errors import AuditError


@pytest.mark.parametrize("load", ["memory", "disk", "shell"])
def test_no_page_is_missed_under_load(guest: DemoGuest, case: Case, load: str) -> None:
    guest.load(load)
    with case.record(guest.name, audit=True) as recording:
        for _ in range(8):
            assert "audit" in recording.capture("audited").facts["pause_parts_ns"]
    guest.load("off")


class _Forgetful:
    """A tracker that keeps one dirty page of the last block to itself, once."""

    def __init__(self, tracker: Any, block: str) -> None:
        self._tracker = tracker
        self._block = block
        self.kept: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def collect(self) -> dict[str, np.ndarray]:
        dirty: dict[str, np.ndarray] = self._tracker.collect()
        if self.kept is None:
            pages = dirty[self._block]
            self.kept = int(pages[len(pages) // 2])
            dirty[self._block] = pages[pages != self.kept]
        return dirty


def _first_error(guest: DemoGuest, recording: Recording, forgetful: _Forgetful) -> AuditError:
    """A dirty page need not have changed: hide one after the other until one has."""
    for _ in range(20):
        try:
            recording.capture("second")
        except AuditError as error:
            return error
        forgetful.kept = None
        guest.run("dd if=/dev/urandom of=/dev/shm/noise bs=1M count=8")
    return pytest.fail("no missed page was told")


def test_a_missed_page_is_named_and_the_guest_runs_on(guest: DemoGuest, case: Case, tmp_path: Path) -> None:
    with case.record(guest.name, audit=True) as recording:
        first = recording.capture("first")
        guest.run("dd if=/dev/urandom of=/dev/shm/noise bs=1M count=8")
        session = recording.session
        real = session.tracker
        session.tracker = forgetful = _Forgetful(real, "pc.ram")  # type: ignore[assignment]
        told = _first_error(guest, recording, forgetful)
        assert told.facts == {"block": "pc.ram", "first_page": forgetful.kept, "count": 1}
        session.tracker = real
        assert guest.ping() > 0
        assert case.hypervisor.guest(guest.name).is_running()
        with standing(guest):
            assert_equal_to_guest(case, guest, recording.capture("third, compared whole"), tmp_path)
    assert case.store.record(first.id).depth == 0
    assert nothing_left(guest, case)
