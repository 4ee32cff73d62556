"""The timeline without a page: what its traits hold, how the columns are laid out, what is appended, what is saved."""

from __future__ import annotations

import gc
import os
import re
import struct
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import traitlets
from nbconvert import HTMLExporter

sys.path.insert(0, os.path.dirname(__file__))

from small import CONTROL, GUEST, HOSTILE, LONG, MARKUP, NOON, Forked, Large, S, inert
from waiting import until

from workbench.case import Case
from workbench.errors import UsageError
from workbench.model import GuestId
from workbench.notebook.history import MODES, MOST_LANES, read_history
from workbench.notebook.timeline import Timeline
from workbench.store import CaseStore
from workbench.timeline.forks import fork_mark

MS = NOON / 1e6


def columns_of(data: bytes) -> dict[str, np.ndarray]:
    """Read the columns as the module's docstring describes them."""
    count = len(data) // 23
    found, offset = {}, 0
    for name, kind in {
        "time": "<f8",
        "high": "<u4",
        "low": "<u4",
        "written": "<f4",
        "lane": "<u2",
        "mode": "u1",
    }.items():
        found[name] = np.frombuffer(data, kind, count, offset)
        offset += found[name].nbytes
    assert offset == len(data)
    return found


def test_columns_are_laid_out_as_described(case: Case, forked: Forked) -> None:
    told = columns_of(Timeline(case).columns)
    assert list(told["time"]) == [MS + second * 1000 for second in (0, 2, 4, 6, 8, 20, 22, 24)]
    assert [f"{high:08x}{low:08x}" for high, low in zip(told["high"], told["low"], strict=True)] == [
        capture[:16] for capture in forked.ids.values()
    ]
    assert list(told["lane"]) == [0, 0, 0, 0, 0, 1, 1, 1]
    assert [MODES[each] for each in told["mode"]][6:] == ["event", "continuous"]
    assert list(told["written"]) == [second + 16 for second in (0, 2, 4, 6, 8, 20, 22, 24)]  # pages, and one cluster


def test_a_rewind_is_a_fork_and_the_present_is_at_the_end(case: Case) -> None:
    shown = Timeline(case)
    assert [each["label"] for each in shown.lanes] == ["demo", "branch 1 of demo"]
    assert shown.forks == [{"from_time": MS + 4000, "from": 0, "time": MS + 20_000, "lane": 1}]
    assert shown.here == [{"time": MS + 24_000, "lane": 1}]


def test_after_a_rewind_without_a_capture_the_present_is_its_target(case: Case, forked: Forked) -> None:
    from workbench.model import Mark

    guest = case.guest().id
    case.store.add_mark(Mark("rewind-1", guest, NOON + 30 * S, forked.ids[6], "rewind"))
    assert Timeline(case).here == [{"time": MS + 6000, "lane": 0}]


def test_marks_have_the_capture_that_shows_them(case: Case, forked: Forked) -> None:
    from workbench.model import Mark

    case.store.add_mark(Mark("between", case.guest().id, NOON + 7 * S))
    found = {each["name"]: each for each in Timeline(case).marks}
    assert found["between"]["capture"] == forked.ids[6][:16]
    assert found["alert-7"] == {
        "name": "alert-7", "note": "planted", "kind": "alert", "time": MS + 22_000, "lane": 1,
        "capture": forked.ids[22][:16],
    }  # fmt: skip


def test_a_choice_becomes_a_whole_id_and_a_moment(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    assert shown.selected_moment is None
    shown.selected = forked.ids[22][:16]
    assert shown.selected == forked.ids[22]
    moment = shown.selected_moment
    assert moment is not None
    assert moment.id == forked.ids[22]
    assert ["marks", "alert-7"] in shown.about
    shown.select("before:alert-7")
    assert shown.selected == forked.ids[20]
    shown.selected = ""
    assert shown.about == []


@pytest.mark.parametrize("wrong", ["ffff" * 16, "0", "nonsense", MARKUP])
def test_what_is_no_capture_is_refused_and_changes_nothing(case: Case, forked: Forked, wrong: str) -> None:
    shown = Timeline(case)
    shown.selected = forked.ids[0]
    with pytest.raises(traitlets.TraitError):
        shown.selected = wrong
    assert shown.selected == forked.ids[0]


def test_a_choice_of_the_page_is_answered_with_the_whole_id(
    case: Case, forked: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page sends 16 digits; the kernel's answer must go back, since it is another value."""
    shown, sent = Timeline(case), []
    monkeypatch.setattr(shown.comm, "send", lambda data=None, **more: sent.append(data))
    shown.set_state({"selected": forked.ids[4][:16]})
    answers = [each["state"]["selected"] for each in sent if each["method"] == "update" and "selected" in each["state"]]
    assert answers[-1] == forked.ids[4]


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 2.0, 3.0], [float("nan"), 1.0], [0.0, float("inf")]])
def test_a_span_is_two_finite_times(case: Case, wrong: list[float]) -> None:
    shown = Timeline(case)
    for trait in ("brush", "view"):
        with pytest.raises(traitlets.TraitError):
            setattr(shown, trait, wrong)


def test_a_span_chooses_captures(case: Case) -> None:
    shown = Timeline(case)
    assert len(shown.captures()) == 8
    shown.brush = [MS + 8000, MS + 2000]
    assert shown.brush == [MS + 2000, MS + 8000]
    assert shown.brushed == (pd.Timestamp(NOON + 2 * S, tz="UTC"), pd.Timestamp(NOON + 8 * S, tz="UTC"))
    assert len(shown.captures()) == 4


def test_only_what_is_appended_is_sent_again(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    base = shown.columns
    assert shown.refresh() == 0
    forked.append(26)
    forked.append(28)
    assert shown.refresh() == 2
    assert shown.columns == base
    assert list(columns_of(shown.fresh)["time"]) == [MS + 26_000, MS + 28_000]
    assert shown.here == [{"time": MS + 28_000, "lane": 1}]


def test_a_live_timeline_looks_by_itself_and_ends_with_its_widget(case: Case, forked: Forked) -> None:
    shown = Timeline(case, every=0.05)
    shown.live = True
    forked.append(26)
    until(lambda: shown.fresh, "the capture is seen")
    assert len(shown.fresh) == 23
    shown.close()
    until(lambda: not any(each.name == "timeline" for each in threading.enumerate()), "its thread ends")


def test_a_note_is_a_mark_in_the_case(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    with pytest.raises(UsageError, match="no moment"):
        shown.note("flag")
    shown.selected = forked.ids[6]
    shown._asked(shown, {"ask": "note", "name": " flag ", "note": MARKUP}, [])
    mark = next(each for each in case.marks() if each.name == "flag")
    assert (mark.capture, mark.note) == (forked.ids[6], MARKUP)
    assert [each["name"] for each in shown.marks] == ["demo", "flag", "alert-7"]


@pytest.mark.parametrize("message", [None, 7, {}, {"ask": ["note"]}, {"ask": "note", "name": None}, {"ask": "delete"}])
def test_a_strange_message_does_no_harm(case: Case, message: object) -> None:
    shown = Timeline(case)
    shown._asked(shown, message, [])
    assert len(case.marks()) == 2


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_what_a_page_gets_is_inert(tmp_path: Path, name: str) -> None:
    forked = Forked(tmp_path / "case").build(name)
    with Case(forked.path) as case:
        shown = Timeline(case)
        shown.selected = forked.ids[22]
        texts = [repr(shown), shown.said, *(value for pair in shown.about for value in pair)]
        texts += [str(value) for each in (*shown.lanes, *shown.marks) for value in each.values()]
        assert all(inert(text) for text in texts)
    assert not inert(CONTROL)  # what is looked for would be found
    assert not inert(LONG)


def test_an_empty_case_is_shown_as_empty(tmp_path: Path) -> None:
    with Case.create(tmp_path / "case") as case:
        shown = Timeline(case)
        assert (shown.columns, shown.lanes, shown.said) == (b"", [], "no captures")
        assert "No captures." in shown.picture()
        assert shown.refresh() == 0


def test_more_branches_than_a_page_can_show_share_the_last_lane() -> None:
    history = read_history(Large(1000, branches=500))
    assert len(history.lanes) == MOST_LANES
    assert history.frame["lane"].max() == MOST_LANES - 1
    assert history.untold == f"{500 - MOST_LANES} further branches share the last lane"


def test_a_repr_has_no_address_and_every_view_has_a_picture(case: Case) -> None:
    shown = Timeline(case)
    assert repr(shown) == "<Timeline of 8 captures in 2 lanes>"
    data, _ = shown._repr_mimebundle_()
    assert data["text/html"].startswith('<img alt="')
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_report_shows_the_picture_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that finds a widget in an output takes it before the picture, and shows a blank."""
    shown = Timeline(case)
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    data, _ = shown._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell(
        "timeline", outputs=[nbformat.v4.new_output("execute_result", data, execution_count=1)]
    )
    html, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert data["text/html"].split('"')[-2] in html  # the picture itself


def test_the_module_asks_the_network_for_nothing() -> None:
    code = Timeline._esm
    asking = r"^\s*import\b|\bimport\(|\bfetch\(|XMLHttpRequest|WebSocket|innerHTML|insertAdjacent|eval\("
    assert re.findall(asking, code, re.MULTILINE) == []
    assert set(re.findall(r"https?://[^\"'\s]+", code + Timeline._css)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in Timeline._css


def test_100_000_captures_are_2_3_megabytes() -> None:
    shown = Timeline(Large(100_000))
    assert len(shown.columns) == 2_300_000
    assert struct.unpack_from("<d", shown.columns)[0] >= MS


def test_a_widget_that_is_closed_can_go(case: Case) -> None:
    shown = Timeline(case)
    gone = weakref.ref(shown)
    shown.close()
    del shown
    gc.collect()
    assert gone() is None


class Cloned:
    """A case that has clones, without a hypervisor."""

    def __init__(self, case: Case, *clones: tuple[str, str, int]) -> None:
        self._case = case
        self._clones = [
            SimpleNamespace(name=name, record=SimpleNamespace(capture=capture, started_ns=started))
            for name, capture, started in clones
        ]

    def __getattr__(self, name: str) -> object:
        return getattr(self._case, name)

    def clones(self) -> list[SimpleNamespace]:
        return self._clones


def test_a_clone_is_a_bar_at_the_moment_it_began_at(case: Case, forked: Forked) -> None:
    later = NOON + 10**6 * S
    shown = Timeline(Cloned(case, (MARKUP, forked.ids[6], later), ("gone", "f" * 64, later)))
    run = {"name": MARKUP, "capture": forked.ids[6][:16], "time": MS + 6000, "lane": 0, "started": later / 1e6}
    assert shown.runs == [run]
    assert MARKUP not in shown.picture()
    assert shown.picture().count("#CC79A7") == 1


def test_a_clone_that_comes_is_seen_when_it_is_looked_for(case: Case, forked: Forked) -> None:
    source = Cloned(case)
    shown = Timeline(source)
    source._clones += Cloned(case, ("later", forked.ids[0], NOON))._clones
    assert shown.refresh() == 0
    assert [each["name"] for each in shown.runs] == ["later"]


def test_captures_of_a_clone_fork_from_its_moment(case: Case, forked: Forked) -> None:
    clone = GuestId("7d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
    case.store.add_guest(clone, "z-clone")
    with case.store.writer(clone) as writer:
        Forked(forked.path).take(writer, 40, reason=f"clone of {forked.ids[6][:12]}: after the fact")
    assert Timeline(case).forks[-1] == {
        "from_time": MS + 6000, "from": 0, "time": MS + 40_000, "lane": 2, "clone": True,
    }  # fmt: skip


def fork_off(case: Case, forked: Forked, second: int, digit: str, *times: int) -> GuestId:
    """Capture a clone of a moment, as `Clone.capture` does: a guest of its own, and a mark where it began."""
    clone = GuestId(f"{digit}d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
    case.store.add_guest(clone, f"{MARKUP[:20]}-{digit}")
    own = Forked(forked.path)
    with case.store.writer(clone) as writer:
        for time_s in times:
            own.take(writer, time_s, reason=f"clone of {forked.ids[second][:12]}: after the fact")
    origin = case.store.record(forked.ids[second])
    case.store.add_mark(fork_mark(origin, clone, f"clone {digit}"))
    return clone


def test_captures_of_a_clone_stand_once_as_a_branch_that_forks_where_it_began(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    clone = fork_off(case, forked, 6, "7", 40, 42)
    assert shown.refresh() == 2
    for each in (shown, Timeline(case), Timeline(case, "demo")):
        assert len(each._history.ids) == len(set(each._history.ids)) == 10
        assert [lane["label"] for lane in each.lanes] == ["demo", "branch 1 of demo", "branch 2 of demo"]
        assert each.forks[-1] == {
            "from_time": MS + 6000, "from": 0, "time": MS + 40_000, "lane": 2, "clone": True,
        }  # fmt: skip
        assert each.here == [{"time": MS + 24_000, "lane": 1}]  # the guest's own present, not its clone's
        assert each.picture().count("<path") > 0
    shown.selected = shown._history.ids[-1]
    assert shown.selected_moment.guest.id == clone
    assert len(Timeline(case, str(clone))._history.ids) == 2


def test_a_rewind_after_a_clone_moves_the_numbers_of_branches_and_no_capture(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    fork_off(case, forked, 6, "7", 40)
    fork_off(case, forked, 22, "8", 41)
    shown.refresh()
    store = CaseStore.open(forked.path)
    with store.writer(GUEST) as writer:
        writer.move_to(forked.ids[8])
        forked.take(writer, 50, 2)
    assert shown.refresh() == 1
    again = Timeline(case)
    assert (shown.lanes, shown.forks, shown.here) == (again.lanes, again.forks, again.here)
    pd.testing.assert_frame_equal(shown._history.frame, again._history.frame)
    forks = {(each["time"] - MS, each["from_time"] - MS, each.get("clone", False)) for each in shown.forks}
    assert forks == {(20_000, 4000, False), (50_000, 8000, False), (40_000, 6000, True), (41_000, 22_000, True)}


def test_a_choice_has_a_link_that_the_case_follows(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    assert shown.link == ""
    shown.selected = forked.ids[22][:16]
    assert case.moment(shown.link).id == forked.ids[22]
    shown.selected = ""
    assert shown.link == ""


def test_what_was_read_is_not_read_again_and_the_frame_is_as_if_it_were(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    forked.append(26)
    case.mark("late", f"id:{forked.ids[4]}")
    for path in sorted((forked.path / "guests").glob("*/captures/*.capture"))[:8]:
        path.rename(path.with_suffix(".away"))
        path.touch()  # of what was read the names are looked at, and nothing else
    with Case(forked.path) as fresh:  # which has read nothing yet
        shown.case = fresh
        assert shown.refresh() == 1
    for path in (forked.path / "guests").glob("*/captures/*.away"):
        path.rename(path.with_suffix(".capture"))
    with Case(forked.path) as again:
        pd.testing.assert_frame_equal(shown._history.frame, read_history(again).frame)


def test_captures_that_are_gone_are_no_longer_shown(case: Case, forked: Forked) -> None:
    shown = Timeline(case)
    for second in (24, 0):
        next((forked.path / "guests").glob(f"*/captures/*{forked.ids[second]}.capture")).unlink()
        shown.refresh()
    assert [each[:16] for each in shown._history.ids] == [forked.ids[at][:16] for at in (2, 4, 6, 8, 20, 22)]
