"""The times of a series: the wall clock's, never back, and the wall clock's again as soon as that can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.capture.clock import SeriesClock

SECOND = 10**9


class Host:
    """Clocks that a test holds, ns."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000 * SECOND, 5 * SECOND

    def series(self, newest_ns: int = -1) -> SeriesClock:
        return SeriesClock(newest_ns, wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def passes(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns


def test_a_clock_that_nobody_sets_is_told_as_it_is() -> None:
    host = Host()
    series = host.series()
    for _ in range(3):
        assert (series.now(), series.ahead_ns) == (host.wall, 0)
        host.passes(SECOND)


def test_one_that_is_set_back_is_caught_up_with_at_half_the_speed_of_time() -> None:
    host = Host()
    series = host.series()
    before = series.now()
    host.wall -= 10 * SECOND
    host.passes(SECOND)
    assert series.now() == before + SECOND // 2
    assert series.ahead_ns == 10 * SECOND - SECOND // 2
    for _ in range(30):
        host.passes(SECOND)
        series.now()
    host.passes(SECOND)
    assert (series.now(), series.ahead_ns) == (host.wall, 0)


def test_one_that_is_set_forward_is_followed_at_once() -> None:
    host = Host()
    series = host.series()
    series.now()
    host.wall += 3_600 * SECOND
    assert (series.now(), series.ahead_ns) == (host.wall, 0)


def test_a_series_that_is_in_the_future_already_goes_on_from_there() -> None:
    host = Host()
    assert host.series(host.wall + SECOND).now() == host.wall + SECOND + 1


@given(st.lists(st.tuples(st.integers(-(10**12), 10**12), st.integers(0, 10**10)), max_size=30))
def test_times_only_ever_grow(steps: list[tuple[int, int]]) -> None:
    host = Host()
    host.wall = 10**15
    series = host.series()
    last = series.now()
    for step, passed in steps:
        host.wall += step
        host.passes(passed)
        assert series.now() > last
        assert series.ahead_ns >= 0
        last += 1
