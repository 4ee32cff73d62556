"""Gates: the first of a burst passes at once, the rest is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.capture.triggers.event import Event, safe_name
from workbench.capture.triggers.gate import Gate, GateRules
from workbench.errors import UsageError

SECOND = 10**9


def event(name: str = "login") -> Event:
    return Event("alert", name, "somebody came", 0)


def test_the_first_event_passes_at_once_and_the_burst_behind_it_is_one():
    gate = Gate(GateRules(debounce_s=2, cool_down_s=0))
    said = [gate.decide(event(), at * SECOND // 2) for at in range(6)]
    assert [each.passes for each in said] == [True, False, False, False, False, False]
    later = gate.decide(event(), 5 * SECOND)
    assert later.passes
    assert later.folded == 5
    assert gate.held_back == {"debounce": 5, "cool-down": 0, "budget": 0}


def test_after_a_capture_its_kind_cools_down_and_others_do_not():
    gate = Gate(GateRules(debounce_s=0, cool_down_s=30))
    assert gate.decide(event(), 0).passes
    assert gate.decide(event(), 29 * SECOND).why == "cool-down"
    assert gate.decide(event("other"), 29 * SECOND).passes
    assert gate.decide(event(), 30 * SECOND).passes


def test_the_budget_is_for_all_kinds_and_comes_back_after_an_hour():
    gate = Gate(GateRules(debounce_s=0, cool_down_s=0, budget_per_hour=3))
    assert [gate.decide(event(f"kind-{n}"), n).passes for n in range(4)] == [True, True, True, False]
    assert gate.decide(event("late"), 3_600 * SECOND).passes


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5 * SECOND)), max_size=60))
def test_no_more_pass_than_the_rules_allow(steps):
    gate = Gate(GateRules(debounce_s=1, cool_down_s=3, budget_per_hour=10))
    now, passed = 0, {}
    for kind, gap in steps:
        now += gap
        verdict = gate.decide(event(f"k{kind}"), now)
        if verdict.passes:
            assert now - passed.get(kind, -(10**18)) >= 3 * SECOND
            passed[kind] = now
        assert verdict.passes == (not verdict.why)
    assert sum(gate.held_back.values()) + len(gate._passed) == len(steps)


def test_names_that_a_guest_chooses_take_bounded_room():
    gate = Gate(GateRules())
    for number in range(5_000):
        gate.decide(event(f"n{number}"), number)
    assert len(gate._kinds) <= 1024


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [("../../etc", "etc"), ("", "event"), ("a\x1b[2Jb", "a-2Jb"), ("x" * 9_999, "x" * 64), ("\u202egnp", "gnp")],
)
def test_an_event_s_name_is_safe(given_name, kept):
    assert safe_name(given_name) == kept


@pytest.mark.parametrize("wrong", [{"debounce_s": -1}, {"cool_down_s": 1e9}, {"budget_per_hour": -1}])
def test_rules_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError):
        GateRules(**wrong)
