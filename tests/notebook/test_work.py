"""Long work: the newest answer counts, errors are told in words, Cancel ends what is waited for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import MARKUP, inert

from workbench.errors import UsageError
from workbench.notebook.work import Work
from workbench.progress import Progress, ProgressEvent

LIMIT = 120.0


def test_the_deed_runs_on_another_thread_and_its_result_is_told() -> None:
    work, told = Work(), []
    work.run("look", lambda _progress: threading.current_thread(), told.append)
    assert work.wait(LIMIT)
    assert told[0] is not threading.main_thread()
    assert not work.running
    assert work.layout.display == "none"


def test_while_it_runs_it_says_how_far_it_is() -> None:
    work, reached, go_on = Work(), threading.Event(), threading.Event()

    def deed(progress: Progress) -> None:
        progress(ProgressEvent(f"part {MARKUP}\x1b[2J", 30, 120))
        reached.set()
        go_on.wait(LIMIT)

    work.run("look", deed, lambda _result: None)
    assert reached.wait(LIMIT)
    assert work.running
    assert work._bar.value == 0.25
    assert work.layout.display == ""
    assert work.words.startswith("look: part <img")
    assert inert(work.words)
    assert not work.wait(0.01)
    go_on.set()
    assert work.wait(LIMIT)


def held(go_on: threading.Event, result: str) -> Callable[[Progress], str]:
    def deed(_progress: Progress) -> str:
        go_on.wait(LIMIT)
        return result

    return deed


def test_the_answer_of_an_older_piece_of_work_is_void() -> None:
    work, told, go_on = Work(), [], threading.Event()
    work.run("old", held(go_on, "old"), told.append)
    older = work._thread
    work.run("new", lambda _progress: "new", told.append)
    assert work.wait(LIMIT)
    go_on.set()
    assert older is not None
    older.join(LIMIT)
    assert told == ["new"]
    assert work.error == ""


def test_of_many_pieces_of_work_that_came_meanwhile_the_last_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.notebook.work._YIELD", LIMIT)
    work, told, done, begun, go_on = Work(), [], [], threading.Event(), threading.Event()

    def first(_progress: Progress) -> str:
        begun.set()
        go_on.wait(LIMIT)
        return "first"

    work.run("first", first, told.append)
    assert begun.wait(LIMIT)
    for number in range(20):
        work.run("next", lambda _progress, number=number: done.append(number) or number, told.append)
    go_on.set()
    assert work.wait(LIMIT)
    assert done == [19]
    assert told == [19]


def test_a_void_deed_that_is_long_is_left_where_it_next_tells_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.notebook.work._BEGUN", 0)
    work, begun, go_on, after = Work(), threading.Event(), threading.Event(), []

    def deed(progress: Progress) -> None:
        begun.set()
        go_on.wait(LIMIT)
        progress(ProgressEvent("on"))
        after.append("went on")

    work.run("old", deed, lambda _result: None)
    thread = work._thread
    assert begun.wait(LIMIT)
    work.run("new", lambda _progress: None, lambda _result: None)
    go_on.set()
    assert thread is not None
    thread.join(LIMIT)
    assert after == []


def test_cancel_ends_what_is_waited_for_and_the_answer_is_not_told() -> None:
    go_on, told = threading.Event(), []
    work = Work(cancel=go_on.set)
    work.run("look", held(go_on, "late"), told.append)
    thread = work._thread
    work._button.click()
    assert thread is not None
    thread.join(LIMIT)
    assert (told, work.words, work.running) == ([], "Cancelled.", False)


def test_cancel_without_work_ends_nothing() -> None:
    ended: list[bool] = []
    Work(cancel=lambda: ended.append(True)).cancel()
    assert ended == []


def test_errors_are_told_in_words_that_do_nothing() -> None:
    def ours(_progress: Progress) -> None:
        raise UsageError(f"no file {MARKUP}\x1b]0;x\x07", cure="Ask for another.")

    def theirs(_progress: Progress) -> None:
        raise ZeroDivisionError("by nought")

    work = Work()
    for deed, words in ((ours, "Ask for another."), (theirs, "ZeroDivisionError: by nought")):
        work.run("look", deed, lambda _result: None)
        assert work.wait(LIMIT)
        assert words in work.error
        assert inert(work.words)
        assert work.layout.display == ""


def test_an_error_where_the_answer_is_shown_is_told_too() -> None:
    work = Work()
    work.run("look", lambda _progress: 0, lambda result: 1 // result)
    assert work.wait(LIMIT)
    assert "ZeroDivisionError" in work.error


def test_an_answer_may_begin_the_next_piece_of_work() -> None:
    work, told = Work(), []
    work.run("one", lambda _p: 1, lambda one: work.run("two", lambda _p: one + 1, told.append))
    assert work.wait(LIMIT)
    assert told == [2]
