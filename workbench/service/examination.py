"""What is looked for in one increment: YARA rules in the pages that changed, and findings of detectors that are new.

Runs in the examiner's process. A hit is told with the rule or the kind of finding as its name, so that the gate of
triggers can hold back what comes again and again. Refuses to tell more than a bound of what a guest can make up.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.capture.triggers.event import Event
from workbench.errors import WorkbenchError
from workbench.inquiry.answer import Answer
from workbench.inquiry.keeping import cache_of
from workbench.memory.desk import open_desk
from workbench.memory.rules import RuleSet
from workbench.memory.scan import scan_changed
from workbench.model import PAGE, CaptureId, GuestId
from workbench.store import CaseStore

__all__ = ["Examination", "Examined"]

_MOST_EVENTS = 50
"""Rules and kinds of findings that one increment may tell of."""
_MOST_OWNED = 64
"""Rules whose hit is asked for its owner."""
_MOST_BACK = 1_000
"""Captures among which what was looked at last is sought."""
_LONGEST = 200
"""Characters of what a guest may have chosen."""

_Known = frozenset[tuple[Any, ...]]


@dataclass(slots=True)
class Examined:
    """What was found in one increment.

    Attributes
    ----------
    capture : CaptureId
    against : CaptureId or None
        The capture that it was compared with.
    events : list of Event
        One for each rule that hit and each kind of finding that is new, by the capture's time.
    unseen : list of str
        What could not be looked at, and why.
    """

    capture: CaptureId
    against: CaptureId | None
    events: list[Event] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


class Examination:
    """Looks at increments of one case, one after the other.

    Parameters
    ----------
    case : Path
    rules : RuleSet or None
    detectors : sequence of str
        As `workbench.memory.detect.all.DETECTORS` names them.
    whole_first : bool
        Scan all of a guest's first capture; it is no increment.
    """

    def __init__(self, case: Path, rules: RuleSet | None, detectors: Sequence[str], *, whole_first: bool) -> None:
        self._case, self._store = case, CaseStore.open(case)
        self._rules, self._detectors, self._whole_first = rules, detectors, whole_first
        self._known: dict[str, tuple[CaptureId, _Known]] = {}  # by detector: what it found last, and where

    def examine(self, capture: CaptureId, base: CaptureId | None) -> Examined:
        """Look at what came about between two captures.

        Parameters
        ----------
        capture : CaptureId
        base : CaptureId or None
            What was looked at last; where it is not there any more, the newest before `capture` takes its place.

        Raises
        ------
        UsageError, StoreError
            If the capture is not there, or cannot be read.
        """
        guest, ref = self._store.find(capture)
        against = self._before(guest, ref.time_ns, base)
        found = Examined(capture, against)
        for event in self._look(found, ref.time_ns):
            if len(found.events) == _MOST_EVENTS:
                found.unseen.append(f"more than {_MOST_EVENTS} rules and kinds of findings hit at once")
                break
            found.events.append(event)
        return found

    def _before(self, guest: GuestId, time_ns: int, base: CaptureId | None) -> CaptureId | None:
        refs = self._store.captures(guest)
        end = bisect.bisect_left(refs, time_ns, key=lambda ref: ref.time_ns)
        before = [ref.id for ref in refs[max(0, end - _MOST_BACK) : end]]
        if base in before:
            return base
        return before[-1] if before else None

    def _look(self, found: Examined, time_ns: int) -> Iterator[Event]:
        if self._rules is not None and (found.against is not None or self._whole_first):
            yield from self._scan(found, self._rules, time_ns)
        for name in self._detectors:
            yield from self._detect(found, name, time_ns)

    def _scan(self, found: Examined, rules: RuleSet, time_ns: int) -> Iterator[Event]:
        try:
            hits = scan_changed(self._store, found.against, found.capture, rules)
        except WorkbenchError as error:
            found.unseen.append(f"rules: {error.message}")
            return
        if hits.attrs.get("error"):
            found.unseen.append(f"rules: {hits.attrs['error']}")
        first = hits.drop_duplicates(["namespace", "rule"])
        owners = self._owners(found, first)
        counts = hits.groupby(["namespace", "rule"], sort=False).size()
        for row in first.to_dict("records"):
            count = int(counts[(row["namespace"], row["rule"])])
            yield _hit(row, count, owners.get(_frame(row["address"]), ""), time_ns)

    def _owners(self, found: Examined, first: pd.DataFrame) -> dict[int | None, str]:
        """Return in words whose the pages of hits are; a hit stays one where that cannot be told."""
        pages = sorted({frame for each in first["address"].head(_MOST_OWNED) if (frame := _frame(each)) is not None})
        if not pages:
            return {}
        try:
            answer = self._ask(found.capture, "owners", pages=pages)
        except WorkbenchError as error:
            found.unseen.append(f"owners of hits: {error.message}")
            return {}
        return {int(row["pfn"]): _whose(row) for row in answer.frame.to_dict("records")}

    def _detect(self, found: Examined, name: str, time_ns: int) -> Iterator[Event]:
        try:
            known = self._known_before(name, found.against)
            answer = self._ask(found.capture, name)
        except WorkbenchError as error:
            found.unseen.append(f"{name}: {error.message}")
            return
        if answer.error:
            found.unseen.append(f"{name}: {answer.error}")
        self._known[name] = (found.capture, _identities(answer))
        kinds: dict[str, list[dict[Any, Any]]] = {}
        for row in answer.frame.to_dict("records"):
            if _identity(row) not in known:
                kinds.setdefault(str(row["finding"]), []).append(row)
        for kind, new in kinds.items():
            yield _finding(kind, new, time_ns)

    def _known_before(self, name: str, against: CaptureId | None) -> _Known:
        """Return what a detector found in the capture before, which is asked where another was looked at last."""
        if against is None:
            return frozenset()
        capture, known = self._known.get(name, (None, frozenset()))
        return known if capture == against else _identities(self._ask(against, name))

    def _ask(self, capture: CaptureId, name: str, **arguments: Any) -> Answer:
        request = {
            "case": str(self._case),
            "capture": capture,
            "question": f"workbench.{name}",
            "arguments": arguments,
            "cache": str(cache_of(self._case)),
            "options": {},
        }
        return open_desk().answer(request, lambda _percent, _words: None)


def _identities(answer: Answer) -> _Known:
    return frozenset(_identity(row) for row in answer.frame.to_dict("records"))


def _identity(row: dict[Any, Any]) -> tuple[Any, ...]:
    """Return what makes two findings of two captures the same one."""
    return tuple(None if pd.isna(row[name]) else row[name] for name in ("finding", "pid", "address", "subject"))


def _frame(address: Any) -> int | None:
    return None if pd.isna(address) else int(address) // PAGE


def _hit(row: dict[Any, Any], count: int, owner: str, time_ns: int) -> Event:
    where = "" if pd.isna(row["address"]) else f" at {int(row['address']):#x}"
    times = f", {count} hits" if count > 1 else ""
    words = f"YARA rule {row['rule']}{where}{f' in {owner}' if owner else ''}{times}"
    return Event("increment", f"yara-{row['rule']}", words, time_ns, {"kind": "yara"})


def _whose(row: dict[Any, Any]) -> str:
    told = [str(row[name])[:_LONGEST] for name in ("owner", "process", "pid", "path") if not pd.isna(row[name])]
    return " ".join(told)


def _finding(kind: str, rows: Sequence[dict[Any, Any]], time_ns: int) -> Event:
    first = rows[0]
    pid = "" if pd.isna(first["pid"]) else f" (pid {first['pid']})"
    more = f"; and {len(rows) - 1} more" if len(rows) > 1 else ""
    words = f"{kind.replace('_', ' ')} {str(first['subject'])[:_LONGEST]}{pid}{more}: {first['reason']}"
    return Event("increment", f"detect-{kind}", words, time_ns, {"kind": "alert"})
