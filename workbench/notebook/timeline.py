"""The timeline of a case in a page: every capture of every guest and branch, to be looked through and chosen from.

Small traits go both ways (`selected`, `brush`, `view`); the captures go to the page once, as columns of numbers (see
`history`), and what is appended afterwards alone. The page draws; what a capture is, is asked of the case. Refuses to
put a text of a guest on a page that is not inert, and to write anything but marks.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import pandas as pd
import traitlets

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.front import module, style
from workbench.notebook.history import PREFIX, History, Source, read_history
from workbench.notebook.picture import as_image, timeline_picture
from workbench.notebook.reading import count_captures
from workbench.notebook.runs import clones_of
from workbench.notebook.still import STATIC, Still
from workbench.notebook.text import inert, when

if TYPE_CHECKING:
    from workbench.case import Case, Moment

__all__ = ["STATIC", "Timeline"]

_REBASE = 4096
"""Captures appended after which the page gets all columns again."""
_PARTS = ("base", "data", "look", "view", "paint", "page", "input", "timeline")


class Timeline(Still, anywidget.AnyWidget):
    """Every capture of a case, drawn; zoom, pan, select, mark.

    Parameters
    ----------
    case : Case
    guest : str or sequence of str, optional
        Names or UUIDs; all guests without.
    every : float
        Seconds between looks for new captures while `live`.

    Attributes
    ----------
    selected : str
        The chosen capture's id, or "". May be set to the first 4 or more digits of one.
    brush, view : list of float
        A span of time, and what is visible: two times in ms since 1970 (UTC), or empty.
    link : str
        A lasting link to the chosen moment (`Moment.link`), or "".
    live : bool
        Whether new captures are looked for in the background.
    """

    _esm = module(*_PARTS)
    _css = style("timeline")

    columns = traitlets.Bytes(b"").tag(sync=True)
    fresh = traitlets.Bytes(b"").tag(sync=True)
    lanes = traitlets.List(traitlets.Dict()).tag(sync=True)
    marks = traitlets.List(traitlets.Dict()).tag(sync=True)
    forks = traitlets.List(traitlets.Dict()).tag(sync=True)
    here = traitlets.List(traitlets.Dict()).tag(sync=True)
    runs = traitlets.List(traitlets.Dict()).tag(sync=True)
    about = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)
    link = traitlets.Unicode("").tag(sync=True)
    brush = traitlets.List(traitlets.Float()).tag(sync=True)
    view = traitlets.List(traitlets.Float()).tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)

    def __init__(self, case: Case | Source, guest: str | Sequence[str] | None = None, *, every: float = 2.0) -> None:
        self.case: Any = case
        self._guests = [guest] if isinstance(guest, str) else guest
        self._every = every
        self._refreshing = threading.Lock()
        self._poller: threading.Thread | None = None
        self._keep(read_history(case, self._guests))
        self._based = len(self._history.frame)
        self._seen = self._sign()
        super().__init__(**self._traits_of(self._history), columns=self._history.columns())
        self.on_msg(self._asked)

    def __repr__(self) -> str:
        return f"<Timeline of {len(self._history.frame)} captures in {len(self.lanes)} lanes>"

    def still(self) -> str:
        """Return its picture as HTML."""
        return as_image(self.picture(), repr(self))

    def picture(self) -> str:
        """Return it as an SVG picture of bounded size, the same for the same captures."""
        return timeline_picture(self._history, self.selected)

    # What a user does with it.

    @property
    def selected_moment(self) -> Moment | None:
        """The chosen moment, or None."""
        return self.moment_of(self.selected) if self.selected else None

    def moment_of(self, capture: str) -> Moment:
        """Return the moment of a capture that is shown (its whole id); of a clone's it is the clone's moment."""
        row = self._row(capture)
        asked, guest = (f"id:{capture}", row["guest"]) if row["own"] else (capture, None)
        moment: Moment = self.case.moment(asked, guest)
        return moment

    def newest(self) -> str:
        """Return the id of the newest capture, or ""."""
        return str(self._history.frame["id"].iloc[-1]) if len(self._history.frame) else ""

    @property
    def brushed(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """The chosen span of time (UTC), or None."""
        if not self.brush:
            return None
        first, last = (pd.Timestamp(round(each * 1e6), unit="ns", tz="UTC") for each in self.brush)
        return first, last

    def captures(self) -> pd.DataFrame:
        """Return the captures in the chosen span, all without one; columns as `Case.timeline`, and guest, lane."""
        frame, span = self._history.frame, self.brushed
        return frame if span is None else frame[frame["time"].between(*span)]

    def select(self, when: str, guest: str | None = None) -> None:
        """Choose a moment by any of its names: a time, `-30s`, a mark, an id.

        Raises
        ------
        MomentNotFoundError, AmbiguousMomentError, UsageError
        """
        self.selected = self.case.moment(when, guest).id

    def note(self, name: str, note: str = "") -> None:
        """Save a mark of the chosen moment in the case.

        Raises
        ------
        UsageError
            If nothing is chosen.
        StoreError
        """
        moment = self.selected_moment
        if moment is None:
            raise UsageError("no moment is chosen", cure="Click on one, or use the arrow keys.")
        self.case.mark(name, moment, note=note)
        self.refresh()

    def refresh(self) -> int:
        """Look for new captures and marks; return how many captures came.

        Raises
        ------
        StoreError
        """
        with self._refreshing:
            seen = self._sign()
            if seen == self._seen:
                return 0
            before = self._history
            now = read_history(self.case, self._guests, before)
            self._keep(now)
            self._seen = seen
            goes_on = now.goes_on_from(before) and len(now.frame) - self._based <= _REBASE
            self._based = self._based if goes_on else len(now.frame)
            with self.hold_sync():
                self.fresh = now.columns(self._based)
                if not goes_on:
                    self.columns = now.columns()
                for name, value in self._traits_of(now).items():
                    setattr(self, name, value)
            return len(now.frame) - len(before.frame)

    def _traits_of(self, history: History) -> dict[str, Any]:
        return {
            "lanes": history.lanes,
            "marks": history.marks,
            "forks": history.forks,
            "here": history.here,
            "runs": history.runs,
            "said": history.untold,
        }

    def _sign(self) -> Any:
        """Return something small that changes when captures or marks come; see `Case.__repr__` for the same count."""
        guests = [each for each in self.case.guests() if self._guests is None or {each.name, each.id} & {*self._guests}]
        counts = [(each.id, _newest(self.case, each.id), len(self.case.marks(each.id))) for each in guests]
        return counts, clones_of(self.case)

    def _row(self, capture: str) -> Any:
        return self._history.frame.iloc[self._places[capture[:PREFIX]]]

    def _keep(self, history: History) -> None:
        """Take a history, and where in it each capture is: a choice among 100,000 must not look at them all."""
        self._history = history
        self._places = {str(capture)[:PREFIX]: at for at, capture in enumerate(history.ids)}

    # Traits.

    @traitlets.validate("selected")
    def _whole_id(self, proposal: Any) -> str:
        asked = str(proposal["value"])
        if not asked:
            return ""
        if len(asked) >= PREFIX and (place := self._places.get(asked[:PREFIX])) is not None:
            whole = str(self._history.frame["id"].iloc[place])
            found = [whole] if whole.startswith(asked) else []
        else:
            found = [each for each in self._history.ids if each.startswith(asked)] if len(asked) >= 4 else []
        if len(found) != 1:
            raise traitlets.TraitError(f"{len(found)} captures begin with {inert(asked, 64)!r}")
        return found[0]

    @traitlets.validate("brush", "view")
    def _span(self, proposal: Any) -> list[float]:
        span = [float(each) for each in proposal["value"]]
        if span and (len(span) != 2 or not all(math.isfinite(each) for each in span)):
            raise traitlets.TraitError(f"two times in ms since 1970, or none: {span}")
        return sorted(span)

    @traitlets.observe("selected")
    def _tell(self, change: Any) -> None:
        chosen = str(change["new"])
        self.about = _about(self._row(chosen), self.lanes) if chosen else []
        self.link = self.moment_of(chosen).link if chosen else ""

    @traitlets.observe("live")
    def _live(self, change: Any) -> None:
        if change["new"] and (self._poller is None or not self._poller.is_alive()):
            whose = (weakref.ref(self), self._every)
            self._poller = threading.Thread(target=_poll, args=whose, name="timeline", daemon=True)
            self._poller.start()

    def _asked(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """Do what the page asks for: a look for new captures, or a note."""
        asked = content.get("ask") if isinstance(content, dict) else None
        try:
            if asked == "refresh":
                self.refresh()
            elif asked == "note":
                name = str(content.get("name", "")).strip()[:200]
                self.note(name or "note", str(content.get("note", ""))[:2000])
                self.said = f"Saved the mark {inert(name or 'note', 80)}."
        except WorkbenchError as error:
            self.said = inert(error, 400)


def _newest(case: Any, guest: str) -> Any:
    """Return the newest capture of a guest and how many there are, from the listing alone where there is one."""
    count = count_captures(case, guest)
    if not count:
        return len(case.timeline(guest))
    return count, case.store.captures(guest)[-1].id


def _poll(widget: weakref.ref[Timeline], every: float) -> None:
    """Refresh a widget until it is gone or no longer live; a slow look is followed by a longer wait."""
    wait = every
    while True:
        time.sleep(wait)
        here = widget()
        if here is None or not here.live or here.comm is None:
            return
        began = time.monotonic()
        try:
            here.refresh()
        except WorkbenchError as error:
            here.said = inert(error, 400)
        wait = max(every, 10 * (time.monotonic() - began))
        del here


def _about(row: Any, lanes: list[dict[str, Any]]) -> list[list[str]]:
    """Return what is known of a capture, as pairs of inert texts."""
    number = {"dirty pages": row["dirty_pages"], "dirty clusters": row["dirty_clusters"], "pause ms": row["pause_ms"]}
    pairs = [
        ("time", when(row["time"].value)),
        ("capture", str(row["id"])[:12]),
        ("guest", lanes[int(row["lane"])]["guest"]),
        ("branch", row["branch"]),
        ("mode", row["mode"]),
        *((name, f"{value:,.1f}".removesuffix(".0")) for name, value in number.items() if not pd.isna(value)),
        ("reason", row["reason"]),
        ("marks", row["marks"]),
    ]
    return [[name, inert(value)] for name, value in pairs if str(value)]
