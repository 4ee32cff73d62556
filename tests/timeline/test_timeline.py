"""Every form of a moment against a history with a fork, whose captures lie at known instants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.errors import AmbiguousMomentError, MomentNotFoundError, UsageError
from workbench.model import CaptureId, CaptureMode, CaptureRef, GuestId, Mark, RegionKind, RegionSpec
from workbench.store import CaseStore, Writer
from workbench.timeline import Timeline

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 16 * 4096, 4096)
NOON = 1_714_566_600_000_000_000  # 2024-05-01T12:30:00Z
S = 10**9
NOW = NOON + 100 * S


def take(writer: Writer, at: int, branch: int | None = None, **facts: object) -> CaptureId:
    transaction = writer.begin([RAM], branch=branch)
    transaction.put(RAM.name, np.array([at % 16]), np.full((1, 4096), at % 255, np.uint8))
    return transaction.commit(time_ns=NOON + at * S, mode=CaptureMode.CONTINUOUS, reason=f"at {at}", facts=facts).id


class History:
    """Line 0 at 0, 2, 4, 6, 8 s; a rewind to 4 s opens line 1 at 20, 22, 24 s."""

    def __init__(self, path: Path) -> None:
        self.store = CaseStore.create(path)
        self.store.add_guest(GUEST, "demo")
        self.timeline = Timeline(self.store, GUEST)
        with self.store.writer(GUEST) as writer:
            self.ids = {
                second: take(writer, second, pause_ns=second * 1000, dirty_pages=second) for second in (0, 2, 4, 6, 8)
            }
            writer.move_to(self.ids[4])
            self.ids |= {second: take(writer, second, 1 if second == 20 else None) for second in (20, 22, 24)}

    def ref(self, second: int) -> CaptureRef:
        return CaptureRef(NOON + second * S, self.ids[second])

    def mark(self, name: str, second: float, capture: CaptureId | None = None) -> None:
        self.store.add_mark(Mark(name, GUEST, NOON + int(second * S), capture))


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "case")


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("latest", 24),
        (" latest ", 24),
        ("2024-05-01T12:30:00Z", 0),
        ("2024-05-01T12:30:01.999999999Z", 0),
        ("2024-05-01T12:30:02", 2),
        ("2024-05-01T14:30:05+02:00", 4),
        ("2024-05-01 12:30:19", 8),  # the other line was not begun yet
        ("2024-05-01 12:30:21", 20),
        ("2024-05-01 12:31", 24),  # past, and nothing newer
        ("time:2024-05-01T12:30:02", 2),
        ("-76s", 24),
        ("-77s", 22),
        ("-1m40s", 0),
        ("0 captures ago", 24),
        ("1 capture ago", 22),
        ("2 captures ago", 20),
        ("3 captures ago", 4),  # along the line, across the rewind
        ("5 captures ago", 0),
    ],
)
def test_moments(history: History, text: str, second: int) -> None:
    assert history.timeline.resolve(text, NOW) == history.ref(second)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2024-05-01T12:29:59.999999999Z", r"no capture is as old as 2024-05-01T12:29:59\.999999999Z"),
        ("-101s", "no capture is as old as"),
        ("-1000000000000d", "no capture is as old as"),
        ("6 captures ago", "the line of the latest has 6 captures"),
        ("2024-05-01T12:31:40.000000001Z", r"in the future \(now is 2024-05-01T12:31:40Z\)"),
        ("2999-01-01", "in the future"),
    ],
)
def test_moments_that_do_not_exist(history: History, text: str, why: str) -> None:
    first, last = (history.ids[second][:12] for second in (0, 24))
    exists = rf"8 captures exist, from {first} \(2024-05-01T12:30:00Z\) to {last} \(2024-05-01T12:30:24Z\)"
    with pytest.raises(MomentNotFoundError, match=f"{why}.*{exists}"):
        history.timeline.resolve(text, NOW)


def test_a_clock_that_went_back(history: History) -> None:
    """What exists is not the future, whatever the clock says now."""
    assert history.timeline.resolve("2024-05-01T12:30:24Z", NOON) == history.ref(24)
    with pytest.raises(MomentNotFoundError, match="in the future"):
        history.timeline.resolve("2024-05-01T12:30:25Z", NOON)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "yesterday", "-5", "latest!", "captures ago", "-2 captures ago", "before:", "beef-"]
)
def test_what_is_no_moment(history: History, text: str) -> None:
    history.mark("known", 3)
    with pytest.raises(UsageError, match=r"is no moment and no mark.*\['known'\].*without a zone it is UTC"):
        history.timeline.resolve(text, NOW)


def test_an_empty_history(tmp_path: Path) -> None:
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    for text in ("latest", "-5s", "1 capture ago", "2024-05-01", "beef"):
        with pytest.raises(MomentNotFoundError, match="this guest has no captures"):
            Timeline(store, GUEST).resolve(text, NOW)


# Ids.


def test_ids(history: History) -> None:
    for second, capture in history.ids.items():
        for text in (capture, capture[:12], capture[:12].upper(), f"id:{capture[:20]}"):
            assert history.timeline.resolve(text, NOW) == history.ref(second)
    for text in ("id:abc", "id:xyz0", "id:" + "0" * 65):
        with pytest.raises(UsageError, match="is no id of a capture"):
            history.timeline.resolve(text, NOW)
    with pytest.raises(UsageError, match="is no moment"):
        history.timeline.resolve(history.ids[0][:3], NOW)


def listed(timeline: Timeline, monkeypatch: pytest.MonkeyPatch, *ids: str) -> list[CaptureRef]:
    refs = [CaptureRef(NOON + number * S, CaptureId(identity.ljust(64, "0"))) for number, identity in enumerate(ids)]
    monkeypatch.setattr(timeline, "captures", lambda: refs)
    return refs


def test_prefixes_that_fit_more_than_one(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = listed(history.timeline, monkeypatch, "abcd1", "abcd2", "ffff")
    message = (
        r"2 captures begin with 'abcd': abcd10000000 \(2024-05-01T12:30:00Z\), abcd20000000 \(2024-05-01T12:30:01Z\)"
    )
    with pytest.raises(AmbiguousMomentError, match=message):
        history.timeline.resolve("abcd", NOW)
    assert history.timeline.resolve("abcd2", NOW) == refs[1]
    assert history.timeline.resolve("FFFF", NOW) == refs[2]


def test_digits_are_an_id_and_not_a_date(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = listed(history.timeline, monkeypatch, "20240501", "abcd")
    assert history.timeline.resolve("20240501", NOW) == refs[0]
    assert history.timeline.resolve("2024", NOW) == refs[0]
    with pytest.raises(MomentNotFoundError, match="a date is written 2024-05-01"):
        history.timeline.resolve("20240502", NOW)
    with pytest.raises(MomentNotFoundError, match="no capture's id begins so"):
        history.timeline.resolve("bbbb", NOW)


# Marks.


def test_marks(history: History) -> None:
    history.mark("taken", 23, history.ids[24])
    history.mark("between", 5)
    history.mark("exact", 6)
    for text, second in (
        ("taken", 24),
        ("between", 4),
        ("exact", 6),
        ("mark:exact", 6),
        ("before:taken", 22),
        ("before:between", 4),
        ("before:exact", 4),
        ("after:between", 6),
        ("after:exact", 8),
        ("after:taken", 24),
    ):
        assert history.timeline.resolve(text, NOW) == history.ref(second), text


def test_marks_out_of_reach(history: History) -> None:
    history.mark("early", -1)
    history.mark("late", 24)
    for text, why in (
        ("early", "no capture is as old as 2024-05-01T12:29:59Z"),
        ("before:early", "no capture is as old as"),
        ("after:late", "no capture is newer than 2024-05-01T12:30:24Z"),
        ("before:none", r"no mark is called 'none'; marks \['early', 'late'\]"),
        ("mark:none", "no mark is called 'none'"),
    ):
        with pytest.raises(MomentNotFoundError, match=why):
            history.timeline.resolve(text, NOW)


def test_two_marks_of_one_name(history: History) -> None:
    history.mark("alert", 3)
    history.mark("alert", 7)
    for text in ("alert", "mark:alert", "before:alert", "after:alert"):
        with pytest.raises(
            AmbiguousMomentError, match=r"2 marks are called 'alert': at 2024-05-01T12:30:03Z, 2024-05-01T12:30:07Z"
        ):
            history.timeline.resolve(text, NOW)


def test_a_mark_named_as_another_form(history: History) -> None:
    prefix = history.ids[8][:8]
    history.mark(prefix, 1)
    history.mark("2024-05-01 12:30:07", 3)
    history.mark("beef", 2)
    history.mark("2024-05-01 12:30:09", 8)
    for text, forms in ((prefix, "mark:.*id:"), ("2024-05-01 12:30:07", "mark:.*time:")):
        with pytest.raises(AmbiguousMomentError, match=f"means two things: {forms}"):
            history.timeline.resolve(text, NOW)
    assert history.timeline.resolve(f"id:{prefix}", NOW) == history.ref(8)
    assert history.timeline.resolve(f"mark:{prefix}", NOW) == history.ref(0)
    assert history.timeline.resolve("beef", NOW) == history.ref(2)  # no capture's id begins so
    assert history.timeline.resolve("2024-05-01 12:30:09", NOW) == history.ref(8)  # both mean the same


def test_a_mark_with_a_colon(history: History) -> None:
    history.mark("time:odd", 2)
    history.mark("net:dns", 4)
    assert history.timeline.resolve("net:dns", NOW) == history.ref(4)
    assert history.timeline.resolve("mark:time:odd", NOW) == history.ref(2)


# Captures of one instant.


@pytest.mark.parametrize("then", [lambda ids: ids[0], lambda ids: ids[1]], ids=["first", "second"])
def test_of_one_instant_the_current_line_counts(tmp_path: Path, then: Callable[[list[CaptureId]], CaptureId]) -> None:
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    with store.writer(GUEST) as writer:
        root = take(writer, 0)
        same = [take(writer, 2, branch=0)]
        writer.move_to(root)
        same.append(take(writer, 2, branch=1))
        assert same[0] != same[1]
        on_line = then(same)
        writer.move_to(on_line)
        take(writer, 9)
    timeline = Timeline(store, GUEST)
    store.add_mark(Mark("root", GUEST, NOON))
    for text in ("2024-05-01T12:30:03Z", "after:root"):
        assert timeline.resolve(text, NOW).id == on_line


# Tables.


def test_frame(history: History) -> None:
    history.mark("between", 5)
    history.mark("also", 4)
    history.mark("early", -5)
    history.mark("taken", 30, history.ids[20])
    frame = history.timeline.frame()
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "time": "datetime64[ns, UTC]",
        "id": "object",
        "short": "object",
        "branch": "int64",
        "depth": "int64",
        "parent": "object",
        "mode": "object",
        "reason": "object",
        "pause_ms": "float64",
        "dirty_pages": "Int64",
        "dirty_clusters": "Int64",
        "stored_bytes": "Int64",
        "marks": "object",
    }
    assert frame["id"].tolist() == list(history.ids.values())
    assert frame["time"].tolist() == [pd.Timestamp(NOON + second * S, tz="UTC") for second in history.ids]
    assert frame["branch"].tolist() == [0] * 5 + [1] * 3
    assert frame["depth"].tolist() == [0, 1, 2, 3, 4, 3, 4, 5]
    assert frame["parent"][0] is None
    assert frame["parent"][5] == history.ids[4]
    assert frame["pause_ms"].tolist()[:5] == [0.0, 0.002, 0.004, 0.006, 0.008]
    assert frame["pause_ms"].isna().tolist() == [False] * 5 + [True] * 3
    assert frame["dirty_pages"].tolist()[:5] == [0, 2, 4, 6, 8]
    assert frame["dirty_clusters"].isna().all()
    assert (frame["stored_bytes"] > 0).all()
    assert frame["marks"].tolist() == ["", "", "also, between", "", "", "taken", "", ""]


def test_an_empty_frame_has_the_same_columns(history: History, tmp_path: Path) -> None:
    store = CaseStore.create(tmp_path / "empty")
    store.add_guest(GUEST, "demo")
    frame = Timeline(store, GUEST).frame()
    assert len(frame) == 0
    assert frame.dtypes.tolist() == history.timeline.frame().dtypes.tolist()


def test_facts_of_a_stranger(tmp_path: Path) -> None:
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, "demo")
    with store.writer(GUEST) as writer:
        take(writer, 0, pause_ns="long", dirty_pages=2**80, dirty_clusters=True)
    frame = Timeline(store, GUEST).frame()
    assert frame[["pause_ms", "dirty_pages", "dirty_clusters"]].isna().all(axis=None)


def test_branches_and_lines(history: History) -> None:
    first, second = history.timeline.branches()
    assert (first.number, first.first, first.last, first.captures, first.forked_from) == (
        0,
        history.ref(0),
        history.ref(8),
        5,
        None,
    )
    assert (second.number, second.first, second.last, second.captures) == (1, history.ref(20), history.ref(24), 3)
    assert second.forked_from == history.ids[4]
    assert history.timeline.line(history.ids[22]) == [history.ref(each) for each in (22, 20, 4, 2, 0)]
