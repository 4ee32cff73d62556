"""What few values say of each other, held against scipy, against counting by hand, and against published examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workbench.experiment.statistics import EXACT, cliffs_delta, compare, holm, shift, smallest_p, spread

FEW = st.lists(st.integers(-6, 6).map(lambda number: number / 2), min_size=1, max_size=5)


def counted_by_hand(control: list[float], variant: list[float]) -> float:
    """The same test said otherwise: of all deals, how many have a Mann-Whitney U as far from its middle."""

    def distance(b: list[float], a: list[float]) -> float:
        return abs(sum((y > x) + (y == x) / 2 for y in b for x in a) - len(a) * len(b) / 2)

    everything = control + variant
    places = range(len(everything))
    far = total = 0
    for taken in itertools.combinations(places, len(variant)):
        b = [everything[each] for each in taken]
        a = [everything[each] for each in places if each not in taken]
        far += distance(b, a) >= distance(variant, control)
        total += 1
    return far / total


@settings(max_examples=60, deadline=None)
@given(FEW, FEW)
def test_p_is_the_share_of_deals_as_far_apart_also_with_ties(control: list[float], variant: list[float]) -> None:
    assert compare(control, variant).p == pytest.approx(counted_by_hand(control, variant), abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (4, 7), (8, 8)])
def test_without_ties_it_is_scipys_exact_test(n: int, m: int) -> None:
    drawn = np.random.default_rng(n * 100 + m).normal(size=n + m)
    control, variant = list(drawn[:n]), list(drawn[n:] + 0.5)
    expected = stats.mannwhitneyu(variant, control, method="exact", alternative="two-sided")
    found = compare(control, variant)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.delta == pytest.approx(2 * expected.statistic / (n * m) - 1)
    assert "exact" in found.test


@pytest.mark.parametrize("tied", [False, True])
def test_many_values_are_approximated_as_scipy_does(tied: bool) -> None:
    drawn = np.random.default_rng(1).normal(size=200)
    values = np.round(drawn, 1) if tied else drawn
    control, variant = list(values[:90]), list(values[90:] + 0.2)
    found = compare(control, variant)
    expected = stats.mannwhitneyu(variant, control, method="asymptotic", alternative="two-sided").pvalue
    assert found.p == pytest.approx(expected, rel=1e-9)
    assert "normal approximation" in found.test
    assert compare([1.0] * 100, [1.0] * 100).p == 1


def test_where_counting_ends_the_approximation_says_nearly_the_same() -> None:
    drawn = np.random.default_rng(2).normal(size=EXACT + 1)
    half = EXACT // 2
    exact, near = (compare(list(drawn[:half]), list(drawn[half:end] + 0.4)) for end in (EXACT, EXACT + 1))
    expected = stats.mannwhitneyu(drawn[half:EXACT] + 0.4, drawn[:half], method="exact").pvalue
    assert exact.p == pytest.approx(expected, rel=1e-9)
    assert exact.test != near.test
    assert near.p == pytest.approx(exact.p, rel=0.25)


@pytest.mark.parametrize(("n", "m", "least"), [(1, 1, 1.0), (2, 2, 1 / 3), (3, 3, 0.1), (5, 5, 2 / 252)])
def test_so_many_runs_can_give_no_smaller_p_and_values_apart_give_it(n: int, m: int, least: float) -> None:
    assert smallest_p(n, m) == pytest.approx(least)
    found = compare(list(range(n)), list(range(100, 100 + m)))
    assert (found.p, found.smallest) == (pytest.approx(least), pytest.approx(least))


def test_effects_have_their_sign_and_size() -> None:
    found = compare([1, 2, 3], [11, 12, 16])
    assert (found.difference, found.shift, found.delta) == (10, 10, 1)
    assert compare([11, 12, 16], [1, 2, 3]).delta == -1
    assert cliffs_delta([1, 2, 3], [1, 2, 3]) == 0
    # One outlier moves no median of differences: 8 pairs below 1, one far above.
    assert shift([0, 0, 0], [0.5, 0.5, 1000]) == 0.5


def test_the_same_values_are_no_difference() -> None:
    found = compare([4, 4, 4], [4, 4, 4])
    assert (found.p, found.difference, found.delta) == (1, 0, 0)


def test_a_side_without_values_has_no_p() -> None:
    found = compare([], [1, 2])
    assert math.isnan(found.p)
    assert math.isnan(found.difference)
    assert found.test.startswith("none")


def test_holm_as_in_the_textbook() -> None:
    """0.01, 0.04, 0.03, 0.005 of four: 0.03, 0.06, 0.06, 0.02; the third may not be under the second."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    with_gap = holm([0.01, math.nan, 0.02])
    assert (with_gap[0], with_gap[2]) == (pytest.approx(0.02), pytest.approx(0.02))
    assert math.isnan(with_gap[1])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_spread_is_numpys_quartiles(values: list[float]) -> None:
    found = spread(values)
    assert [found.q1, found.median, found.q3] == [float(each) for each in np.percentile(values, [25, 50, 75])]
    assert (found.n, found.least, found.most) == (len(values), min(values), max(values))
    assert found.iqr == found.q3 - found.q1


def test_nothing_has_no_spread() -> None:
    assert spread([]).n == 0
    assert math.isnan(spread([]).median)
