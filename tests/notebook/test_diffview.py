"""DiffView over a recorded intrusion: what was planted is found in its tabs, and they are filled only when opened."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import traitlets

sys.path.insert(0, os.path.dirname(__file__))

from small import GUEST, HOSTILE, NOON, Forked, S, inert

from workbench.case import Case, Diff
from workbench.errors import AnalysisError, DiskError, UsageError
from workbench.model import CaptureId, CaptureRef, Mark
from workbench.notebook.diffview import DiffView
from workbench.notebook.diffview_contents import cluster_difference, file_difference
from workbench.notebook.diffview_sliders import MOST_OPTIONS, CaptureSlider

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion"
SOON = 120.0


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A copy of the recorded intrusion."""
    path = tmp_path_factory.mktemp("diffview") / "case"
    shutil.copytree(DATASET / "case", path)
    with Case(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, Any]]:
    """What the guest says it did."""
    return {each["what"]: each for each in json.loads((DATASET / "truth.json").read_text())}


@pytest.fixture(scope="module")
def view(case: Case) -> DiffView:
    """All of the recording."""
    first, *_, last = case.moments()
    return DiffView(first, last)


def opened(view: DiffView, name: str) -> Any:
    """Open a tab and wait for it."""
    view.turn_to(name)
    part = view.parts[view.tabs.selected_index]
    assert part.work.wait(SOON)
    assert part.work.error == ""
    return part


def choose(part: Any, fits: Callable[[pd.Series], bool]) -> Any:
    """Choose the first row that fits; gives what is shown of it."""
    part.table.selected = next(at for at, (_, row) in enumerate(part.table.frame.iterrows()) if fits(row))
    assert part.detail.work.wait(SOON)
    assert part.detail.work.error == ""
    shown = [each for each in (part.detail.text, part.detail.hex) if each.layout.display != "none"]
    assert len(shown) == 1
    return shown[0]


def test_files_show_the_lines_that_were_planted(view: DiffView, truth: dict[str, dict[str, Any]]) -> None:
    part = opened(view, "files")
    user, cron, log = (truth[each] for each in ("new_user", "persistence", "wiped_log"))
    shown = choose(part, lambda row: row["path"] == user["path"])
    added = [text for sign, _, _, text in shown.rows if sign == "+"]
    assert len(added) == 1
    assert added[0].startswith(f"{user['user']}:x:0:0:")
    shown = choose(part, lambda row: row["path"] == cron["path"])
    assert any("4444" in text for sign, _, _, text in shown.rows if sign == "+")
    shown = choose(part, lambda row: row["path"] == log["path"])
    assert {sign for sign, *_ in shown.rows if sign != "@"} == {"-"}
    assert [after for name, _, after in shown.facts if name == "size"] == ["0"]


def test_processes_show_the_planted_one(view: DiffView, truth: dict[str, dict[str, Any]]) -> None:
    frame = opened(view, "processes").table.frame
    came = frame[frame["change"] == "came"]
    assert {truth["dropped_binary"]["pid"], truth["backdoor"]["pid"]} <= set(came["pid"])


def test_a_changed_page_is_shown_as_both_moments_have_it(view: DiffView) -> None:
    part = opened(view, "pages")
    assert sum(part.map.totals) == len(part.table.frame) == len(view.diff.pages())
    shown = choose(part, lambda row: row["owner"] == "process")
    row = part.table.row
    sides = [each.read(row["region"], int(row["page"]) * 4096, 4096) for each in (view.diff.a, view.diff.b)]
    for offset, before, after in shown.rows:
        at = int(offset, 16) - int(row["address"])
        assert (before, after) == tuple(each[at : at + 16].hex() for each in sides)
    assert any(before != after for _, before, after in shown.rows)
    assert ["owner", "", "process"] in shown.facts


def test_the_map_filters_the_pages(view: DiffView) -> None:
    part = opened(view, "pages")
    whole = view.diff.pages()
    part.map.owner = "slab"
    part.map.span = [0, 1 << 14]
    wanted = whole[(whole["owner"] == "slab") & (whole["pfn"] < 1 << 14)]
    assert 0 < len(wanted) < len(whole)
    assert list(part.table.frame["pfn"]) == list(wanted["pfn"])
    assert part.table.label.startswith("pages of slab from 0x0")
    part.map.owner, part.map.span = "", []
    assert len(part.table.frame) == len(whole)


def test_changed_clusters_are_shown_as_bytes(view: DiffView, truth: dict[str, dict[str, Any]]) -> None:
    part = opened(view, "disks")
    shown = choose(part, lambda row: row["path"] == truth["new_user"]["path"])
    after = b"".join(bytes.fromhex(each[2]) for each in shown.rows)
    assert truth["new_user"]["user"].encode() in after


def test_everything_is_in_the_order_of_time(view: DiffView, truth: dict[str, dict[str, Any]]) -> None:
    frame = opened(view, "everything").table.frame
    assert frame["datetime"].is_monotonic_increasing
    assert truth["dropped_binary"]["pid"] in set(frame["pid"].dropna())


def test_tabs_are_filled_when_they_are_opened_and_anew_when_a_moment_moves(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, str]] = []
    for name in ("files", "processes", "pages", "blocks", "everything"):
        kept = getattr(Diff, name)

        def note(self: Diff, *given: Any, name: str = name, kept: Any = kept) -> Any:
            asked.append((name, self.a.id, self.b.id))
            return kept(self, *given)

        monkeypatch.setattr(Diff, name, note)
    moments = list(case.moments())
    view = DiffView(moments[2], moments[4])
    opened(view, "files")
    opened(view, "disks")
    opened(view, "files")
    assert asked == [("files", moments[2].id, moments[4].id), ("blocks", moments[2].id, moments[4].id)]
    view.b = moments[5].id
    assert opened(view, "files").filled == (moments[2].id, moments[5].id)
    assert asked[2:] == [("files", moments[2].id, moments[5].id)]


def test_sliders_buttons_and_traits_move_the_same_moment(case: Case) -> None:
    moments = list(case.moments())
    view = DiffView(moments[0], moments[3])
    assert (view.diff.a.id, view.diff.b.id) == (moments[0].id, moments[3].id)
    first, last = view.sliders
    last.step(1)
    assert view.b == moments[4].id
    view.a = str(moments[2].id)[:10]
    assert (view.a, first.capture, first.slider.value) == (moments[2].id, moments[2].id, moments[2].id)
    first.slider.value = moments[1].id
    assert (view.a, view.diff.a.id) == (moments[1].id, moments[1].id)
    with pytest.raises(traitlets.TraitError):
        view.b = "no such capture"
    assert view.b == moments[4].id
    view.wait(SOON)


def test_a_later_moment_may_be_compared_with_an_earlier_one_but_a_timeline_goes_forward(case: Case) -> None:
    moments = list(case.moments())
    view = DiffView(moments[4], moments[2])
    view.turn_to("everything")
    assert view.wait(SOON)
    assert "goes forward" in view.parts[4].work.error
    assert len(view.parts[4].table.frame) == 0
    assert "earlier" in view.words
    with pytest.raises(UsageError):
        view.turn_to("nothing")


def test_what_was_shown_of_other_moments_is_gone_when_the_new_answer_fails(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = list(case.moments())
    view = DiffView(moments[0], moments[-1])
    part = opened(view, "files")
    choose(part, lambda row: row["path"] == "/etc/passwd")

    def fail(_diff: Diff) -> pd.DataFrame:
        raise AnalysisError(f"worker died of {HOSTILE[0]}\x1b[2J")

    monkeypatch.setattr(Diff, "files", fail)
    view.b = moments[-2].id
    assert view.wait(SOON)
    assert len(part.table.frame) == 0
    assert {part.detail.text.layout.display, part.detail.hex.layout.display} == {"none"}
    assert inert(part.work.words)
    monkeypatch.undo()
    assert len(opened(view, "files").table.frame) > 0


def test_two_guests_are_not_compared(case: Case, tmp_path: Path) -> None:
    forked = Forked(tmp_path / "case").build()
    with Case(forked.path) as other, pytest.raises(UsageError):
        DiffView(case.moment(), other.moment())


def test_a_report_shows_the_summary_and_what_was_asked_for(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    moments = list(case.moments())
    shown = []
    for _ in range(2):
        view = DiffView(moments[0], moments[-1])
        choose(opened(view, "files"), lambda row: row["path"] == "/etc/passwd")
        data, _ = view._repr_mimebundle_()
        assert set(data) == {"text/plain", "text/html"}
        shown.append(data["text/html"])
    assert shown[0] == shown[1]
    assert "sysupd" in shown[0]
    assert "<ins>" in shown[0]


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_names_from_a_guest_are_inert(name: str, tmp_path: Path) -> None:
    forked = Forked(tmp_path / "case").build(name)
    with Case(forked.path) as case:
        view = DiffView(case.moment(f"id:{forked.ids[0]}"), case.moment(f"id:{forked.ids[8]}"))
        assert view.wait(SOON)
        told = [repr(view), view.words, view.still(), *(label for label, _ in view.sliders[0].slider.options)]
        assert all(inert(each) for each in (*told, view.parts[0].work.words))
        assert not any(f"<{tag}" in view.still() for tag in ("img src=x", "script", "b>"))


class Planted:
    """A diff whose moments have what is planted."""

    def __init__(self, before: dict[str, bytes], after: dict[str, bytes], region: bytes = b"") -> None:
        self.a, self.b = Side(before, region), Side(after, region[::-1])

    def text(self, path: str) -> str:
        raise DiskError("no text diff: binary", path=path)


class Side:
    def __init__(self, files: dict[str, bytes], region: bytes) -> None:
        self.files, self.region = files, region

    def open(self, path: str) -> Any:
        import io

        if path not in self.files:
            raise DiskError("no such path", path=path)
        return io.BytesIO(self.files[path])

    def read(self, region: str, offset: int, length: int) -> bytes:
        if offset + length > len(self.region):
            raise UsageError("range outside")
        return self.region[offset : offset + length]


def file_row(path: str, change: str, **more: Any) -> pd.Series:
    names = "old_path target target_before sha256_before sha256_after size_before size_after source state note"
    return pd.Series({"path": path, "change": change, "kind": "file", **dict.fromkeys(names.split()), **more})


@pytest.mark.parametrize(
    ("row", "before", "after"),
    [
        (file_row("/x", "created"), "", "6162"),
        (file_row("/x", "modified"), "6163", "6162"),
        (file_row("/x", "renamed", old_path="/y"), "7979", "6162"),
        (file_row("/x", "modified", target_before="/etc/shadow"), "", "6162"),
        (file_row("/y", "deleted"), "7979", ""),
    ],
    ids=["created", "modified", "renamed", "was a link", "deleted"],
)
def test_binary_files_are_compared_as_bytes(row: pd.Series, before: str, after: str) -> None:
    diff: Any = Planted({"/x": b"ac", "/y": b"yy"}, {"/x": b"ab"})
    found = file_difference(diff, row)
    assert found.content is not None
    assert [(one.hex(), two.hex()) for _, one, two in found.content.rows] == [(before, after)]


def test_a_file_that_neither_moment_gives_is_an_error() -> None:
    diff: Any = Planted({}, {})
    with pytest.raises(DiskError):
        file_difference(diff, file_row("/x", "modified"))


def test_a_disk_that_one_moment_lacks_is_compared_with_nothing() -> None:
    diff: Any = Planted({}, {}, bytes(range(64)))
    diff.a.region = b""
    row = pd.Series(
        {"disk": "vda", "offset": 32, "length": 32, "kind": "written", "volume": "", "area": "", "path": None}
        | {"path_before": None}
    )
    found = cluster_difference(diff, row)
    assert found.content is not None
    assert {one for _, one, _ in found.content.rows} == {b""}
    assert found.content.rows[0][0] == 32


def test_a_slider_reaches_every_capture_of_many() -> None:
    refs = [CaptureRef(NOON + at * S, CaptureId(f"{at:064x}")) for at in range(100_000)]
    marks = [Mark("alert \x1b[0m", GUEST, NOON, refs[77_777].id, "alert")]
    slider = CaptureSlider(refs, marks, "From", refs[77_777].id)
    assert len(slider.slider.options) <= MOST_OPTIONS + 1
    assert any("alert \\x1b[0m" in label for label, _ in slider.slider.options)
    slider.step(1)
    assert slider.capture == slider.slider.value == refs[77_778].id
    slider.capture = refs[5].id
    slider.step(-1)
    assert slider.slider.value == refs[4].id
    slider.capture = refs[0].id
    slider.step(-1)
    assert slider.capture == refs[0].id
    assert len(slider.slider.options) <= MOST_OPTIONS + 1
