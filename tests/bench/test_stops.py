"""Pauses paired from QEMU's events, on made-up ones and on a guest."""

from __future__ import annotations

import time

import pytest

from workbench.bench.stops import Stops
from workbench.demo import DemoGuest
from workbench.errors import GuestError


def watched(*events: tuple[str, float]) -> Stops:
    stops = Stops.__new__(Stops)
    stops.events = list(events)
    return stops


def test_a_pause_is_a_stop_and_the_resume_that_follows() -> None:
    stops = watched(("RESUME", 1.0), ("STOP", 2.0), ("RESUME", 2.5), ("STOP", 3.0), ("STOP", 4.0), ("RESUME", 6.0))
    assert stops.pauses() == [0.5, 2.0]


def test_the_first_pause_after_an_instant() -> None:
    stops = watched(("STOP", 2.0), ("RESUME", 2.5), ("STOP", 3.0), ("RESUME", 6.0))
    assert stops.pause(2.2) == 3.0


def test_an_event_that_does_not_come_is_an_error() -> None:
    with pytest.raises(GuestError, match="no RESUME"):
        watched(("STOP", 2.0)).after("RESUME", 0.0, timeout=0.0)


def test_a_pause_of_a_guest_is_seen_by_the_clock_of_qemu(guest: DemoGuest) -> None:
    with Stops(guest) as stops:
        began = time.time()
        guest.domain.suspend()
        guest.domain.resume()
        ended = time.time()
        assert 0 < stops.pause(began) <= ended - began
