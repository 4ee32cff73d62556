"""A recording from a page: how it stands in a word, what the sparklines hold, and that it ends with its panel."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, MARKUP, Forked, inert
from waiting import until

from workbench.case import Case, Tick
from workbench.errors import CaptureError, GuestGoneError, UsageError
from workbench.notebook.capturing import CapturePanel
from workbench.notebook.health import health
from workbench.notebook.sparks import POINTS, Sparkline, amount
from workbench.notebook.timeline import Timeline


class Recorded:
    """Stands in for a `Recording`: takes turns as the test gives them, until it is ended."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.turns: list[Tick | BaseException] = []
        self.asked: list[tuple[str, str | None]] = []
        self.closed = threading.Event()
        self._end = threading.Event()
        self.interval = 0.0

    def watch(self, interval: float, listener: Callable[[Tick], None]) -> None:
        self.interval = interval
        while not self._end.wait(0.01):
            while self.turns:
                turn = self.turns.pop(0)
                if isinstance(turn, BaseException):
                    raise turn
                listener(turn)

    def request(self, reason: str, *, mark: str | None = None) -> None:
        self.asked.append((reason, mark))

    def end(self) -> None:
        self._end.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.closed.set()


@pytest.fixture
def recorded(case: Case, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    made = Recorded(case)
    monkeypatch.setattr(case, "record", lambda _guest, **_more: made)
    return made


def turn(case: Case, **more: Any) -> Tick:
    return Tick(case.moment().record, None, **more)


def failed() -> Tick:
    return Tick(None, CaptureError(f"no room {MARKUP}\x1b"))


# How it stands.


def test_health_is_a_word_and_why(case: Case) -> None:
    held, late = turn(case), turn(case, skipped=3)

    def word(*ticks: Tick, running: bool = True, failure: BaseException | None = None) -> str:
        return health(ticks, 2.0, running=running, failure=failure).word

    assert word(running=False) == "idle"
    assert word() == "starting"
    assert word(held, held) == "recording"
    assert word(late, late, held) == "recording"  # the first captures of a session always take longer
    assert word(held, held, held, late, held) == "degraded"
    assert word(held, failed()) == "failing"
    assert word(failed(), held) == "recording"
    assert word(held, running=False, failure=GuestGoneError("gone")) == "ended"


def test_what_is_wrong_is_told_inert() -> None:
    told = health([failed()], 2.0, running=True)
    assert "no room" in told.why
    assert inert(told.why)


# The panel.


def test_a_recording_is_started_shown_and_ended(case: Case, recorded: Recorded) -> None:
    panel = CapturePanel(case, interval=0.5)
    assert panel.guest == "demo"
    panel.start_button.click()
    recorded.turns += [turn(case), turn(case)]
    until(lambda: panel.captures == 2)
    until(lambda: len(panel.size.points) == 2)
    assert recorded.interval == 0.5
    assert panel.pause.points == [24.0, 24.0]  # what the planted captures say of their pause
    assert panel.health.word == "recording"
    assert panel.start_button.disabled
    with pytest.raises(UsageError, match="already"):
        panel.start()
    panel.stop()
    assert recorded.closed.is_set()
    assert not panel.recording
    assert not panel.start_button.disabled
    assert "idle" in panel.said.value
    panel.close()


def test_a_mark_is_asked_for_with_its_note(case: Case, recorded: Recorded) -> None:
    with CapturePanel(case) as panel:
        with pytest.raises(UsageError, match="nothing is being recorded"):
            panel.mark("too early")
        panel.start()
        until(lambda: not panel.mark_button.disabled and panel._session.recording)
        panel.name.value, panel.note.value = " login ", "alice came in"
        panel.mark_button.click()
        assert recorded.asked == [("alice came in", "login")]
        assert panel.name.value == ""


def test_what_ended_a_recording_is_said_and_it_may_be_started_again(case: Case, recorded: Recorded) -> None:
    with CapturePanel(case) as panel:
        panel.start()
        recorded.turns += [failed(), GuestGoneError(f"gone {MARKUP}\x1b")]
        until(lambda: not panel.recording and "gone" in panel.said.value)
        assert panel.health.word == "ended"
        assert inert(panel.said.value)
        assert "<script" not in panel.said.value
        assert recorded.closed.is_set()
        panel.start()
        assert panel.recording


def test_closing_the_panel_ends_the_recording(case: Case, recorded: Recorded) -> None:
    panel = CapturePanel(case)
    panel.start()
    panel.close()
    assert recorded.closed.is_set()


def test_the_end_of_the_kernel_ends_the_recording(case: Case, recorded: Recorded) -> None:
    """At the end of the interpreter, finalizers run: this calls the panel's as that does."""
    panel = CapturePanel(case)
    panel.start()
    assert panel._ending.atexit
    panel._ending()
    assert recorded.closed.is_set()
    panel.close()


def test_a_timeline_that_is_followed_shows_each_capture(case: Case, forked: Forked, recorded: Recorded) -> None:
    timeline = Timeline(case)
    with CapturePanel(case).follow(timeline) as panel:
        panel.start()
        forked.append(26)
        recorded.turns.append(turn(case))
        until(lambda: len(timeline.captures()) == 9)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_guests_are_inert(tmp_path: Path, name: str) -> None:
    with Case(Forked(tmp_path / "hostile").build(name).path) as case, CapturePanel(case) as panel:
        assert inert(repr(panel))
        assert inert(panel.still())
        assert "<script" not in panel.still()


def test_a_static_page_shows_how_it_stands(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    with CapturePanel(case) as panel:
        data, _ = panel._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert "idle" in data["text/html"]
    assert data["text/html"].count("data:image/svg+xml;base64,") == 2


# Sparklines.


def test_a_sparkline_says_newest_median_and_most() -> None:
    line = Sparkline("Stored", "B", [1000.0, 3000.0])
    line.add(2_500_000.0)
    assert line.words == "2.5 MB (median 3 kB, most 2.5 MB)"
    assert Sparkline("Paused", "ms").words == "nothing yet"


def test_a_sparkline_keeps_what_can_be_told_apart() -> None:
    line = Sparkline("Paused", "ms", range(POINTS + 50))
    assert len(line.points) == POINTS
    assert line.points[-1] == POINTS + 49
    line.add(float("nan"))
    assert line.points[-1] == 0.0


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (36_300_000, "B", "36.3 MB"),
        (11.26, "ms", "11.3 ms"),
        (1234, "ms", "1,234 ms"),
    ],
)
def test_amounts(value: float, unit: str, words: str) -> None:
    assert amount(value, unit) == words
