"""A clone in a page, with a clone that stands in: what is started, how its time goes, what is said, what is let go."""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, MARKUP, Forked, inert

from workbench.case import Case, Clone, Moment
from workbench.errors import GuestError, UsageError
from workbench.notebook.console import CloneConsole
from workbench.notebook.timeline import Timeline
from workbench.rewind.clone import CloneRecord

PNG = b"\x89PNG\r\n\x1a\nplanted"


class Silent:
    """A console that says nothing until it is closed."""

    def __init__(self) -> None:
        self._end: queue.Queue[bytes] = queue.Queue()
        self.closed = False

    def read(self) -> bytes:
        return self._end.get()

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        self._end.put(b"")


class Played(Clone):
    """A clone without a guest: it notes what was asked of it."""

    def __init__(self, case: Case, record: CloneRecord, *, run: bool) -> None:
        super().__init__(case, record)
        self.asked: list[Any] = []
        self._runs = run
        self.link = Silent()

    @property
    def running(self) -> bool:
        return self._runs

    def console(self) -> Any:
        return self.link

    def screenshot(self) -> bytes:
        return PNG

    def pause(self) -> None:
        self._runs = False

    def resume(self) -> None:
        self._runs = True

    def advance(self, seconds: float, stop: threading.Event | None = None) -> float:
        self.asked.append(seconds)
        self._runs = False
        return seconds

    def capture(self, reason: str = "", **_more: Any) -> Moment:
        self.asked.append(reason)
        return self.case.moment()

    def destroy(self) -> None:
        self.asked.append("destroy")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Played]:
    made: list[Played] = []

    def clone(self: Moment, *, run: bool = True, **_more: Any) -> Played:
        record = CloneRecord(MARKUP, f"uuid-{len(made)}", "test:///", self.id, "/nowhere", "/nowhere", 0, 0.1)
        made.append(Played(self.case, record, run=run))
        return made[-1]

    monkeypatch.setattr(Moment, "clone", clone)
    return made


def done(console: CloneConsole) -> str:
    assert console.work.wait(60)
    return console.work.error


def test_a_console_follows_the_timeline_and_starts_where_it_was_dragged(
    case: Case, forked: Forked, started: list[Played]
) -> None:
    timeline = Timeline(case)
    console = CloneConsole().follow(timeline)
    assert console.buttons["Start"].disabled
    timeline.selected = forked.ids[4]
    assert forked.ids[4][:12] in console.said.value
    timeline.selected = forked.ids[8]
    assert started == []  # following acts on nothing
    console.buttons["Start"].click()
    assert done(console) == ""
    assert started[0].record.capture == forked.ids[8]
    assert console.terminal.connected
    timeline.selected = ""
    assert console.moment is not None
    assert console.moment.id == forked.ids[8]
    console.close()


def test_another_start_ends_the_clone_before(case: Case, started: list[Played]) -> None:
    with CloneConsole(case.moment()) as console:
        console.start()
        done(console)
        console.start()
        assert done(console) == ""
        assert started[0].asked == ["destroy"]
        assert started[0].link.closed
        assert console.clone is started[1]
    assert started[1].asked == ["destroy"]


def test_time_goes_on_by_what_the_clone_ran(case: Case, started: list[Played]) -> None:
    with CloneConsole(case.moment()) as console:
        began = case.moment().time
        console.paused.value = True
        console.start()
        done(console)
        assert console.time == began
        console.advance(2.5)
        assert done(console) == ""
        assert console.time == began + pd.Timedelta(seconds=2.5)
        console.until.value = str(began + pd.Timedelta(seconds=4))
        console.buttons["Go on until"].click()
        done(console)
        assert started[0].asked == [2.5, 1.5]
        assert console.time == began + pd.Timedelta(seconds=4)
        with pytest.raises(UsageError, match="has passed"):
            console.advance_to(str(began))
        with pytest.raises(UsageError, match="no time"):
            console.advance_to("soon")
        console.until.value = MARKUP
        console.buttons["Go on until"].click()
        assert "no time" in console.work.words


def test_pause_and_resume_are_told(case: Case, started: list[Played]) -> None:
    with CloneConsole(case.moment()) as console:
        console.start()
        done(console)
        assert "runs, at about" in console.said.value
        console.buttons["Pause"].click()
        done(console)
        assert "stands, at about" in console.said.value
        console.buttons["Resume"].click()
        done(console)
        assert "runs, at about" in console.said.value


def test_screen_and_capture(case: Case, forked: Forked, started: list[Played]) -> None:
    timeline = Timeline(case)
    timeline.selected = forked.ids[2]
    with CloneConsole().follow(timeline) as console:
        console.start()
        done(console)
        console.show_screen()
        assert done(console) == ""
        assert console.screen.value.startswith('<img alt="Screen of the clone')
        console.reason.value = "after the login"
        forked.append(26)  # as a capture would
        console.buttons["Capture"].click()
        assert done(console) == ""
        assert started[0].asked == ["after the login"]
        assert console.captured is not None
        assert len(timeline.captures()) == 9


def test_a_clone_that_runs_already_is_shown_with_its_moment(case: Case, forked: Forked) -> None:
    record = CloneRecord("mine", "uuid", "test:///", forked.ids[4], "/nowhere", "/nowhere", 0, 0.1)
    clone = Played(case, record, run=True)
    console = CloneConsole(clone)
    assert console.moment is not None
    assert console.moment.id == forked.ids[4]
    assert console.terminal.connected
    console.close()
    assert clone.asked == []  # closing lets go; it ends only what was asked to end
    assert clone.link.closed


def test_without_a_clone_and_without_a_moment_it_is_said_how(case: Case) -> None:
    console = CloneConsole()
    with pytest.raises(UsageError, match="no moment is chosen"):
        console.start()
    console.moment = case.moment()
    console.pause()
    assert "no clone runs" in done(console)
    console.close()


def test_a_clone_that_does_not_start_leaves_none(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Moment, **_more: Any) -> Clone:
        raise GuestError(f"QEMU says {MARKUP}\x1b[31m")

    monkeypatch.setattr(Moment, "clone", fails)
    with CloneConsole(case.moment()) as console:
        console.start()
        assert "QEMU says" in done(console)
        assert inert(console.work.error)
        assert console.clone is None
        assert not console.buttons["Start"].disabled


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_guests_are_inert(tmp_path: Path, started: list[Played], name: str) -> None:
    path = Forked(tmp_path / "hostile").build(name).path
    with Case(path) as case, CloneConsole(case.moment()) as console:
        console.start()
        done(console)
        for text in (console.said.value, repr(console), console.still()):
            assert inert(text)
        assert "<script" not in console.still()


def test_a_static_page_shows_its_words(case: Case, started: list[Played], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    console = CloneConsole(case.moment())
    data, _ = console._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert "nothing started" in data["text/html"]
    console.close()
