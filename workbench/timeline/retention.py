"""Which captures to keep: tiers by age, marks, holds and a limit of bytes; pure functions, nothing is read or deleted.

Rules: docs/design.md, section 4.1. Refuses tiers that contradict each other, and to drop what is protected, whatever
the limit: it says then that the limit cannot be held.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from workbench.errors import UsageError
from workbench.model import CaptureId, CaptureRecord, CaptureRef, Mark
from workbench.timeline.current import REWIND
from workbench.timeline.history import capture_of_mark

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HOLD", "Retention", "Tier", "choose", "dropped", "protected", "retained_bytes"]

HOLD = "hold"
"""Kind of the marks that hold a capture."""

_NS = 10**9
_UNITS = {"s": _NS, "m": 60 * _NS, "h": 3600 * _NS, "d": 86400 * _NS, "w": 7 * 86400 * _NS}
_SPAN = re.compile(r"([1-9]\d{0,8})(s|m|h|d|w)")
_TIER = re.compile(r"(\S+) for (\S+)")
_BYTES = re.compile(r"([1-9]\d{0,14})(?: ?([kMGT])(i?)B?)?")
_LIMIT = "at most "
_CURE = "Write it like 'all for 10m, 1m for 1d, 1h for 30d, at most 50 GB'; spans are s, m, h, d or w."
_LONGEST_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Tier:
    """One capture of every interval, for a span back from now.

    Attributes
    ----------
    every_ns : int
        The interval, ns; 0 for every capture.
    for_ns : int
        The span, ns.
    """

    every_ns: int
    for_ns: int

    def __str__(self) -> str:
        return f"{_show(self.every_ns) if self.every_ns else 'all'} for {_show(self.for_ns)}"


@dataclass(frozen=True, slots=True)
class Retention:
    """What to keep.

    Attributes
    ----------
    tiers : tuple of Tier
        From the shortest span to the longest; at least one.
    max_bytes : int or None
        What captures may take together, as `retained_bytes` counts it.
    """

    tiers: tuple[Tier, ...]
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        _check(self.tiers, self.max_bytes)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `all for 10m, 1m for 1d, 1h for 30d, at most 50 GB`.

        Raises
        ------
        UsageError
            If it is not of that form, or the tiers make no sense together.
        """
        parts = [part.strip() for part in text.split(",")]
        limits = [part for part in parts if part.startswith(_LIMIT)]
        tiers = [_TIER.fullmatch(part) for part in parts if part not in limits]
        if len(limits) > 1 or not tiers or not all(tiers):
            raise UsageError("this is no retention", found=text, cure=_CURE)
        found = tuple(Tier(_every(match[1]), _span(match[2])) for match in tiers if match)
        return cls(found, _bytes(limits[0].removeprefix(_LIMIT)) if limits else None)

    @classmethod
    def of(cls, tiers: Iterable[Mapping[str, Any]], max_bytes: int | str | None = None) -> Self:
        """Make one of settings: `[{"every": "all", "for": "10m"}, {"every": "1m", "for": "1d"}]`.

        Raises
        ------
        UsageError
            If a tier has other keys or no spans, or they make no sense together.
        """
        found = []
        for tier in tiers:
            if set(tier) != {"every", "for"} or not all(isinstance(value, str) for value in tier.values()):
                raise UsageError("a tier has 'every' and 'for', both text", found=dict(tier), cure=_CURE)
            found.append(Tier(_every(tier["every"]), _span(tier["for"])))
        return cls(tuple(found), _bytes(max_bytes) if isinstance(max_bytes, str) else max_bytes)

    def __str__(self) -> str:
        limit = [] if self.max_bytes is None else [f"{_LIMIT}{self.max_bytes}"]
        return ", ".join([*map(str, self.tiers), *limit])


def _check(tiers: Sequence[Tier], max_bytes: int | None) -> None:
    if not tiers:
        raise UsageError("a retention needs a tier", cure=_CURE)
    for shorter, longer in pairwise(tiers):
        if longer.for_ns <= shorter.for_ns or longer.every_ns <= shorter.every_ns:
            raise UsageError(
                "each tier must reach further back than the one before, and keep fewer captures",
                found=f"{shorter}, {longer}",
                cure=_CURE,
            )
    for tier in tiers:
        if not 0 <= tier.every_ns <= tier.for_ns <= _LONGEST_NS or not tier.for_ns:
            raise UsageError("a tier must be at least as long as its interval", found=str(tier), cure=_CURE)
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes <= 0):
        raise UsageError("the limit must be a number of bytes above 0", found=max_bytes, cure=_CURE)


def _every(text: str) -> int:
    return 0 if text == "all" else _span(text)


def _span(text: str) -> int:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise UsageError("this is no span of time", found=text, cure=_CURE)
    return int(match[1]) * _UNITS[match[2]]


def _show(span: int) -> str:
    """Return a span as it is written; of one that no unit divides the nanoseconds, which cannot be read back."""
    unit = next((unit for unit, size in reversed(_UNITS.items()) if span % size == 0), None)
    return f"{span} ns" if unit is None else f"{span // _UNITS[unit]}{unit}"


def _bytes(text: str) -> int:
    match = _BYTES.fullmatch(text)
    if match is None:
        raise UsageError("this is no amount of bytes", found=text, cure="Write it like 50 GB, 20 GiB or 1000000.")
    power = " kMGT".index(match[2] or " ")
    base = 1024 if match[3] else 1000
    return int(match[1]) * int(base**power)


# What is never dropped.


def protected(
    captures: Sequence[CaptureRecord], marks: Iterable[Mark], holds: Mapping[CaptureId, str]
) -> dict[CaptureId, str]:
    """Return the captures that are never dropped, and why.

    Parameters
    ----------
    captures : sequence of CaptureRecord
        All of one guest.
    marks : iterable of Mark
        All of that guest; those of kind `HOLD` hold what they name.
    holds : mapping of CaptureId to str
        Held by others (what clones run from), and why.
    """
    order = sorted(captures, key=_age)
    known = {record.id for record in order}
    reasons: dict[CaptureId, str] = dict(holds)
    refs = [CaptureRef(record.time_ns, record.id) for record in order]
    for mark in marks:
        reasons |= dict.fromkeys(_shown(mark, refs), "held" if mark.kind == HOLD else f"mark {mark.name}")
    reasons |= {record.id: f"newest of branch {record.branch}" for record in {r.branch: r for r in order}.values()}
    for record in {each.branch: each for each in reversed(order)}.values():
        reasons.setdefault(record.id, f"first of branch {record.branch}")
        if record.parent is not None:
            reasons[record.parent] = f"branch {record.branch} forks from it"
    if order:
        reasons[order[0].id] = "first of the guest"
    return {capture: why for capture, why in reasons.items() if capture in known}


def _shown(mark: Mark, refs: Sequence[CaptureRef]) -> list[CaptureId]:
    """Return what a mark shows; of a rewind also the capture that undoes it, which its note names."""
    shown = capture_of_mark(mark, refs)
    found = [] if shown is None else [shown]
    if mark.kind == REWIND and mark.note.startswith("safety="):
        found.append(CaptureId(mark.note.removeprefix("safety=")))
    return found


# The choice.


def choose(
    retention: Retention,
    captures: Sequence[CaptureRecord],
    marks: Iterable[Mark],
    holds: Mapping[CaptureId, str],
    now_ns: int,
) -> pd.DataFrame:
    """Choose which captures of a guest to keep.

    Parameters
    ----------
    captures : sequence of CaptureRecord
        All of one guest, in any order.
    marks, holds
        As `protected` takes them.
    now_ns : int
        UTC, ns since the epoch.

    Returns
    -------
    pandas.DataFrame
        capture : str, 64 hex digits; time : datetime64[ns, UTC]; bytes : int64, those it added; keep : bool;
        reason : str. By time. `attrs["over"]` says by how many bytes what is kept exceeds `max_bytes`: more than 0
        where what is protected does not fit.
    """
    import pandas as pd  # half a second: only who wants a table pays it

    order = sorted(captures, key=_age)
    safe = protected(order, marks, holds)
    wanted = _wanted(retention.tiers, order, now_ns)
    kept = {record.id for record in order if record.id in safe or record.id in wanted}
    reasons = {**dict.fromkeys((record.id for record in order), "no tier wants it"), **wanted, **safe}
    over = _limit(retention.max_bytes, order, safe, kept, reasons)
    columns = {
        "capture": pd.Series([record.id for record in order], dtype="object"),
        "time": pd.to_datetime(pd.Series([record.time_ns for record in order], dtype="int64"), unit="ns", utc=True),
        "bytes": pd.Series([retained_bytes(record) for record in order], dtype="int64"),
        "keep": pd.Series([record.id in kept for record in order], dtype="bool"),
        "reason": pd.Series([reasons[record.id] for record in order], dtype="object"),
    }
    frame = pd.DataFrame(columns)
    frame.attrs["over"] = over
    return frame


def dropped(chosen: pd.DataFrame) -> set[CaptureId]:
    """Return what a choice does not keep."""
    return set(chosen.loc[~chosen["keep"], "capture"])


def _wanted(tiers: Sequence[Tier], order: Sequence[CaptureRecord], now_ns: int) -> dict[CaptureId, str]:
    """Return what the tiers want, and which tier: the oldest capture of each of its intervals, by branch."""
    wanted: dict[CaptureId, str] = {}
    for tier in tiers:
        taken: set[tuple[int, int] | CaptureId] = set()
        for record in order:
            slot = (record.branch, record.time_ns // tier.every_ns) if tier.every_ns else record.id
            if slot not in taken and now_ns - record.time_ns <= tier.for_ns:
                wanted.setdefault(record.id, f"tier {tier}")
            taken.add(slot)
    return wanted


def _limit(
    most: int | None,
    order: Sequence[CaptureRecord],
    safe: Mapping[CaptureId, str],
    kept: set[CaptureId],
    reasons: dict[CaptureId, str],
) -> int:
    """Drop the oldest unprotected until what is kept fits; return by how many bytes it does not."""
    over = 0 if most is None else sum(retained_bytes(record) for record in order if record.id in kept) - most
    for record in order:
        if over <= 0:
            break
        if record.id in kept and record.id not in safe:
            kept.discard(record.id)
            reasons[record.id] = "over the limit of bytes"
            over -= retained_bytes(record)
    return max(over, 0)


def retained_bytes(record: CaptureRecord) -> int:
    """Return the bytes that a capture added, as it states them; facts are data, and what is no number counts for 0."""
    stored = record.facts.get("stored_bytes")
    return stored if isinstance(stored, int) and not isinstance(stored, bool) and 0 <= stored < 2**50 else 0


def _age(record: CaptureRecord) -> tuple[int, CaptureId]:
    return record.time_ns, record.id
