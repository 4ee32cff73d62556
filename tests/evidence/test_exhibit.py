"""An exhibit says where it came from and what it lacks, and has a digest of all of it; its texts do nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from recorded import DATASET, HOSTILE

from workbench.case import Case
from workbench.errors import AnalysisError
from workbench.notebook.exhibit import Exhibits, Span

A, B = "aa" * 32, "bb" * 32


def frame(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype="object")


def test_exhibits_are_numbered_and_name_their_captures_once() -> None:
    show = Exhibits()
    first, second = show.text("one", "a line", of=A), show.table("two", frame(x=[1]), of=[A, [B, A]])
    assert (first.number, second.number) == (1, 2)
    assert (first.captures, second.captures) == ((A,), (A, B))
    data, metadata = second._repr_mimebundle_()
    assert data["text/html"].count(A) == data["text/html"].count(B) == 1
    assert 'id="exhibit-2"' in data["text/html"]
    assert metadata["workbench"] == {"exhibit": 2, "title": "two", "captures": [A, B], "content": second.digest}


def test_moments_and_differences_are_named_by_their_captures(case: Case) -> None:
    diff = case.diff("start", "latest")
    assert Exhibits().text("both", "", of=diff).captures == (diff.a.id, diff.b.id)
    assert Exhibits().text("one", "", of=diff.a).captures == (diff.a.id,)


def test_what_is_not_shown_is_counted_and_in_the_digest() -> None:
    rows = [f"row {number}" for number in range(500)]
    long, other = (Exhibits().table("t", frame(x=each), of=A) for each in (rows, [*rows[:-1], "altered"]))
    assert "500 rows (200 more are not shown)" in long.html()
    assert long.body == other.body
    assert long.digest != other.digest


@pytest.mark.parametrize("value", ["A" * 5000, "\u202eA", "<b>", "\ud800"])
def test_a_cell_that_is_cut_or_escaped_is_whole_in_the_digest(value: str) -> None:
    one, other = (Exhibits().table("t", frame(x=[each]), of=A) for each in (value, f"{value}!"))
    assert one.digest != other.digest


def test_hostile_texts_are_inert() -> None:
    show = Exhibits()
    shown = [
        show.table(HOSTILE, frame(**{HOSTILE: [HOSTILE, HOSTILE.encode()]}), of=A),
        show.text(HOSTILE, f"{HOSTILE}\n{HOSTILE}", of=HOSTILE),
        show.picture(HOSTILE, "<svg xmlns='http://www.w3.org/2000/svg'/>", of=A),
    ]
    for each in shown:
        page = each.html() + repr(each)
        assert "<script" not in each.html()
        assert "<img src=x" not in each.html()
        assert not {"\x1b", "\u202e"} & set(page)
        assert "A" * 1000 not in page


def test_nothing_is_not_the_same_as_no_answer() -> None:
    def fails() -> Any:
        raise AnalysisError("no kernel <b>", cure="Name another.")

    empty, failed = (Exhibits().table("t", each, of=A) for each in (frame(x=[]), fails))
    assert "Nothing." in empty.html()
    assert "Nothing." not in failed.html()
    assert "no kernel &lt;b&gt;. Name another." in failed.html()
    assert empty.digest != failed.digest
    assert "no kernel" in Exhibits().text("t", fails, of=A).html()


def test_a_fault_of_ours_is_not_taken_for_an_answer() -> None:
    def faulty() -> pd.DataFrame:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        Exhibits().table("t", faulty, of=A)


def test_an_answer_that_lacks_something_says_so() -> None:
    partial = frame(x=[1])
    partial.attrs = {"failed": {A: "the worker died"}, "error": "broke off"}
    shown = Exhibits().table("t", partial, of=A)
    assert "aaaaaaaaaaaa could not be asked: the worker died" in shown.html()
    assert "Not whole: broke off" in shown.html()
    assert shown.digest != Exhibits().table("t", frame(x=[1]), of=A).digest


def test_absent_cells_are_told_from_words() -> None:
    shown = Exhibits().table("t", frame(x=[None, pd.NA, pd.NaT, float("nan"), "None", "nan"]), of=A)
    assert shown.words.splitlines() == ["-", "-", "-", "-", "None", "nan"]


def test_a_span_is_not_changed_by_what_comes_later(tmp_path: Path) -> None:
    shutil.copytree(DATASET / "case", tmp_path / "case", ignore=shutil.ignore_patterns("cache", "tmp"))
    with Case(tmp_path / "case") as case:
        ends = case.moment("before:alert-break_in"), case.moment("alert-wiped_log")
        before = Span(*ends)
        shown = Exhibits().timeline("t", before)
        case.mark("seen by an analyst", ends[0])
        after = Span(*ends)
        assert [each.name for each in after.marks()] == [each.name for each in before.marks()]
        assert len(after.marks()) == 6
        assert (after.captures[0], after.captures[-1]) == (ends[0].id, ends[1].id)
        assert Exhibits().timeline("t", after).digest == shown.digest
