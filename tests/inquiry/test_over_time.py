"""What came, went and changed, and lifelines, by identity, against a plain model; what could not be asked is apart."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.inquiry.identity import compare, identity_of, keys
from workbench.inquiry.lifelines import KINDS, lifelines, question_of
from workbench.model import CaptureId, CaptureRef

QUESTION = "workbench.processes"


def frame(*rows: tuple[int, int, str]) -> pd.DataFrame:
    made = pd.DataFrame(list(rows), columns=["pid", "start_ns", "name"])
    return made.astype({"pid": "Int64", "start_ns": "Int64", "name": "string"})


def refs(count: int) -> list[CaptureRef]:
    return [CaptureRef(number * 10**9, CaptureId(f"{number:064x}")) for number in range(count)]


def test_a_pid_that_is_used_again_is_another_process() -> None:
    found = compare(QUESTION, frame((7, 100, "old")), frame((7, 200, "new")))
    assert found[["change", "pid", "name"]].to_dict("records") == [
        {"change": "came", "pid": 7, "name": "new"},
        {"change": "went", "pid": 7, "name": "old"},
    ]


def test_what_changed_is_named_and_what_stayed_is_left_out() -> None:
    found = compare(QUESTION, frame((1, 1, "init"), (7, 100, "sh")), frame((7, 100, "evil"), (1, 1, "init")))
    assert found.to_dict("records") == [
        {"change": "changed", "changed": "name", "pid": 7, "start_ns": 100, "name": "evil"}
    ]
    assert compare(QUESTION, frame(), frame()).empty
    assert list(compare(QUESTION, frame(), frame((1, 1, "a"))).columns)[:2] == ["change", "changed"]


def test_equal_rows_are_told_apart_by_their_number() -> None:
    """A plugin without an identity of its own: the third of three equal rows came."""
    two, three = frame((1, 1, "a"), (1, 1, "a")), frame((1, 1, "a"), (1, 1, "a"), (1, 1, "a"))
    assert compare("linux.unknown.Unknown", two, three)["change"].tolist() == ["came"]
    assert keys(three, ["pid"]).is_unique


def test_what_cannot_be_read_is_not_mixed_up_with_text() -> None:
    odd = frame((1, 1, "a"))
    odd["name"] = pd.Series([None], dtype="string")
    assert compare(QUESTION, frame((1, 1, "a")), odd)["changed"].tolist() == ["name"]


@given(st.lists(st.one_of(st.none(), st.sets(st.integers(1, 6))), min_size=1, max_size=12))
def test_lifelines_are_what_a_plain_count_says(seen: list[set[int] | None]) -> None:
    """`seen`: the pids of each capture, None for one that could not be asked."""
    span = refs(len(seen))
    answers = {
        ref.id: frame(*((pid, pid, "x") for pid in sorted(pids)))
        for ref, pids in zip(span, seen, strict=True)
        if pids is not None
    }
    if not answers:
        return
    found = lifelines(QUESTION, span, answers).set_index("pid")
    asked = [at for at, pids in enumerate(seen) if pids is not None]
    everyone = set().union(*(pids for pids in seen if pids is not None))
    assert set(found.index) == everyone
    for pid in everyone:
        there = [at for at in asked if pid in (seen[at] or set())]
        row = found.loc[pid]
        between = [at for at in asked if there[0] <= at <= there[-1]]
        assert row["first_capture"] == span[there[0]].id
        assert row["last_capture"] == span[there[-1]].id
        assert row["first_seen"].value == span[there[0]].time_ns
        assert row["captures"] == len(there)
        assert row["gaps"] == len(between) - len(there)
        assert row["unknown"] == there[-1] - there[0] + 1 - len(between)
        assert row["since_start"] == (there[0] == asked[0])
        assert row["until_end"] == (there[-1] == asked[-1])


def test_short_names_and_plugins_have_lifelines_and_nothing_else() -> None:
    assert question_of("sockets") == KINDS["sockets"]
    assert question_of("linux.ptrace.Ptrace") == "linux.ptrace.Ptrace"
    with pytest.raises(UsageError, match="'colours'"):
        question_of("colours")
    assert identity_of("linux.ptrace.Ptrace", ["a", "depth"]) == ["a"]
