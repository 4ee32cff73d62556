"""The interval that is held: longer when captures come late, room runs low or the budget does not suffice; openly."""

from __future__ import annotations

import pytest

from workbench.service.pace import Pace

LEAST = 8 << 20
ROOM = 2 * LEAST


def on_time(pace: Pace, turns: int = 1, free: int = ROOM) -> Pace:
    for _ in range(turns):
        pace = pace.after(skipped=0, free=free, least=LEAST)
    return pace


def late(pace: Pace, turns: int = 1, free: int = ROOM) -> Pace:
    for _ in range(turns):
        pace = pace.after(skipped=1, free=free, least=LEAST)
    return pace


def test_a_pace_that_is_held_says_nothing() -> None:
    pace = on_time(Pace(2.0), 100)
    assert (pace.seconds, pace.factor, pace.why) == (2.0, 1, "")


def test_three_late_turns_in_a_row_double_the_interval_and_fewer_do_not() -> None:
    pace = Pace(2.0)
    for _ in range(10):
        pace = on_time(late(pace, 2))
    assert pace.seconds == 2.0
    pace = late(pace, 3)
    assert (pace.seconds, pace.why) == (4.0, "captures take longer than the interval")


def test_an_interval_is_doubled_at_most_to_sixteen_times_and_never_beyond_a_day() -> None:
    assert [late(Pace(2.0), turns).seconds for turns in (3, 6, 9, 12, 15, 300)] == [4, 8, 16, 32, 32, 32]
    assert late(Pace(80_000.0), 3).seconds == 86_400


def test_it_is_halved_after_thirty_turns_on_time_and_a_late_one_begins_the_count_anew() -> None:
    pace = late(Pace(2.0), 6)
    assert on_time(pace, 29).seconds == 8
    assert on_time(pace, 30).seconds == 4
    assert on_time(late(on_time(pace, 29)), 29).seconds == 8
    whole = on_time(pace, 60)
    assert (whole.seconds, whole.why) == (2.0, "")


def test_an_interval_at_the_edge_does_not_go_back_and_forth_with_every_turn() -> None:
    """Late at 2 s, on time at 4 s, for an hour: it is tried again every thirty turns, not more."""
    pace, changes = Pace(2.0), 0
    for _ in range(900):
        before = pace.seconds
        pace = late(pace) if pace.seconds == 2 else on_time(pace)
        changes += pace.seconds != before
    assert changes <= 2 * 900 / 30


def test_too_little_room_stretches_at_once_and_says_how_much_there_is() -> None:
    pace = on_time(Pace(2.0), free=LEAST - 1)
    assert (pace.seconds, pace.why) == (32.0, "only 7 MiB are free")
    assert on_time(pace, free=1 << 20).why == "only 1 MiB are free"


def test_room_that_came_back_lets_go_at_once_and_room_at_the_edge_does_not() -> None:
    pace = on_time(Pace(2.0), free=LEAST - 1)
    assert on_time(pace, 100, free=LEAST + 1).seconds == 32
    freed = on_time(pace, free=LEAST + LEAST // 4)
    assert (freed.seconds, freed.why) == (2.0, "")
    assert on_time(freed, free=LEAST).seconds == 2


def test_late_turns_are_counted_while_room_is_low_and_hold_when_it_came_back() -> None:
    pace = on_time(late(Pace(2.0), 3, free=0))
    assert (pace.seconds, pace.why) == (4.0, "captures take longer than the interval")


def test_no_room_asked_for_is_never_too_little() -> None:
    assert Pace(2.0).after(skipped=0, free=0, least=0).seconds == 2.0


@pytest.mark.parametrize(("budget", "turns", "seconds"), [(1.5, 0, 3.0), (6.0, 3, 12.0), (3.0, 6, 8.0)])
def test_the_budget_stretches_to_what_it_needs_and_what_stretches_further_holds(budget, turns, seconds) -> None:
    pace = late(Pace(2.0), turns).within(budget, "the budget of 1 cores does not suffice")
    assert pace.seconds == seconds
    assert "the budget of 1 cores" in pace.why


def test_every_reason_that_holds_is_said() -> None:
    pace = late(Pace(2.0), 3).within(3.0, "the budget of 1 cores does not suffice")
    pace = on_time(pace, free=0)
    assert pace.why == (
        "only 0 MiB are free; captures take longer than the interval; the budget of 1 cores does not suffice"
    )
    assert on_time(pace.within(1.0, ""), 60).why == ""
