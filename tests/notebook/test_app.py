"""The dashboard: what is chosen on the timeline is what the open tab shows, and the other tabs ask for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ipywidgets
import pytest
import traitlets
from small import MARKUP, NOON, Forked, inert

import workbench
import workbench.notebook
from workbench.case import Case
from workbench.errors import UsageError

MS = NOON / 1e6
NAMES = ("Explorer", "FileBrowser", "CloneConsole", "RewindButton")


class Told:
    """What the tabs' widgets were asked to show, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []

    def moment(self, name: str) -> type:
        told = self

        class OfAMoment(ipywidgets.Label):  # type: ignore[misc]
            def __init__(self, moment: Any) -> None:
                super().__init__(name)
                self.moment = moment

            def __setattr__(self, key: str, value: Any) -> None:
                if key == "moment":
                    told.log.append((name, value.id))
                super().__setattr__(key, value)

        return OfAMoment

    def diff(self) -> type:
        told = self

        class OfTwo(ipywidgets.Label):  # type: ignore[misc]
            a, b = traitlets.Unicode(), traitlets.Unicode()

            def __init__(self, a: Any, b: Any) -> None:
                super().__init__("DiffView", a=a.id, b=b.id)
                self.guest = a.guest
                told.log.append(("DiffView", (a.id, b.id)))
                self.observe(lambda _change: told.log.append(("DiffView", (self.a, self.b))), ["a", "b"])

        return OfTwo

    def panel(self) -> type:
        told = self

        class OfAGuest(ipywidgets.Label):  # type: ignore[misc]
            def __init__(self, case: Any, guest: str) -> None:
                super().__init__("CapturePanel")
                told.log.append(("CapturePanel", guest))

            def follow(self, timeline: Any) -> Any:
                return self

        return OfAGuest


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    made = {name: told.moment(name) for name in NAMES} | {"DiffView": told.diff(), "CapturePanel": told.panel()}
    for name, kind in made.items():
        monkeypatch.setitem(vars(workbench.notebook), name, kind)
    return told


def test_the_newest_moment_is_shown_first_and_only_in_the_open_tab(case: Case, forked: Forked, told: Told) -> None:
    shown = workbench.app(case)
    assert shown.timeline.selected == forked.ids[24]
    assert told.log == [("Explorer", forked.ids[24])]


def test_a_choice_moves_the_open_tab_and_the_others_when_they_are_opened(
    case: Case, forked: Forked, told: Told
) -> None:
    shown = workbench.app(case)
    shown.turn_to("Files")
    shown.timeline.selected = forked.ids[2]
    shown.timeline.selected = forked.ids[4]
    shown.turn_to("Explorer")
    shown.turn_to("Files")
    assert told.log == [
        ("Explorer", forked.ids[24]), ("FileBrowser", forked.ids[24]), ("FileBrowser", forked.ids[2]),
        ("FileBrowser", forked.ids[4]), ("Explorer", forked.ids[4]),
    ]  # fmt: skip


def test_differences_are_of_the_moment_before_or_of_the_span(case: Case, forked: Forked, told: Told) -> None:
    shown = workbench.app(case)
    shown.turn_to("Differences")
    shown.timeline.selected = forked.ids[20]  # its parent is on the other line
    shown.timeline.brush = [MS + 1000, MS + 7000]
    shown.timeline.brush = [MS + 2500, MS + 3500]  # no capture is within: as if there were none
    ends = [each for name, each in told.log if name == "DiffView"]
    wanted = [(22, 24), (4, 20), (2, 6), (4, 20)]
    assert list(dict.fromkeys(ends))[:3] == [(forked.ids[a], forked.ids[b]) for a, b in wanted[:3]]
    assert ends[-1] == (forked.ids[4], forked.ids[20])


def test_what_cannot_be_shown_is_said(case: Case, forked: Forked, told: Told) -> None:
    shown = workbench.app(case)
    shown.turn_to("Differences")
    shown.timeline.selected = forked.ids[0]
    shown.timeline.selected = ""
    assert shown.turn_to("Rewind") is None
    assert shown.panes["Rewind"].said.value == "Choose a capture on the timeline."
    with pytest.raises(UsageError, match="no tab"):
        shown.turn_to("Weather")


def test_an_error_is_said_in_the_tab_and_does_nothing(
    case: Case, forked: Forked, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_moment: Any) -> Any:
        raise UsageError(f"{MARKUP}\x1b[31m")

    monkeypatch.setitem(vars(workbench.notebook), "Explorer", failing)
    shown = workbench.app(case)
    said = shown.panes["Explorer"].said
    assert MARKUP in said.value  # a Label shows a text as a text
    assert inert(said.value)


def test_a_panel_that_may_be_recording_stays(case: Case, told: Told) -> None:
    shown = workbench.app(case)
    first = shown.turn_to("Capture")
    shown.timeline.selected = ""
    assert shown.turn_to("Capture") is first
    assert [each for each in told.log if each[0] == "CapturePanel"] == [("CapturePanel", "demo")]


def test_an_empty_case_has_an_empty_dashboard(tmp_path: Path, told: Told) -> None:
    with Case.create(tmp_path / "empty") as case:
        shown = workbench.app(case)
        for title in shown.panes:
            assert shown.turn_to(title) is None
        assert told.log == []


def test_it_has_a_still_and_a_repr_without_an_address(case: Case, told: Told) -> None:
    shown = workbench.app(case)
    assert "0x" not in repr(shown)
    data, _ = shown._repr_mimebundle_()
    assert data["text/html"].startswith("<img alt=")
