"""Whose turn is when: offsets that keep guests which fall due at once from contending for the same cores.

A tick train of interval a and one of interval b come no nearer to each other than their offsets do modulo gcd(a, b), so
that is what is kept apart. Pure. Refuses to make a turn late: an offset only ever brings a capture forward (see
`capture.schedule`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["apart", "phases"]

_MOST = 64
"""Offsets that are tried for one guest; and guests beyond which they are only counted off."""


def apart(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Return how near two trains of ticks (interval, offset; ms) ever come to each other, ms."""
    common = math.gcd(one[0], other[0])
    distance = (one[1] - other[1]) % common
    return min(distance, common - distance)


def phases(intervals: Mapping[str, float]) -> dict[str, float]:
    """Return an offset for each guest, s, such that turns are far from each other.

    Guests are placed one after another, the shortest interval first, each where the nearest of those placed is
    farthest; n guests of one interval end up an nth of it apart. The same guests give the same offsets.

    Parameters
    ----------
    intervals : mapping of str to float
        Seconds, by guest.
    """
    trains = {name: max(1, round(1000 * seconds)) for name, seconds in intervals.items()}
    order = sorted(trains, key=lambda name: (trains[name], name))
    if len(order) > _MOST:
        return {name: trains[name] * number / len(order) / 1000 for number, name in enumerate(order)}
    common = math.gcd(*trains.values())
    placed: dict[str, tuple[int, int]] = {}
    for name in order:
        placed[name] = trains[name], _farthest(trains[name], common / len(order), list(placed.values()))
    return {name: offset / 1000 for name, (_, offset) in placed.items()}


def _farthest(interval: int, step: float, placed: list[tuple[int, int]]) -> int:
    count = max(1, min(_MOST, round(interval / step)))
    offsets = [round(interval * number / count) for number in range(count)]
    return max(offsets, key=lambda offset: min((apart((interval, offset), each) for each in placed), default=0))
