"""Bisection against linear search: a turn is found, with few questions, and what cannot be told is gone round."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from workbench.replay.search import search

ANSWERS = st.lists(st.sampled_from([True, False, None]), max_size=80)


def found(between: list[bool | None]) -> tuple[list[bool | None], tuple[int, int, tuple[int, ...]], list[int]]:
    answers: list[bool | None] = [False, *between, True]
    asked: list[int] = []

    def ask(at: int) -> bool | None:
        asked.append(at)
        return answers[at]

    turn = search(len(answers), ask)
    return answers, (turn.before, turn.after, turn.unknown), asked


@given(no=st.integers(0, 3000), yes=st.integers(0, 3000))
def test_where_it_turns_once_it_is_what_linear_search_finds(no: int, yes: int) -> None:
    answers, (before, after, unknown), asked = found([False] * no + [True] * yes)
    assert after == answers.index(True)
    assert before == after - 1
    assert unknown == ()
    assert len(asked) <= math.ceil(math.log2(len(answers) - 1))


@given(between=ANSWERS)
def test_whatever_the_answers_the_place_is_a_turn(between: list[bool | None]) -> None:
    answers, (before, after, unknown), asked = found(between)
    assert (answers[before], answers[after]) == (False, True)
    assert list(unknown) == list(range(before + 1, after))
    assert all(answers[at] is None for at in unknown)
    assert len(asked) == len(set(asked))
    assert not {0, len(answers) - 1} & set(asked)


@given(no=st.integers(0, 500), unknown=st.integers(0, 500), yes=st.integers(0, 500))
def test_a_bad_stretch_is_asked_only_as_far_as_the_turn_may_lie_in_it(no: int, unknown: int, yes: int) -> None:
    answers, (before, after, left), asked = found([False] * no + [None] * unknown + [True] * yes)
    assert (before, after) == (no, no + unknown + 1)
    assert len(left) == unknown
    assert len(asked) - unknown <= 2 * math.ceil(math.log2(len(answers))) + 2


def test_two_neighbours_need_no_question() -> None:
    assert found([]) == ([False, True], (0, 1, ()), [])
