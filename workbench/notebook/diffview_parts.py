"""The tabs of a DiffView: a table each, what a chosen row is about below it, and a map above the pages.

A tab knows which two captures it was filled for, and is filled anew when others are compared. Refuses to leave what was
found of other captures in sight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd

from workbench.notebook.diffview_contents import Found, page_difference
from workbench.notebook.hexdiff import HexDiff
from workbench.notebook.rammap import RamMap
from workbench.notebook.still import Still
from workbench.notebook.table import Table
from workbench.notebook.textdiff import TextDiff
from workbench.notebook.work import Work
from workbench.progress import Progress

if TYPE_CHECKING:
    from workbench.case import Diff
    from workbench.notebook.diffview import DiffView

__all__ = ["Detail", "Pages", "Part", "ordered"]

Compare = Callable[["Diff", pd.Series, Progress], Found]
Ends = tuple[str, str]

_PAGES_FIRST = ("address", "owner", "process", "pid", "path", "detail", "protection", "virtual")


class Detail(ipywidgets.VBox):  # type: ignore[misc]
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


class Part(ipywidgets.VBox):  # type: ignore[misc]
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
        self.detail = Detail(view.make_work())
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


class Pages(Part):
    """Changed pages: a map of memory that filters the table."""

    def __init__(self, view: DiffView) -> None:
        self.map, self._frame = RamMap(), pd.DataFrame()
        super().__init__(view, "pages", lambda diff: ordered(diff.pages(), _PAGES_FIRST), page_difference)
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


def _none_of(frame: pd.DataFrame) -> pd.DataFrame:
    empty = frame.iloc[:0]
    empty.attrs = {}
    return empty


def ordered(frame: pd.DataFrame, first: tuple[str, ...]) -> pd.DataFrame:
    """Return a frame with what matters most in its first columns."""
    begin = [name for name in first if name in frame.columns]
    found = frame[begin + [name for name in frame.columns if name not in begin]]
    found.attrs = dict(frame.attrs)
    return found
