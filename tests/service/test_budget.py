"""A budget for all guests: shared fairly, stretching intervals where it does not suffice and letting go again."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.service.budget import STEPS, Allotment, Budget, Use, shares
from workbench.service.turns import apart, phases

needs = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1e6), min_size=1)


@given(needs, st.floats(0, 1e6))
def test_a_share_is_fair(needs: dict[str, float], capacity: float) -> None:
    """Max-min: nobody gets more than it needs, all of the capacity is used, and whoever lacks has the largest share."""
    given_out = shares(needs, capacity)
    assert all(given_out[name] <= need for name, need in needs.items())
    assert sum(given_out.values()) == pytest.approx(min(capacity, sum(needs.values())))
    for name, need in needs.items():
        if given_out[name] < need * 0.999:
            assert given_out[name] == pytest.approx(max(given_out.values()))


def test_a_guest_that_needs_less_leaves_the_rest_to_the_others() -> None:
    assert shares({"idle": 1, "busy": 50, "busier": 90}, 61) == {"idle": 1, "busy": 30, "busier": 30}
    assert shares({"idle": 1, "busy": 20, "busier": 90}, 61) == {"idle": 1, "busy": 20, "busier": 40}


Cost = Callable[[float, float], Use]
"""What a capture takes, by the interval it comes after and the time."""


class Simulated:
    """Guests that are captured as the budget lets them, by a clock of our own."""

    def __init__(self, budget: Budget, **guests: tuple[float, Cost]) -> None:
        self.budget, self.guests = budget, guests
        self.now = 0.0
        self.allotted = dict.fromkeys(guests, Allotment())
        self.due = dict.fromkeys(guests, 0.0)
        self.changes: list[tuple[float, str, float]] = []
        self.used: list[tuple[float, Use]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while min(self.due.values()) < end:
            name = min(self.due, key=lambda each: self.due[each])
            self.now = self.due[name]
            asked, cost = self.guests[name]
            use = cost(asked * self.allotted[name].stretch, self.now)
            self.used.append((self.now, use))
            before = self.allotted[name].stretch
            self.allotted[name] = self.budget.after(name, asked, use, self.now)
            if self.allotted[name].stretch != before:
                self.changes.append((self.now, name, self.allotted[name].stretch))
            self.due[name] = self.now + asked * self.allotted[name].stretch
        self.now = end

    def rate(self, resource: str, seconds: float) -> float:
        return sum(use.of(resource) for at, use in self.used if at > self.now - seconds) / seconds


def always(cpu: float, written: float = 0.0) -> Cost:
    return lambda _interval, _now: Use(cpu, written)


def test_a_budget_that_suffices_changes_nothing() -> None:
    world = Simulated(Budget(cpu=1.0, bandwidth=1e6), a=(2.0, always(0.8, 9e5)), b=(2.0, always(0.8, 9e5)))
    world.run(600)
    assert world.changes == []
    assert world.budget.state(world.now).cpu_used == pytest.approx(0.8, rel=0.05)


def test_no_budget_never_stretches() -> None:
    world = Simulated(Budget(), a=(0.2, always(10.0, 1e9)))
    world.run(100)
    assert world.changes == []


@pytest.mark.parametrize(("resource", "limit", "said"), [("cpu", 0.5, "0.5 cores"), ("bandwidth", 5e5, "bytes/s")])
def test_what_is_used_comes_down_to_the_budget_and_the_reason_is_said(resource: str, limit: float, said: str) -> None:
    cost = always(1.0) if resource == "cpu" else always(0.0, 1e6)
    world = Simulated(Budget(**{resource: limit}), a=(2.0, cost), b=(2.0, cost))
    world.run(600)
    assert world.rate(resource, 300) <= limit
    assert world.rate(resource, 300) >= 0.6 * limit
    assert {each.stretch for each in world.allotted.values()} <= set(STEPS)
    assert all(said in each.why for each in world.allotted.values())
    assert world.budget.state(world.now).stretched == 2


def test_only_who_takes_more_than_its_share_is_stretched() -> None:
    world = Simulated(Budget(cpu=0.5), modest=(2.0, always(0.2)), greedy=(2.0, always(3.0)))
    world.run(600)
    assert world.allotted["modest"].stretch == 1
    assert world.allotted["greedy"].stretch == 4  # it needs 1.5 cores, and 0.4 are left to it
    assert world.allotted["modest"].why == ""


def test_a_burst_is_let_through() -> None:
    """A minute's budget may be taken at once: a comparing pass, or a busy quarter of a minute."""
    world = Simulated(Budget(cpu=0.5), a=(2.0, lambda _interval, now: Use(2.0 if 300 <= now < 315 else 0.2, 0)))
    world.run(600)
    assert world.changes == []


def test_a_comparing_pass_is_paid_for_and_no_measure_of_what_follows() -> None:
    budget = Budget(bandwidth=1e6)
    for turn in range(60):
        whole = turn == 0
        allotted = budget.after("a", 2.0, Use(0, 5e8 if whole else 1e5), 2.0 * turn, whole=whole)
        assert allotted.stretch == 1


def test_it_is_let_go_step_by_step_when_the_load_is_over_and_not_before() -> None:
    world = Simulated(Budget(cpu=0.5), a=(2.0, lambda _interval, now: Use(4.0 if now < 300 else 0.5, 0)))
    world.run(300)
    assert world.allotted["a"].stretch == 4
    world.run(50)
    assert world.allotted["a"].stretch == 4  # calm must last
    world.run(600)
    assert world.allotted["a"] == Allotment(1.0, "", world.allotted["a"].phase)
    freed = [stretch for at, _, stretch in world.changes if at >= 300]
    assert freed == sorted(freed, reverse=True)


def test_a_load_at_the_edge_does_not_go_back_and_forth() -> None:
    """For an hour a little more is needed than there is, with noise: the interval changes seldom."""
    noise = itertools.cycle([0.9, 1.2, 1.0, 1.1, 0.95])
    world = Simulated(Budget(cpu=0.5), a=(2.0, lambda _interval, _now: Use(1.05 * next(noise), 0)))
    world.run(3_600)
    assert world.changes
    assert len(world.changes) <= 3


def test_captures_that_grow_with_their_interval_stretch_to_the_most_and_come_back() -> None:
    """A guest that always writes new pages writes as much in long intervals as in short ones: there is an end to it."""

    def grows(interval: float, now: float) -> Use:
        return Use(0, (3e6 if now < 600 else 4e5) * interval)

    world = Simulated(Budget(bandwidth=1e6), a=(2.0, grows))
    world.run(600)
    assert world.allotted["a"].stretch == STEPS[-1]
    world.run(3_000)
    assert world.allotted["a"].stretch == 1


def test_what_somebody_asks_for_is_counted_and_held_against_the_clock_only() -> None:
    budget = Budget(cpu=0.5)
    for second in range(600):
        budget.after("a", 2.0, Use(0.4, 0), float(second), turn=False)
        if second % 2 == 0:
            allotted = budget.after("a", 2.0, Use(0.4, 0), second + 0.5)
    assert allotted.stretch > 1
    assert budget.state(600.0).cpu_used == pytest.approx(0.6, rel=0.05)


def test_a_guest_that_left_leaves_its_share() -> None:
    world = Simulated(Budget(cpu=0.5), a=(2.0, always(0.7)), b=(2.0, always(0.7)))
    world.run(300)
    assert world.allotted["a"].stretch == 1.5
    world.budget.leave("b")
    del world.guests["b"], world.due["b"]
    world.run(300)
    assert world.allotted["a"].stretch == 1


def test_another_interval_asked_for_begins_anew() -> None:
    budget = Budget(cpu=0.5)
    for turn in range(100):
        stretched = budget.after("a", 1.0, Use(1.0, 0), float(turn))
    assert stretched.stretch == 2
    assert budget.after("a", 10.0, Use(1.0, 0), 100.0).stretch == 1


# Turns.


@pytest.mark.parametrize("count", range(1, 9))
def test_guests_of_one_interval_are_an_equal_part_of_it_apart(count: int) -> None:
    offsets = sorted(phases({f"g{number}": 2.4 for number in range(count)}).values())
    gaps = [(after - before) % 2.4 or 2.4 for before, after in zip(offsets, [*offsets[1:], offsets[0]], strict=True)]
    assert gaps == pytest.approx([2.4 / count] * count, abs=0.002)


@given(st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0]), min_size=2, max_size=6))
def test_two_guests_never_fall_due_within_a_hundredth_of_the_shortest_interval(intervals: list[float]) -> None:
    """By the ticks themselves, over all that can come: intervals of half seconds repeat within minutes."""
    asked = {f"g{number}": interval for number, interval in enumerate(intervals)}
    offsets = phases(asked)
    assert all(0 <= offsets[name] < interval for name, interval in asked.items())
    ticks = sorted(
        (round(1000 * (offsets[name] + turn * interval)), name)
        for name, interval in asked.items()
        for turn in range(int(240 / interval))
    )
    nearest = min(after[0] - before[0] for before, after in itertools.pairwise(ticks) if before[1] != after[1])
    assert nearest >= 5


def test_how_near_two_trains_come_is_what_their_ticks_say() -> None:
    for one, other in itertools.product([(600, 0), (400, 150), (900, 100)], repeat=2):
        seen = min(abs(one[1] + a * one[0] - other[1] - b * other[0]) for a in range(60) for b in range(60))
        assert apart(one, other) == seen


def test_many_guests_are_counted_off() -> None:
    offsets = phases({f"g{number:04}": 5.0 for number in range(1_000)})
    assert len(set(offsets.values())) == 1_000
    assert max(offsets.values()) < 5
