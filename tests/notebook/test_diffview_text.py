"""Text diffs without a page: signs and numbers of lines, and lines that a guest wrote to fool us."""

from __future__ import annotations

import difflib
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, inert

from workbench.notebook.textdiff import TextDiff, diff_lines

BEFORE = [f"line {at}" for at in range(1, 41)]
AFTER = [*BEFORE[:4], "-- a new one", *BEFORE[4:29], *BEFORE[31:], "++ the last"]


def unified(before: list[str], after: list[str]) -> str:
    lines = difflib.unified_diff([f"{each}\n" for each in before], [f"{each}\n" for each in after], "a/x", "b/x")
    return "".join(lines)


def test_each_line_has_its_number_on_both_sides() -> None:
    lines = diff_lines(unified(BEFORE, AFTER))
    assert sum(sign == "@" for sign, *_ in lines) == 3
    for sign, before, after, text in lines:
        if sign in "- ":
            assert BEFORE[before - 1] == text
        if sign in "+ ":
            assert AFTER[after - 1] == text
    assert [(sign, text) for sign, _, _, text in lines if sign in "+-"] == [
        ("+", "-- a new one"), ("-", "line 30"), ("-", "line 31"), ("+", "++ the last"),
    ]  # fmt: skip


def test_lines_that_look_like_the_diff_s_own_are_content() -> None:
    lines = diff_lines(unified(["x"], ["@@ -1 +1 @@", "-- a/x", "\\ No newline"]))
    assert [(sign, text) for sign, _, _, text in lines if sign != "@"] == [
        ("-", "x"), ("+", "@@ -1 +1 @@"), ("+", "-- a/x"), ("+", "\\ No newline"),
    ]  # fmt: skip


def test_an_empty_diff_is_shown_by_its_facts() -> None:
    widget = TextDiff("", heading="metadata: /x", note="the content is the same", facts=[("mode", "0644", "0755")])
    assert (widget.total, widget.rows) == (0, [])
    assert all(word in widget.still() for word in ("metadata: /x", "the content is the same", "0644", "0755"))


def test_long_diffs_go_to_the_page_by_pages() -> None:
    widget = TextDiff(unified([], [f"line {at}" for at in range(1000)]))
    assert repr(widget) == "<TextDiff '': 1000 lines added, 0 removed>"
    assert (widget.total, len(widget.rows)) == (1001, 400)
    widget.first = 800
    assert (len(widget.rows), widget.rows[0]) == (201, ["+", 0, 800, "line 799"])
    assert "941 further lines" in widget.still()


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_what_a_guest_wrote_is_inert(name: str) -> None:
    line = name.replace("\n", " ")
    widget = TextDiff(unified(["x"], [line]), heading=name, note=name, facts=[(name, name, name)])
    shown = [widget.heading, widget.note, *widget.facts[0], *(each[3] for each in widget.rows), widget.still()]
    assert all(inert(each) for each in shown)
    assert not any(f"<{tag}" in widget.still() for tag in ("img", "script", "b>"))
