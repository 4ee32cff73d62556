"""What a guest's history looks like as a tree and as a table; no moment is chosen here.

Refuses to keep a copy of the history: everything is read from the store when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.model import CaptureId, CaptureRecord, CaptureRef, Mark

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "Branch", "branches_of", "capture_of_mark", "frame_of"]

COLUMNS = {
    "time": "int64",
    "id": "object",
    "short": "object",
    "branch": "int64",
    "depth": "int64",
    "parent": "object",
    "mode": "object",
    "reason": "object",
    "pause_ms": "float64",
    "dirty_pages": "Int64",
    "dirty_clusters": "Int64",
    "stored_bytes": "Int64",
    "marks": "object",
}
"""Columns of the table and the types they are made with; `time` becomes datetime64[ns, UTC]."""
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of history.

    Attributes
    ----------
    number : int
        0 for the first; every rewind opens the next.
    first, last : CaptureRef
        By time.
    captures : int
        How many.
    forked_from : CaptureId or None
        The capture of another branch that its first one follows.
    """

    number: int
    first: CaptureRef
    last: CaptureRef
    captures: int
    forked_from: CaptureId | None


def branches_of(records: Sequence[CaptureRecord]) -> list[Branch]:
    """Return the branches of records that are sorted by time, by number."""
    groups: dict[int, list[CaptureRecord]] = {}
    for record in records:
        groups.setdefault(record.branch, []).append(record)
    branches = []
    for number, members in sorted(groups.items()):
        first, last = (CaptureRef(record.time_ns, record.id) for record in (members[0], members[-1]))
        branches.append(Branch(number, first, last, len(members), members[0].parent))
    return branches


def capture_of_mark(mark: Mark, refs: Sequence[CaptureRef]) -> CaptureId | None:
    """Return the capture that shows what a mark marks: the one taken for it, or the newest at or before it."""
    if mark.capture is not None:
        return mark.capture
    earlier = [ref.id for ref in refs if ref.time_ns <= mark.time_ns]
    return earlier[-1] if earlier else None


def frame_of(records: Sequence[CaptureRecord], marks: Sequence[Mark]) -> pd.DataFrame:
    """Return records as a table, by time; see `Timeline.frame`."""
    import pandas as pd  # half a second: only who wants a table pays it

    records = sorted(records, key=lambda record: (record.time_ns, record.id))
    refs = [CaptureRef(record.time_ns, record.id) for record in records]
    names: dict[CaptureId, list[str]] = {}
    for mark in marks:
        capture = capture_of_mark(mark, refs)
        if capture is not None:
            names.setdefault(capture, []).append(mark.name)
    rows = [_row(record, names.get(record.id, [])) for record in records]
    # Each column with its type from the start: pandas would make NaN of None in a column of text.
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()})
    frame["time"] = pd.to_datetime(frame["time"], unit="ns", utc=True)
    return frame


def _row(record: CaptureRecord, marks: list[str]) -> dict[str, Any]:
    pause = _number(record.facts.get("pause_ns"))
    return {
        "time": record.time_ns,
        "id": record.id,
        "short": record.id[:_SHORT],
        "branch": record.branch,
        "depth": record.depth,
        "parent": record.parent,
        "mode": record.mode.value,
        "reason": record.reason,
        "pause_ms": float("nan") if pause is None else pause / 1e6,
        "dirty_pages": _number(record.facts.get("dirty_pages")),
        "dirty_clusters": _number(record.facts.get("dirty_clusters")),
        "stored_bytes": _number(record.facts.get("stored_bytes")),
        "marks": ", ".join(marks),
    }


def _number(value: object) -> int | None:
    """Return a fact that is a whole number, or None: facts are data, and a stranger's case may hold anything."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
