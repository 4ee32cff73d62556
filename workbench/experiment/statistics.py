"""What a few measurements of two variants say of each other: medians, spread, one exact test, and how large it is.

The test is Mann and Whitney's: how often would a random deal of the same values onto the two variants have their ranks
as far apart? All deals are counted where there are at most `EXACT` of them, so ties and few runs need no tables and no
approximation; beyond that, random deals with a stated seed. Pure: no guest, no clock, no file.

Refuses to call anything a difference: it gives p values, what the smallest possible one is, and the size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEALS", "EXACT", "Comparison", "Spread", "cliffs_delta", "compare", "holm", "shift", "smallest_p", "spread"]

EXACT = 200_000
"""Deals that are all counted: 10 against 10 runs have 184,756."""
DEALS = 99_999
"""Random deals where there are more."""

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


def compare(control: Sequence[float], variant: Sequence[float], *, seed: int = 0) -> Comparison:
    """Compare a variant's values with the control's.

    Parameters
    ----------
    seed : int
        Of the random deals, where there are too many to be counted.
    """
    if not len(control) or not len(variant):
        return Comparison(math.nan, math.nan, math.nan, math.nan, math.nan, "none: a side has no value")
    a, b = np.asarray(control, np.float64), np.asarray(variant, np.float64)
    p, test = _test(a, b, seed)
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


def _test(a: F64, b: F64, seed: int) -> tuple[float, str]:
    """Return the p value of the rank sum, and the test's name."""
    ranks = _ranks(np.concatenate([a, b]))
    expected = len(b) * (len(ranks) + 1) / 2
    # Half ranks are exact in binary, so the comparison needs no tolerance.
    observed = abs(float(ranks[len(a) :].sum()) - expected)
    deals = math.comb(len(ranks), len(b))
    if deals <= EXACT:
        far = int((np.abs(_all_sums(ranks, len(b), deals) - expected) >= observed).sum())
        return far / deals, "Mann-Whitney, exact, two-sided"
    random = np.random.default_rng(seed)
    sums = np.array([random.permutation(ranks)[: len(b)].sum() for _ in range(DEALS)])
    far = int((np.abs(sums - expected) >= observed).sum())
    return (far + 1) / (DEALS + 1), f"Mann-Whitney, {DEALS:,} random deals (seed {seed}), two-sided"


def _ranks(values: F64) -> F64:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: F64 = (last - (counts - 1) / 2).astype(np.float64)
    return means[group]


def _all_sums(ranks: F64, taken: int, deals: int) -> F64:
    """Return the rank sum of each deal."""
    places = itertools.chain.from_iterable(itertools.combinations(range(len(ranks)), taken))
    sums: F64 = ranks[np.fromiter(places, np.int64, deals * taken).reshape(deals, taken)].sum(axis=1)
    return sums
