"""What differs between two moments of a guest, in tabs that are filled when they are opened; sliders move the moments.

Everything is asked of the case, off the kernel's main thread; what a row is about is shown below its table. Refuses to
compare two guests, and to ask for a tab that nobody looks at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd
import traitlets

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.diffview_contents import Found, cluster_difference, file_difference, page_difference
from workbench.notebook.diffview_sliders import CaptureSlider
from workbench.notebook.hexdiff import HexDiff
from workbench.notebook.rammap import RamMap
from workbench.notebook.reprs import diff_html
from workbench.notebook.still import STATIC, Still
from workbench.notebook.table import Table
from workbench.notebook.text import inert, markup, when
from workbench.notebook.textdiff import TextDiff
from workbench.notebook.work import Work
from workbench.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from workbench.case import Diff, Moment

__all__ = ["DiffView"]

Compare = Callable[["Diff", pd.Series, Progress], Found]
Ends = tuple[str, str]

_FIRST = ("path", "change", "kind", "old_path", "size_before", "size_after", "modified_before", "modified_after")
_PAGES_FIRST = ("address", "owner", "process", "pid", "path", "detail", "protection", "virtual")


class _Detail(ipywidgets.VBox):  # type: ignore[misc]
    """What a chosen row is about: a text diff or a hex diff."""

    def __init__(self, work: Work) -> None:
        self.work, self.text, self.hex = work, TextDiff(), HexDiff()
        self._turn = 0
        super().__init__([self.work, self.text, self.hex])
        self.clear()

    def compare(self, deed: Callable[[Progress], Found]) -> None:
        """Show what a deed finds, unless something else was chosen meanwhile."""
        self._turn += 1
        turn = self._turn
        self.work.run("Comparing what was chosen", deed, lambda found: self.show(found) if turn == self._turn else None)

    def clear(self) -> None:
        """Show nothing."""
        self._turn += 1
        self.work.tell("")
        for each in (self.text, self.hex):
            each.layout.display = "none"

    def show(self, found: Found) -> None:
        """Show a difference."""
        shown, other = (self.text, self.hex) if found.content is None else (self.hex, self.text)
        said: dict[str, Any] = {"heading": found.heading, "note": found.note, "facts": found.facts}
        if found.content is None:
            self.text.show(found.text, **said)
        else:
            self.hex.show(found.content, **said)
        shown.layout.display, other.layout.display = "", "none"

    def still(self) -> str:
        """Return what is shown as HTML."""
        return "".join(each.still() for each in (self.text, self.hex) if each.layout.display != "none")


class _Part(ipywidgets.VBox):  # type: ignore[misc]
    """One tab: a table, and what its chosen row is about.

    Parameters
    ----------
    view : DiffView
    name : str
        What it is a table of.
    ask : callable
        Asks a diff for the table.
    compare : callable, optional
        Makes of a row what is shown below the table.
    """

    def __init__(
        self, view: DiffView, name: str, ask: Callable[[Diff], pd.DataFrame], compare: Compare | None = None
    ) -> None:
        self.view, self.name, self._ask, self._compare = view, name, ask, compare
        self.filled: Ends | None = None
        self._asked: Ends | None = None
        self.work, self.table = view.make_work(), Table(label=name)
        self.detail = _Detail(view.make_work())
        super().__init__([self.work, *self.above(), self.table, self.detail])
        if compare is not None:
            self.table.observe(self._chosen, "selected")

    def above(self) -> Sequence[Still]:
        """Return what stands above the table."""
        return ()

    def fill(self) -> None:
        """Ask for the table, unless it is there or on its way."""
        ends = self.view.ends
        if self.filled == ends or (self._asked == ends and self.work.running):
            return
        self._asked, self.filled = ends, None
        self.clear()
        self.work.run(f"Comparing {self.name}", lambda progress: self.view.ask(self.take, progress), self._done(ends))

    def clear(self) -> None:
        """Take away what was shown of other moments; the columns stay, and with them the filter and the sorting."""
        self.detail.clear()
        self.table.frame = _none_of(self.table.frame)

    def take(self, diff: Diff) -> Any:
        """Ask the diff for what is shown."""
        return self._ask(diff)

    def _done(self, ends: Ends) -> Callable[[Any], None]:
        def done(answer: Any) -> None:
            self.filled = ends
            self.show(answer)

        return done

    def show(self, answer: Any) -> None:
        """Show an answer."""
        self.table.frame = answer
        failed = answer.attrs.get("failed") or {}
        if failed:
            self.work.tell("Not all could be asked: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))

    def _chosen(self, _change: Any) -> None:
        row, compare = self.table.row, self._compare
        if row is None or compare is None:
            self.detail.clear()
            return
        self.detail.compare(lambda progress: self.view.ask(lambda diff: compare(diff, row, progress), progress))

    def still(self) -> str:
        """Return what is shown as HTML."""
        return "".join([*(each.still() for each in self.above()), self.table.still(), self.detail.still()])


class _Pages(_Part):
    """Changed pages: a map of memory that filters the table."""

    def __init__(self, view: DiffView) -> None:
        self.map, self._frame = RamMap(), pd.DataFrame()
        super().__init__(view, "pages", lambda diff: _ordered(diff.pages(), _PAGES_FIRST), page_difference)
        self.map.observe(self._filter, ["span", "owner"])

    def above(self) -> Sequence[Still]:
        """Return the map."""
        return (self.map,)

    def clear(self) -> None:
        """Take away the pages; the map stays zoomed to where it was."""
        self._frame = _none_of(self._frame)
        self.map.show(self._frame)
        super().clear()

    def take(self, diff: Diff) -> Any:
        """Ask for the pages and for where memory is."""
        return self._ask(diff), diff.b.physical_ranges()

    def show(self, answer: Any) -> None:
        """Show both."""
        self._frame, ranges = answer
        self.map.show(self._frame, ranges)
        self._filter(None)

    def _filter(self, _change: Any) -> None:
        frame = self._frame
        if self.map.span or self.map.owner:
            frame = frame[self.map.chosen].reset_index(drop=True)
            frame.attrs = {}  # they speak of rows by their places
        self.table.label = f"pages {self.map.words}".strip()
        self.table.frame = frame


class DiffView(Still, ipywidgets.VBox):  # type: ignore[misc]
    """Two moments of a guest, compared.

    Parameters
    ----------
    a, b : Moment
        From, to.

    Attributes
    ----------
    a, b : str
        Ids of the two captures; may be set, also to the first 4 or more digits, and follow the sliders.

    Raises
    ------
    UsageError
        If they are of different guests or cases.
    """

    a = traitlets.Unicode("")
    b = traitlets.Unicode("")

    def __init__(self, a: Moment, b: Moment) -> None:
        if a.guest.id != b.guest.id or a.case.path != b.case.path:
            raise UsageError("the two moments are of different guests", cure="Compare moments of one guest.")
        self.case, self.guest = b.case, b.guest
        self._turns, self._ready = threading.Lock(), False
        self._diff: tuple[Ends, Diff] | None = None
        captures, marks = self.case.store.captures(self.guest.id), self.case.marks(self.guest.id)
        self.sliders = [CaptureSlider(captures, marks, name, str(end.id)) for name, end in (("From", a), ("To", b))]
        self._label = ipywidgets.Label()
        self.parts = self._make_parts()
        self.tabs = ipywidgets.Tab(self.parts, titles=[part.name for part in self.parts], selected_index=0)
        super().__init__([*self.sliders, self._label, self.tabs], a=str(a.id), b=str(b.id))
        for name, slider in zip("ab", self.sliders, strict=True):
            traitlets.link((self, name), (slider, "capture"))
        self.tabs.observe(lambda _change: self._fill(), "selected_index")
        self._ready = True
        self._fill()

    def _make_parts(self) -> list[_Part]:
        return [
            _Part(self, "files", lambda diff: _ordered(diff.files(), _FIRST), file_difference),
            _Part(self, "processes", lambda diff: diff.processes()),
            _Pages(self),
            _Part(self, "disks", lambda diff: diff.blocks(), cluster_difference),
            _Part(self, "everything", _everything),
        ]

    def __repr__(self) -> str:
        return f"<DiffView {self.a[:12]} -> {self.b[:12]} of {inert(self.guest.name, 80)!r}>"

    @property
    def ends(self) -> Ends:
        """Ids of the two captures."""
        return self.a, self.b

    @property
    def diff(self) -> Diff:
        """What is compared.

        Raises
        ------
        StoreError
        """
        ends, kept = self.ends, self._diff
        if kept is None or kept[0] != ends:
            first, second = (self.case.moment(f"id:{each}", self.guest.id) for each in ends)
            kept = self._diff = (ends, self.case.diff(first, second))
        return kept[1]

    @property
    def words(self) -> str:
        """Which two moments are compared, and how far apart they are."""
        return str(self._label.value)

    def turn_to(self, name: str) -> None:
        """Open a tab: "files", "processes", "pages", "disks", "everything"; asks again for what failed.

        Raises
        ------
        UsageError
            If there is no such tab.
        """
        names = [part.name for part in self.parts]
        if name not in names:
            raise UsageError(f"no tab {name!r}", tabs=names)
        self.tabs.selected_index = names.index(name)
        self._fill()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for what is under way in the open tab (seconds); tell whether it ended in time."""
        part = self._open_part
        return part is None or (part.work.wait(timeout) and part.detail.work.wait(timeout))

    def still(self) -> str:
        """Return the regions that changed, and the tables and differences that were asked for."""
        if os.environ.get(STATIC):
            self.wait()
        try:
            told = diff_html(self.diff)
        except WorkbenchError as error:
            told = f"<p>{markup(error, 600)}</p>"
        return told + "".join(part.still() for part in self.parts if part.filled == self.ends)

    # For its parts.

    def make_work(self) -> Work:
        """Return a place for long work, whose button ends the worker's process too."""
        return Work(cancel=self.case.analyst.close)

    def ask(self, question: Callable[[Diff], Any], progress: Progress) -> Any:
        """Ask the diff, one question at a time: what is no longer wanted leaves before its turn."""
        diff = self.diff
        with self._turns:
            progress(ProgressEvent("asking"))
            return question(diff)

    @property
    def _open_part(self) -> _Part | None:
        at = self.tabs.selected_index
        return None if at is None else self.parts[at]

    def _fill(self) -> None:
        part = self._open_part
        if part is not None and self._ready:
            part.fill()

    @traitlets.validate("a", "b")
    def _whole_id(self, proposal: Any) -> str:
        try:
            found = str(self.case.moment(f"id:{proposal['value']}", self.guest.id).id)
        except WorkbenchError as error:
            raise traitlets.TraitError(inert(error, 400)) from error
        for slider in self.sliders:
            slider.know(found, self.case.store.captures(self.guest.id))
        return found

    @traitlets.observe("a", "b")
    def _moved(self, _change: Any) -> None:
        if not (self.a and self.b):
            return
        first, last = (self.case.moment(f"id:{each}", self.guest.id).record.time_ns for each in self.ends)
        seconds = (last - first) / 1e9
        apart = f"{abs(seconds):,.1f} s {'later' if seconds >= 0 else 'earlier: what went is shown as what came'}"
        # Times and ids alone: a label typesets formulas, and names of marks may hold some.
        self._label.value = f"{when(first)} ({self.a[:8]}) to {when(last)} ({self.b[:8]}), {apart}"
        self._fill()


def _none_of(frame: pd.DataFrame) -> pd.DataFrame:
    empty = frame.iloc[:0]
    empty.attrs = {}
    return empty


def _everything(diff: Diff) -> pd.DataFrame:
    if diff.a.record.time_ns > diff.b.record.time_ns:
        raise UsageError("a timeline goes forward", cure="Choose a moment after the first as the second.")
    return diff.everything()


def _ordered(frame: pd.DataFrame, first: tuple[str, ...]) -> pd.DataFrame:
    """Return a frame with what matters most in its first columns."""
    begin = [name for name in first if name in frame.columns]
    found = frame[begin + [name for name in frame.columns if name not in begin]]
    found.attrs = dict(frame.attrs)
    return found
