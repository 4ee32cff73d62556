"""Bisection where some questions have no answer; nothing is known here of what is asked about.

Refuses to promise the first change: what is found is one place where the answer turns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

__all__ = ["Turn", "search"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A place where the answer turns from no to yes.

    Attributes
    ----------
    before, after : int
        Positions that said no and yes.
    unknown : tuple of int
        All positions between them: each was asked, none could be told.
    """

    before: int
    after: int
    unknown: tuple[int, ...]


def search(count: int, ask: Callable[[int], bool | None]) -> Turn:
    """Find a turn between position 0, which is known to say no, and the last, which is known to say yes.

    Where every position can be told, `ask` is called at most ceil(log2(count - 1)) times; each that cannot be told
    costs one call more.

    Parameters
    ----------
    count : int
        Positions, at least 2.
    ask : callable
        Answers for a position between; None where that cannot be told. No position is asked twice.
    """
    before, after = 0, count - 1
    unknown: set[int] = set()
    while (at := _next(before, after, unknown)) is not None:
        answer = ask(at)
        if answer is None:
            unknown.add(at)
        elif answer:
            after = at
        else:
            before = at
    return Turn(before, after, tuple(sorted(at for at in unknown if before < at < after)))


def _next(before: int, after: int, unknown: Collection[int]) -> int | None:
    middle = (before + after) // 2
    return next((at for at in _outward(middle, before, after) if at not in unknown), None)


def _outward(middle: int, before: int, after: int) -> Iterator[int]:
    """Yield every position between, from the middle outward: in doubling steps first, to be out of a bad stretch."""
    if before < middle < after:
        yield middle
    far = 1
    while far < after - before:
        yield from (at for at in (middle - far, middle + far) if before < at < after)
        far *= 2
    for near in range(1, after - before):
        yield from (at for at in (middle - near, middle + near) if before < at < after)
