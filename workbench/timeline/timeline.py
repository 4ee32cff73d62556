"""Resolve what a user asks for (`latest`, a time, a mark, an id, `2 captures ago`) to one capture.

Refuses to guess: what fits two captures in two ways is an error that lists them, what fits none says what exists,
and nothing is known of the future. Forms and rules: docs/design.md, section 4.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from workbench.errors import AmbiguousMomentError, MomentNotFoundError, UsageError
from workbench.model import CaptureId, CaptureRecord, CaptureRef, GuestId, Mark
from workbench.store import CaseStore
from workbench.timeline.forks import FORK, forks_of
from workbench.timeline.history import Branch, branches_of, frame_of
from workbench.timeline.links import linked
from workbench.timeline.times import parse_span, parse_time, show_time

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMS", "Timeline"]

FORMS = (
    "Ask for latest, a time (2024-05-01T12:30:05+02:00; without a zone it is UTC), -30s, -5m, -2h, "
    "'2 captures ago', a mark, before:MARK, after:MARK, at least 4 digits of a capture's id, or a link (wb://...)."
)

_AGO = re.compile(r"(\d{1,9}) captures? ago")
_PREFIX = re.compile(r"[0-9a-f]{4,64}")
_WHOLE = re.compile(r"[0-9a-f]{64}")
_LISTED = 8


class Timeline:
    """The moments of one guest.

    Parameters
    ----------
    store : CaseStore
    guest : GuestId
    """

    def __init__(self, store: CaseStore, guest: GuestId) -> None:
        self._store = store
        self.guest = guest

    def captures(self) -> Sequence[CaptureRef]:
        """Return all captures by time.

        Raises
        ------
        StoreError
        """
        return self._store.captures(self.guest)

    def records(self, since: CaptureRef | None = None) -> list[CaptureRecord]:
        """Return the records of all captures by time, or of those that come after one; no other is read.

        Raises
        ------
        DamagedError, FormatError, StoreError
        """
        refs = self.captures()
        begin = 0 if since is None else bisect_right(refs, since)
        return [self._store.record(ref.id) for ref in refs[begin:]]

    def marks(self) -> list[Mark]:
        """Return all marks by time.

        Raises
        ------
        DamagedError, StoreError
        """
        return self._store.marks(self.guest)

    def frame(self, since: str | None = None) -> pd.DataFrame:
        """Return the history as a table, one row per capture, by time.

        Captures of the guest's clones are branches of it, numbered after its own: `parent` of a clone's first one is
        the moment that the clone began at.

        Parameters
        ----------
        since : str, optional
            Only what comes after this moment: a whole id, or any form that `resolve` takes. Takes as long as what is
            new, and a look at the listing.

        Returns
        -------
        pandas.DataFrame
            time : datetime64[ns, UTC], host clock inside the pause; id : str, 64 hex digits; short : str, the first
            12; branch, depth : int64; parent : str or None; mode, reason : str; pause_ms : float64, NaN where not
            known; dirty_pages, dirty_clusters : Int64, counts; stored_bytes : Int64, bytes of new packs and delta;
            marks : str, names joined by a comma.

        Raises
        ------
        MomentNotFoundError, UsageError
            If there is no such moment.
        DamagedError, FormatError, StoreError
        """
        after = None if since is None else self._ref(since)
        records = self.records(after)
        return frame_of([*records, *self._forked(after)], self.marks())

    def _forked(self, after: CaptureRef | None) -> list[CaptureRecord]:
        """Return the captures of this guest's clones as branches of it, or those that come after one."""
        marks = self.marks()
        if not any(mark.kind == FORK for mark in marks):
            return []
        highest = max((record.branch for record in self.records()), default=0)
        found = forks_of(self._store, self.guest, highest)
        return [each for each in found if after is None or CaptureRef(each.time_ns, each.id) > after]

    def _ref(self, text: str) -> CaptureRef:
        """Return the capture with this whole id without a look at any other, else what the text asks for."""
        return self._store.find(CaptureId(text))[1] if _WHOLE.fullmatch(text) else self.resolve(text)

    def branches(self) -> list[Branch]:
        """Return the lines of history, by number.

        Raises
        ------
        DamagedError, FormatError, StoreError
        """
        return branches_of(self.records())

    def line(self, capture: CaptureId) -> list[CaptureRef]:
        """Return the path from `capture` to the oldest ancestor that was not pruned, itself first.

        Raises
        ------
        UsageError
            If the case does not have it.
        DamagedError, FormatError, StoreError
        """
        path = []
        here: CaptureId | None = capture
        while here is not None:
            record = self._store.record(here)
            path.append(CaptureRef(record.time_ns, record.id))
            above = self._store.parent(record)
            here = None if above is None else above.id
        return path

    # Resolving.

    def resolve(self, text: str, now_ns: int | None = None) -> CaptureRef:
        """Return the capture that `text` asks for.

        Parameters
        ----------
        text : str
            See `FORMS`. `time:`, `id:` and `mark:` in front say which form is meant.
        now_ns : int, optional
            What "now" is (UTC, ns since the epoch); the clock's by default.

        Raises
        ------
        MomentNotFoundError
            If nothing fits, or the time lies in the future; it says what exists.
        AmbiguousMomentError
            If two captures fit in different ways; it lists them.
        UsageError
            If `text` has none of the forms.
        DamagedError, FormatError, StoreError
        """
        asked = text.strip()
        now = time.time_ns() if now_ns is None else now_ns
        refs = self.captures()
        if (link := linked(asked, self._store.id)) is not None:
            return self._by_id(link, refs)
        form, colon, rest = asked.partition(":")
        forms: dict[str, Callable[[str], CaptureRef]] = {
            "time": lambda rest: self._at_text(rest, refs, now),
            "id": lambda rest: self._by_id(rest.lower(), refs),
            "mark": lambda rest: self._by_mark(rest, refs),
            "before": lambda rest: self._before(rest, refs),
            "after": lambda rest: self._after(rest, refs),
        }
        if colon and form in forms and rest.strip():
            return forms[form](rest.strip())
        if asked == "latest":
            return self._latest(refs)
        if ago := _AGO.fullmatch(asked):
            return self._ago(int(ago.group(1)), refs)
        if (span := parse_span(asked)) is not None:
            return self._at(now - span, refs, asked)
        return self._by_any(asked, refs, now)

    def _by_any(self, asked: str, refs: Sequence[CaptureRef], now: int) -> CaptureRef:
        """Try the forms that may be mistaken for each other: a mark's name, a time, an id."""
        fits: list[tuple[str, CaptureRef]] = []
        if any(mark.name == asked for mark in self.marks()):
            fits.append(("mark", self._by_mark(asked, refs)))
        is_time = parse_time(asked) is not None
        is_id = _PREFIX.fullmatch(asked.lower()) is not None
        if is_time and not fits:
            return self._at_text(asked, refs, now)
        if is_id and not fits:
            return self._by_id(asked.lower(), refs)
        if is_time:
            fits.append(("time", self._at_text(asked, refs, now)))
        if is_id and any(ref.id.startswith(asked.lower()) for ref in refs):
            fits.append(("id", self._by_id(asked.lower(), refs)))
        if len({ref for _, ref in fits}) == 1:
            return fits[0][1]
        if fits:
            told = ", ".join(f"{form}:{asked} is {_show(ref)}" for form, ref in fits)
            raise AmbiguousMomentError(f"'{asked}' means two things: {told}", cure="Write which one you mean.")
        raise UsageError(f"'{asked}' is no moment and no mark of this guest", marks=self._mark_names(), cure=FORMS)

    def _mark_names(self) -> list[str]:
        return sorted({mark.name for mark in self.marks()})[:_LISTED]

    def _nothing(self, asked: str, refs: Sequence[CaptureRef], why: str) -> MomentNotFoundError:
        """Return an error that says what exists."""
        if not refs:
            return MomentNotFoundError(f"nothing for '{asked}': this guest has no captures", cure="Capture it first.")
        exists = f"{len(refs)} captures exist, from {_show(refs[0])} to {_show(refs[-1])}"
        return MomentNotFoundError(f"nothing for '{asked}': {why}; {exists}", cure=FORMS)

    def _latest(self, refs: Sequence[CaptureRef]) -> CaptureRef:
        if not refs:
            raise self._nothing("latest", refs, "")
        return refs[-1]

    def _ago(self, count: int, refs: Sequence[CaptureRef]) -> CaptureRef:
        """Return the capture `count` steps back along the line of the latest, not by time: a rewind goes back too."""
        latest = self._store.record(self._latest(refs).id)
        if self._store.pruned(self.guest):
            return self._kept_ago(count, refs)
        if count > latest.depth:
            why = f"the line of the latest has {latest.depth + 1} captures"
            raise self._nothing(f"{count} captures ago", refs, why)
        record = self._store.record(self._store.ancestor(latest.id, latest.depth - count))
        return CaptureRef(record.time_ns, record.id)

    def _kept_ago(self, count: int, refs: Sequence[CaptureRef]) -> CaptureRef:
        """Return the capture `count` steps back where some were pruned: those do not count."""
        line = self.line(self._latest(refs).id)
        if count >= len(line):
            raise self._nothing(f"{count} captures ago", refs, f"the line of the latest has {len(line)} captures")
        return line[count]

    def _at_text(self, asked: str, refs: Sequence[CaptureRef], now: int) -> CaptureRef:
        at = parse_time(asked)
        if at is None:
            raise UsageError(f"'{asked}' is no time", cure=FORMS)
        if at > now and not (refs and at <= refs[-1].time_ns):
            told = f"that is {show_time(at)}, in the future (now is {show_time(now)})"
            raise self._nothing(asked, refs, told)
        return self._at(at, refs, asked)

    def _at(self, time_ns: int, refs: Sequence[CaptureRef], asked: str) -> CaptureRef:
        """Return the newest capture at or before an instant, of whatever branch."""
        end = bisect_right(refs, time_ns, key=_time)
        if end == 0:
            raise self._nothing(asked, refs, f"no capture is as old as {show_time(time_ns)}")
        begin = bisect_left(refs, refs[end - 1].time_ns, key=_time)
        return self._on_line(refs[begin:end], refs)

    def _on_line(self, same: Sequence[CaptureRef], refs: Sequence[CaptureRef]) -> CaptureRef:
        """Return of captures of the same instant the one on the line of the latest, or the last one."""
        if len(same) > 1:
            latest = self._store.record(refs[-1].id)
            for ref in same:
                depth = self._store.record(ref.id).depth
                with suppress(UsageError):  # that ancestor was pruned
                    if depth <= latest.depth and self._store.ancestor(latest.id, depth) == ref.id:
                        return ref
        return same[-1]

    def _by_id(self, prefix: str, refs: Sequence[CaptureRef]) -> CaptureRef:
        if _PREFIX.fullmatch(prefix) is None:
            raise UsageError(f"'{prefix}' is no id of a capture", cure="Give 4 to 64 hexadecimal digits.")
        found = self._whole(prefix) if _WHOLE.fullmatch(prefix) else [ref for ref in refs if ref.id.startswith(prefix)]
        if len(found) > 1:
            shown = ", ".join(_show(ref) for ref in found[:_LISTED])
            more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
            raise AmbiguousMomentError(
                f"{len(found)} captures begin with '{prefix}': {shown}{more}", cure="Give more digits."
            )
        if not found:
            hint = "a date is written 2024-05-01" if prefix.isdecimal() else "no capture's id begins so"
            raise self._nothing(prefix, refs, hint)
        return found[0]

    def _whole(self, capture: str) -> list[CaptureRef]:
        """Return the guest's capture with this whole id, if it has it, without a look at every other."""
        try:
            guest, ref = self._store.find(CaptureId(capture))
        except UsageError:
            return []
        return [ref] if guest == self.guest else []

    def _mark(self, name: str) -> Mark:
        found = [mark for mark in self.marks() if mark.name == name]
        if len(found) > 1:
            shown = ", ".join(show_time(mark.time_ns) for mark in found[:_LISTED])
            raise AmbiguousMomentError(
                f"{len(found)} marks are called '{name}': at {shown}", cure="Ask for one of these times."
            )
        if not found:
            raise MomentNotFoundError(f"no mark is called '{name}'", marks=self._mark_names(), cure=FORMS)
        return found[0]

    def _by_mark(self, name: str, refs: Sequence[CaptureRef]) -> CaptureRef:
        mark = self._mark(name)
        for ref in refs if mark.capture is not None else ():
            if ref.id == mark.capture:
                return ref
        return self._at(mark.time_ns, refs, f"mark {name}")

    def _before(self, name: str, refs: Sequence[CaptureRef]) -> CaptureRef:
        """Return the newest capture strictly before a mark's time."""
        return self._at(self._mark(name).time_ns - 1, refs, f"before:{name}")

    def _after(self, name: str, refs: Sequence[CaptureRef]) -> CaptureRef:
        """Return the oldest capture strictly after a mark's time."""
        mark = self._mark(name)
        begin = bisect_right(refs, mark.time_ns, key=_time)
        if begin == len(refs):
            raise self._nothing(f"after:{name}", refs, f"no capture is newer than {show_time(mark.time_ns)}")
        end = bisect_right(refs, refs[begin].time_ns, key=_time)
        return self._on_line(refs[begin:end], refs)


def _time(ref: CaptureRef) -> int:
    return ref.time_ns


def _show(ref: CaptureRef) -> str:
    return f"{ref.id[:12]} ({show_time(ref.time_ns)})"
