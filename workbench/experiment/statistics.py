"""What a few measurements of two variants say of each other: medians, spread, one exact test, and how large it is.

The test is Mann and Whitney's: how often would a random deal of the same values onto the two variants have their ranks
as far apart? Up to `EXACT` values all deals are counted, so ties and few runs need no tables and no approximation; more
values are approximated by the normal distribution, which also bounds what a stranger's experiment costs. Pure: no
guest, no clock, no file, no chance.

Refuses to call anything a difference: it gives p values, what the smallest possible one is, and the size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXACT", "Comparison", "Spread", "cliffs_delta", "compare", "holm", "shift", "smallest_p", "spread"]

EXACT = 120
"""Values, of both sides, whose deals are all counted: some hundredths of a second, and a few megabytes."""

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """Some values in short.

    Attributes
    ----------
    n : int
        How many; the others are NaN where there is none.
    median, q1, q3, least, most : float
        Quartiles are interpolated linearly (numpy's default, Hyndman and Fan's type 7).
    """

    n: int
    median: float
    q1: float
    q3: float
    least: float
    most: float

    @property
    def iqr(self) -> float:
        """The distance of the quartiles."""
        return self.q3 - self.q1


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against the control; NaN where either has no value.

    Attributes
    ----------
    difference : float
        Of the medians: variant - control.
    shift : float
        Hodges and Lehmann's: the median of all differences of a variant's value and a control's.
    delta : float
        Cliff's: from -1 (every value of the variant is the lower) to 1; 0 where neither tends to be.
    p : float
        Two-sided.
    smallest : float
        The smallest p that so many values can give.
    test : str
        Which test it was, in words.
    """

    difference: float
    shift: float
    delta: float
    p: float
    smallest: float
    test: str


def spread(values: Sequence[float]) -> Spread:
    """Return some values in short."""
    if not len(values):
        return Spread(0, math.nan, math.nan, math.nan, math.nan, math.nan)
    q1, median, q3 = (float(each) for each in np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75)))
    return Spread(len(values), median, q1, q3, float(min(values)), float(max(values)))


def compare(control: Sequence[float], variant: Sequence[float]) -> Comparison:
    """Compare a variant's values with the control's."""
    if not len(control) or not len(variant):
        return Comparison(math.nan, math.nan, math.nan, math.nan, math.nan, "none: a side has no value")
    a, b = np.asarray(control, np.float64), np.asarray(variant, np.float64)
    p, test = _test(a, b)
    difference = float(np.median(b) - np.median(a))
    return Comparison(difference, shift(a, b), cliffs_delta(a, b), p, smallest_p(len(a), len(b)), test)


def smallest_p(n: int, m: int) -> float:
    """Return the smallest two-sided p that `n` against `m` values can give: two of all deals are the farthest apart.

    5 against 5: 2 / 252 = 0.0079; 3 against 3: 0.1, so three repeats can never show a difference at 0.05.
    """
    return min(1.0, 2 / math.comb(n + m, n))


def shift(control: Sequence[float] | F64, variant: Sequence[float] | F64) -> float:
    """Return Hodges and Lehmann's estimate of how much higher the variant is (Hodges, Lehmann 1963, section 4)."""
    return float(np.median(np.subtract.outer(np.asarray(variant, np.float64), np.asarray(control, np.float64))))


def cliffs_delta(control: Sequence[float] | F64, variant: Sequence[float] | F64) -> float:
    """Return how much more often a value of the variant is above one of the control than below it (Cliff 1993)."""
    above = np.sign(np.subtract.outer(np.asarray(variant, np.float64), np.asarray(control, np.float64)))
    return float(above.mean())


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for being one of several (Holm 1979); NaN stays, and does not count.

    The smallest is multiplied by the number of tests, the next by one less, and so on, none lower than the one before.
    """
    known = sorted((value, place) for place, value in enumerate(p) if not math.isnan(value))
    corrected, lowest = [math.nan] * len(p), 0.0
    for rank, (value, place) in enumerate(known):
        lowest = max(lowest, min(1.0, value * (len(known) - rank)))
        corrected[place] = lowest
    return corrected


def _test(a: F64, b: F64) -> tuple[float, str]:
    """Return the p value of the rank sum, and the test's name."""
    ranks = _ranks(np.concatenate([a, b]))
    # Twice the ranks are whole numbers, so that nothing here needs a tolerance.
    doubled = np.rint(2 * ranks).astype(np.int64)
    observed = abs(int(doubled[len(a) :].sum()) - len(b) * (len(ranks) + 1))
    if len(ranks) <= EXACT:
        return _counted(doubled, min(len(a), len(b)), observed), "Mann-Whitney, exact, two-sided"
    return _approximated(ranks, len(a), len(b), observed / 2), "Mann-Whitney, normal approximation, two-sided"


def _counted(doubled: NDArray[np.int64], taken: int, observed: int) -> float:
    """Return the share of all deals whose rank sum is as far from its mean.

    Which side is dealt does not matter: both are as far from their means. The sums of all choices are counted value by
    value (the generating function of Mann and Whitney 1947, section 3, here with ties).
    """
    largest = int(np.sort(doubled)[::-1][:taken].sum())
    deals = np.zeros((taken + 1, largest + 1))
    deals[0, 0] = 1
    for each in doubled:
        deals[1:, each:] += deals[:-1, : largest + 1 - each]  # numpy reads all of the right side first
    sums = np.arange(largest + 1)
    far = np.abs(sums - taken * (len(doubled) + 1)) >= observed
    return float(deals[taken, far].sum() / deals[taken].sum())


def _approximated(ranks: F64, n: int, m: int, observed: float) -> float:
    """Return the same by the normal distribution, corrected for ties and for whole numbers (Lehmann 1975, 1.4)."""
    every = n + m
    _, ties = np.unique(ranks, return_counts=True)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (every * (every - 1))
    deviation = math.sqrt(n * m / 12 * max(0.0, every + 1 - tied))
    return 1.0 if deviation == 0 else math.erfc(max(0.0, observed - 0.5) / deviation / math.sqrt(2))


def _ranks(values: F64) -> F64:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: F64 = (last - (counts - 1) / 2).astype(np.float64)
    return means[group]
