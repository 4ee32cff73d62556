"""What differs between two moments of a guest, in tabs that are filled when they are opened; sliders move the moments.

Everything is asked of the case, off the kernel's main thread; what a row is about is shown below its table. Refuses to
compare two guests, and to ask for a tab that nobody looks at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd
import traitlets

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.diffview_contents import cluster_difference, file_difference
from workbench.notebook.diffview_parts import Ends, Pages, Part, ordered
from workbench.notebook.diffview_sliders import CaptureSlider
from workbench.notebook.reprs import diff_html
from workbench.notebook.still import STATIC, Still
from workbench.notebook.text import inert, markup, when
from workbench.notebook.work import Work
from workbench.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from workbench.case import Diff, Moment

__all__ = ["DiffView"]

_FIRST = ("path", "change", "kind", "old_path", "size_before", "size_after", "modified_before", "modified_after")


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

    def _make_parts(self) -> list[Part]:
        return [
            Part(self, "files", lambda diff: ordered(diff.files(), _FIRST), file_difference),
            Part(self, "processes", lambda diff: diff.processes()),
            Pages(self),
            Part(self, "disks", lambda diff: diff.blocks(), cluster_difference),
            Part(self, "everything", _everything),
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
    def _open_part(self) -> Part | None:
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


def _everything(diff: Diff) -> pd.DataFrame:
    if diff.a.record.time_ns > diff.b.record.time_ns:
        raise UsageError("a timeline goes forward", cure="Choose a moment after the first as the second.")
    return diff.everything()
