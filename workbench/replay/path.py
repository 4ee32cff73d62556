"""The captures from one to another that descends from it, parents first, across rewinds too.

Refuses two captures of which neither descends from the other: no path leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from workbench.errors import UsageError
from workbench.model import CaptureId, CaptureRecord
from workbench.store import CaseStore

__all__ = ["path_between"]

_SHORT = 12


def path_between(store: CaseStore, a: CaptureId, b: CaptureId) -> Sequence[CaptureId]:
    """Return the kept captures from `a` to `b`, both included.

    Where nothing was pruned each is found by skips when it is asked for, so that a path of 100,000 costs no more than
    what is looked at.

    Raises
    ------
    UsageError
        If `b` does not descend from `a`; the message says how they lie.
    DamagedError, FormatError, StoreError
    """
    first, last = store.record(a), store.record(b)
    if first.guest != last.guest:
        raise UsageError(
            "the two captures are of two guests", a=a[:_SHORT], b=b[:_SHORT], cure="Name two of one guest."
        )
    if a == b:
        raise UsageError("the two are the same capture", capture=a[:_SHORT], cure="Name two.")
    if not store.pruned(first.guest):
        if first.depth < last.depth and store.ancestor(b, first.depth) == a:
            return _Line(store, first, last)
    elif a in (line := _line(store, last)):
        return line[line.index(a) :]
    raise _apart(store, first, last)


class _Line(Sequence[CaptureId]):
    """The captures from one to its descendant, each looked up by its depth."""

    def __init__(self, store: CaseStore, first: CaptureRecord, last: CaptureRecord) -> None:
        self._store = store
        self._first, self._last = first, last

    def __len__(self) -> int:
        return self._last.depth - self._first.depth + 1

    @overload
    def __getitem__(self, at: int) -> CaptureId: ...

    @overload
    def __getitem__(self, at: slice) -> list[CaptureId]: ...

    def __getitem__(self, at: int | slice) -> CaptureId | list[CaptureId]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        return self._store.ancestor(self._last.id, self._first.depth + range(len(self))[at])


def _line(store: CaseStore, last: CaptureRecord) -> list[CaptureId]:
    """Return the kept ancestors of a capture, oldest first, and itself."""
    line = [last.id]
    above = store.parent(last)
    while above is not None:
        line.append(above.id)
        above = store.parent(above)
    return line[::-1]


def _apart(store: CaseStore, first: CaptureRecord, last: CaptureRecord) -> UsageError:
    ours, theirs = _line(store, first), set(_line(store, last))
    told = {"a": first.id[:_SHORT], "b": last.id[:_SHORT]}
    if last.id in ours:
        return UsageError("the second capture is an ancestor of the first", **told, cure="Exchange the two.")
    shared = next((each for each in reversed(ours) if each in theirs), None)
    if shared is None:
        return UsageError("the two captures have no kept ancestor in common", **told, cure="Name two of one line.")
    cure = "Begin at the fork, or name two of one line."
    return UsageError("the two captures are on two branches", **told, fork=shared[:_SHORT], cure=cure)
