"""The capture loop: its interval, requests in between, what it tells when it cannot keep up, and how it ends."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from workbench.capture.schedule import CaptureLoop, Tick
from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.errors import CaptureError, GuestGoneError, UsageError, WorkbenchError
from workbench.model import CaptureId, CaptureMode, CaptureRecord, GuestId


class Session:
    """Stands for a session whose captures take a known time or fail: a real one cannot be made to."""

    def __init__(self, seconds: float = 0.0, error: WorkbenchError | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.taken: list[tuple[CaptureMode, str, dict[str, Any]]] = []

    def capture(self, mode: CaptureMode, reason: str, *, extra_facts: dict[str, Any]) -> CaptureRecord:
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.taken.append((mode, reason, extra_facts))
        return CaptureRecord(CaptureId("c"), GuestId("g"), None, 0, 0, 0, mode, reason, ())


def run_for(session: Session, interval: float, count: int) -> list[Tick]:
    loop = CaptureLoop(session, interval)  # type: ignore[arg-type]
    ticks: list[Tick] = []

    def listen(tick: Tick) -> None:
        ticks.append(tick)
        if len(ticks) == count:
            loop.stop()

    loop.run(listen)
    return ticks


def test_a_capture_every_interval() -> None:
    began = time.monotonic()
    ticks = run_for(Session(), 0.2, 5)
    assert time.monotonic() - began >= 4 * 0.2
    assert [(tick.error, tick.skipped) for tick in ticks] == [(None, 0)] * 5


def test_an_interval_that_cannot_be_held_is_told_and_never_queued() -> None:
    session = Session(seconds=0.5)
    ticks = run_for(session, 0.2, 4)
    assert [tick.skipped >= 1 for tick in ticks] == [False, True, True, True]
    assert [facts["skipped_ticks"] for _mode, _reason, facts in session.taken] == [tick.skipped for tick in ticks]
    assert {facts["interval_asked_s"] for _mode, _reason, facts in session.taken} == {0.2}


def test_ticks_that_were_skipped_are_over() -> None:
    """After one slow capture the loop is back at its ticks, and has counted each that passed once."""
    session = Session(seconds=0.9)
    loop = CaptureLoop(session, 0.3)  # type: ignore[arg-type]
    ticks: list[Tick] = []

    def listen(tick: Tick) -> None:
        session.seconds = 0.0
        ticks.append(tick)
        if len(ticks) == 5:
            loop.stop()

    began = time.monotonic()
    loop.run(listen)
    passed = int((time.monotonic() - began) / 0.3)
    assert ticks[1].skipped >= 2
    assert ticks[-1].skipped == 0
    assert sum(tick.skipped for tick in ticks) + len(ticks) - 1 <= passed


def test_a_request_does_not_wait_for_the_interval(guest: DemoGuest, case: Case) -> None:
    heard: list[Tick] = []
    done = threading.Event()

    def listen(tick: Tick) -> None:
        heard.append(tick)
        if tick.record is not None and tick.record.mode is CaptureMode.EVENT:
            done.set()

    with case.record(guest.name) as recording:
        recording.start(60, listen)
        recording.request("the alarm", mark="alert-1")
        assert done.wait(30)
        with pytest.raises(UsageError):
            recording.capture("not beside a watch")
    assert [str(tick.record.mode) for tick in heard if tick.record] == ["continuous", "event"]
    assert case.moment("alert-1").record.reason == "the alarm"
    assert case.moment("before:alert-1").id == heard[0].record.id  # type: ignore[union-attr]


def test_ten_failures_in_a_row_end_it_and_one_does_not() -> None:
    with pytest.raises(CaptureError, match="planted"):
        run_for(Session(error=CaptureError("planted")), 0.2, 50)
    ticks = run_for(Session(error=CaptureError("planted")), 0.2, 9)
    assert [str(tick.error) for tick in ticks] == ["planted"] * 9


def test_a_guest_that_is_gone_ends_it_at_once() -> None:
    with pytest.raises(GuestGoneError):
        run_for(Session(error=GuestGoneError("gone")), 0.2, 50)


@pytest.mark.parametrize("interval", [0.0, -1.0, 0.1, 1e9, float("nan")])
def test_an_interval_that_cannot_be_meant_is_refused(interval: float) -> None:
    with pytest.raises(UsageError):
        CaptureLoop(Session(), interval)  # type: ignore[arg-type]
