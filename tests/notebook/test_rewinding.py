"""A rewind from a page: the plan first, production only by the guest's name, undo, and nothing by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import until

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, MARKUP, Forked, inert

from workbench.case import Case
from workbench.errors import RewindError, UsageError
from workbench.model import Mark
from workbench.notebook.rewinding import RewindButton
from workbench.notebook.timeline import Timeline
from workbench.progress import ProgressEvent
from workbench.rewind.outcome import Rewound


class Asked:
    """Stands in for `Case.rewind`: notes plan and confirmation."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.calls: list[tuple[str, str, str | None]] = []
        self.error: Exception | None = None

    def __call__(self, plan: Any, *, confirm: str | None = None, progress: Any = None, **_more: Any) -> Any:
        progress(ProgressEvent("writing"))
        self.calls.append((plan.target.id, plan.mode, confirm))
        if self.error is not None:
            raise self.error
        return Rewound(plan.target, plan.present, "in place", 250_000_000, 1, 1, {})


@pytest.fixture
def asked(case: Case, monkeypatch: pytest.MonkeyPatch) -> Asked:
    stand_in = Asked(case)
    monkeypatch.setattr(case, "rewind", stand_in)
    return stand_in


def planned(button: RewindButton) -> RewindButton:
    assert button.work.wait(60)
    assert button.work.error == ""
    return button


def test_the_plan_follows_what_the_timeline_has_chosen(case: Case, forked: Forked, asked: Asked) -> None:
    timeline = Timeline(case)
    button = RewindButton().follow(timeline)
    assert button.plan is None
    assert button.go.disabled
    for second in (2, 6):
        timeline.selected = forked.ids[second]
        plan = planned(button).plan
        assert plan is not None
        assert plan.target.id == forked.ids[second]
        assert forked.ids[second][:12] in button.shown.value
    assert asked.calls == []


def test_production_waits_for_the_guests_name(case: Case, forked: Forked, asked: Asked) -> None:
    button = planned(RewindButton(case.moment(f"id:{forked.ids[2]}"), "production"))
    assert button.go.disabled
    assert "type its name" in button.said.value
    with pytest.raises(UsageError):
        button.rewind()
    for wrong in ("Demo", "demo ", "dem"):
        button.confirm.value = wrong
        assert button.go.disabled
    button.confirm.value = "demo"
    assert not button.go.disabled
    button.go.click()
    planned(button)
    assert asked.calls == [(forked.ids[2], "production", "demo")]
    assert "stood still for 0.25 s" in button.said.value
    assert button.go.disabled  # another click does nothing
    assert button.confirm.value == ""


def test_a_change_of_the_target_asks_for_the_name_again(case: Case, forked: Forked) -> None:
    button = planned(RewindButton(case.moment(f"id:{forked.ids[2]}"), "production"))
    button.confirm.value = "demo"
    button.moment = case.moment(f"id:{forked.ids[4]}")
    assert planned(button).go.disabled
    button.mode.value = "test"
    assert not planned(button).go.disabled


def test_undo_is_planned_and_shown_before_it_is_done(case: Case, forked: Forked, asked: Asked) -> None:
    newest = max(case.timeline()["time"]).value
    mark = Mark("rewind-9", case.guest().id, newest + 1, forked.ids[2], "rewind", f"safety={forked.ids[24]}")
    case.store.add_mark(mark)
    button = planned(RewindButton(case.moment(f"id:{forked.ids[2]}")))
    button.undo.click()
    plan = planned(button).plan
    assert plan is not None
    assert (plan.target.id, plan.mode) == (forked.ids[24], "production")
    assert asked.calls == []
    button.confirm.value = "demo"
    button.rewind()
    planned(button)
    assert asked.calls == [(forked.ids[24], "production", "demo")]


def test_what_cannot_be_undone_is_said(case: Case) -> None:
    button = planned(RewindButton(case.moment()))
    button.undo.click()
    button.work.wait(60)
    assert "no rewind to undo" in button.work.error


def test_an_error_is_said_and_may_be_tried_again(case: Case, forked: Forked, asked: Asked) -> None:
    asked.error = RewindError(f"refused {MARKUP}\x1b", guest_is="as before")
    button = planned(RewindButton(case.moment(f"id:{forked.ids[2]}"), "production"))
    button.confirm.value = "demo"
    button.rewind()
    button.work.wait(60)
    assert "refused" in button.work.error
    assert inert(button.work.error)
    assert not button.go.disabled


def test_cancel_does_not_break_off_what_is_done_to_the_guest(case: Case, forked: Forked, asked: Asked) -> None:
    button = planned(RewindButton(case.moment(f"id:{forked.ids[2]}"), "production"))
    button.confirm.value = "demo"
    begun = asked.__call__

    def cancelled(plan: Any, **more: Any) -> Any:
        button.work.cancel()
        return begun(plan, **more)

    case.rewind = cancelled  # type: ignore[method-assign]
    button.rewind()
    until(lambda: asked.calls, "the rewind is asked for")
    assert [each[1] for each in asked.calls] == ["production"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_guests_are_inert(tmp_path: Path, name: str) -> None:
    with Case(Forked(tmp_path / "hostile").build(name).path) as case:
        button = planned(RewindButton(case.moment(), "production"))
        for text in (button.shown.value, button.said.value, repr(button)):
            assert inert(text)
        assert "<script" not in button.shown.value


def test_a_static_page_shows_the_plan(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    data, _ = planned(RewindButton(case.moment()))._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert "Rewind of demo" in data["text/html"]
