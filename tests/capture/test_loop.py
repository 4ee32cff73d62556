"""The capture loop: its interval, requests in between, what it tells when it cannot keep up, and how it ends."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Any

import pytest
from waiting import until

from workbench.capture.quiesce import Quiesce
from workbench.capture.schedule import CaptureLoop, Tick
from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.errors import CaptureError, GuestGoneError, HypervisorLostError, UsageError, WorkbenchError
from workbench.model import CaptureId, CaptureMode, CaptureRecord, GuestId


class Session:
    """Stands for a session whose captures take a known time or fail: a real one cannot be made to."""

    def __init__(self, seconds: float = 0.0, error: WorkbenchError | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.taken: list[tuple[CaptureMode, str, dict[str, Any]]] = []

    def capture(
        self, mode: CaptureMode, reason: str, *, extra_facts: dict[str, Any], quiesce: Quiesce | None = None
    ) -> CaptureRecord:
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
    passed = time.monotonic() - began
    assert passed >= 4 * 0.2
    assert [tick.error for tick in ticks] == [None] * 5
    assert 4 + sum(tick.skipped for tick in ticks) <= int(passed / 0.2)  # a busy host may skip some


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
    assert min(tick.skipped for tick in ticks[2:]) == 0
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
        until(lambda: heard, "the first capture")
        recording.request("the alarm", mark="alert-1")
        assert done.wait(120)
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


@pytest.mark.parametrize("kind", [GuestGoneError, HypervisorLostError])
def test_a_guest_or_a_libvirt_that_is_gone_ends_it_at_once(kind: type[WorkbenchError]) -> None:
    with pytest.raises(kind):
        run_for(Session(error=kind("gone")), 0.2, 50)


@pytest.mark.parametrize("interval", [0.0, -1.0, 0.1, 1e9, float("nan")])
def test_an_interval_that_cannot_be_meant_is_refused(interval: float) -> None:
    with pytest.raises(UsageError):
        CaptureLoop(Session(), interval)  # type: ignore[arg-type]


def test_loops_with_phases_take_turns_and_no_tick_comes_later_for_it() -> None:
    """Two loops of one interval, half of it apart: by the clock that they share, each stays in its half."""
    interval = 0.6
    taken: dict[float, list[tuple[float, int]]] = {0.1: [], 0.4: []}

    def run(phase: float) -> None:
        loop = CaptureLoop(Session(), interval)  # type: ignore[arg-type]

        def listen(tick: Tick) -> None:
            taken[phase].append((loop._due, tick.skipped))
            loop.set_interval(interval, phase)
            if len(taken[phase]) == 6:
                loop.stop()

        loop.run(listen)

    loops = [threading.Thread(target=run, args=(phase,)) for phase in taken]
    for each in loops:
        each.start()
    for each in loops:
        each.join()
    for phase, dues in taken.items():
        for (earlier, _), (later, skipped) in pairwise(dues):
            assert later - earlier <= interval * (1 + skipped) + 1e-3
        off = [(due - phase + interval / 2) % interval - interval / 2 for due, _ in dues[1:]]
        assert off == pytest.approx([0.0] * 5, abs=1e-3)


@pytest.mark.parametrize("phase", [0.0, 0.3, 1.99, 7.0])
@pytest.mark.parametrize("since", [100.0, 100.3, 101.9999999, 12345.678])
def test_the_tick_after_an_instant_falls_due_within_an_interval_and_at_its_phase(phase: float, since: float) -> None:
    loop = CaptureLoop(Session(), 2.0)  # type: ignore[arg-type]
    loop.set_interval(2.0, phase)
    due = loop._following(since)
    assert since < due <= since + 2.0 + 1e-9
    assert (due - phase + 1e-3) % 2.0 == pytest.approx(1e-3, abs=1e-5)
    assert loop._following(due) == pytest.approx(due + 2.0)
