"""All of the workbench in one page: the timeline above, and below it in tabs what there is of the chosen moment.

The tab that is open follows the timeline; another does when it is opened. Refuses to ask anything for a tab that nobody
looks at, and to choose a moment by itself after the first.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets
import pandas as pd

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.still import Still, still_of
from workbench.notebook.text import inert
from workbench.notebook.timeline import Timeline

if TYPE_CHECKING:
    from workbench.case import Case, Moment

__all__ = ["App"]


class Pane(ipywidgets.VBox):  # type: ignore[misc]
    """One tab: a widget that is made when the tab is first open with something to show, and moved from then on.

    Parameters
    ----------
    title : str
    wants : callable
        Returns what the tab is to show: any value that can be compared, or None for nothing.
    make, move : callable
        Make the widget for what is wanted; move it there, and return it or another.
    empty : str
        What is said where nothing is wanted.
    """

    def __init__(
        self,
        title: str,
        wants: Callable[[], Any],
        make: Callable[[Any], Any],
        move: Callable[[Any, Any], Any],
        empty: str = "Choose a capture on the timeline.",
    ) -> None:
        self.title = title
        self.widget: Any = None
        self._held: Any = None
        self._shown: Any = None
        self._wants, self._make, self._move = wants, make, move
        self._empty = empty
        self.said = ipywidgets.Label(empty)
        super().__init__([self.said])

    def show(self) -> None:
        """Show what is wanted now; an error is said in its place."""
        try:
            wanted = self._wants()
            if wanted is None or _same(wanted, self._shown):
                self._tell("" if self.widget is not None else self._empty)
                return
            self.widget = self._make(wanted) if self.widget is None else self._move(self.widget, wanted)
        except WorkbenchError as error:
            self._tell(inert(error, 400))
            return
        self._shown = wanted
        self._tell("")

    def _tell(self, words: str) -> None:
        self.said.value = words
        self.said.layout.display = "" if words else "none"
        if self.widget is not self._held:
            self._held = self.widget
            self.children = (self.said, self.widget)


def _same(a: Any, b: Any) -> bool:
    """Say whether two wishes are for the same moments."""
    return bool(_key(a) == _key(b))


def _key(wanted: Any) -> Any:
    return tuple(_key(each) for each in wanted) if isinstance(wanted, tuple) else getattr(wanted, "id", wanted)


class App(Still, ipywidgets.VBox):  # type: ignore[misc]
    """The dashboard of a case.

    Parameters
    ----------
    case : Case
    guest : str, optional
        Name or UUID of the only guest that is shown.

    Attributes
    ----------
    timeline : Timeline
    tabs : ipywidgets.Tab
        Explorer, Files, Differences, Console, Capture, Rewind.
    panes : dict of str to Pane
        By title.
    """

    def __init__(self, case: Case, guest: str | None = None) -> None:
        self.case = case
        self._panels: dict[str, Any] = {}
        self.timeline = Timeline(case, None if guest is None else case.guest(guest).id)
        self.panes = {pane.title: pane for pane in self._make_panes()}
        self.tabs = ipywidgets.Tab(tuple(self.panes.values()), titles=tuple(self.panes), selected_index=0)
        super().__init__([self.timeline, self.tabs])
        newest = self.timeline.newest()
        if newest:
            self.timeline.selected = newest
        self.timeline.observe(lambda _change: self._follow(), ["selected", "brush"])
        self.tabs.observe(lambda _change: self._follow(), "selected_index")
        self._follow()

    def __repr__(self) -> str:
        return f"<App of {inert(self.case.location)!r}: {self.timeline!r}>"

    def still(self) -> str:
        """Return the timeline, and what the open tab shows."""
        pane = self.pane
        return self.timeline.still() + (still_of(pane.widget) if pane is not None and pane.widget is not None else "")

    @property
    def pane(self) -> Pane | None:
        """The tab that is open."""
        at = self.tabs.selected_index
        return None if at is None else list(self.panes.values())[at]

    def turn_to(self, title: str) -> Any:
        """Open a tab and return its widget, or None where there is nothing to show.

        Raises
        ------
        UsageError
            If there is no such tab.
        """
        if title not in self.panes:
            raise UsageError(f"no tab {title!r}", tabs=list(self.panes))
        self.tabs.selected_index = list(self.panes).index(title)
        return self.panes[title].widget

    def _follow(self) -> None:
        pane = self.pane
        if pane is not None:
            pane.show()

    def _make_panes(self) -> list[Pane]:
        moment = self._moment
        return [
            Pane("Explorer", moment, _maker("Explorer"), _moved),
            Pane("Files", moment, _maker("FileBrowser"), _moved),
            Pane("Differences", self._ends, lambda ends: _widget("DiffView")(*ends), _compared, _NO_ENDS),
            Pane("Console", moment, _maker("CloneConsole"), _moved),
            Pane("Capture", self._guest, self._capturing, lambda _widget, guest: self._capturing(guest), _NO_GUEST),
            Pane("Rewind", moment, _maker("RewindButton"), _moved),
        ]

    def _moment(self) -> Moment | None:
        return self.timeline.selected_moment

    def _ends(self) -> tuple[Moment, Moment] | None:
        """Return the ends of the chosen span in one guest; without one the chosen moment and the one before it."""
        chosen = self.timeline.selected_moment
        if self.timeline.brush:
            within = self.timeline.captures()
            ids = _of_one_guest(within, None if chosen is None else str(chosen.guest.id))
            if len(ids) > 1:
                return self.timeline.moment_of(ids[0]), self.timeline.moment_of(ids[-1])
        if chosen is None or chosen.record.parent is None:
            return None
        return self.case.moment(f"id:{chosen.record.parent}", chosen.guest.id), chosen

    def _guest(self) -> str | None:
        chosen = self.timeline.selected_moment
        guests = self.case.guests()
        return chosen.guest.name if chosen is not None else guests[0].name if len(guests) == 1 else None

    def _capturing(self, guest: str) -> Any:
        """Return the panel of a guest; panels that were made stay, since they may be recording."""
        if guest not in self._panels:
            self._panels[guest] = _widget("CapturePanel")(self.case, guest).follow(self.timeline)
        return self._panels[guest]


_NO_ENDS = "Choose a capture that has one before it, or a span: Shift and drag, or [ and ]."
_NO_GUEST = "Choose a capture of the guest that is meant."


def _of_one_guest(frame: pd.DataFrame, guest: str | None) -> list[str]:
    """Return the ids of the captures of a guest; without one, of the first guest in the frame."""
    if frame.empty:
        return []
    whose = guest if guest in set(frame["guest"]) else frame["guest"].iloc[0]
    return [str(each) for each in frame[frame["guest"] == whose]["id"]]


def _widget(name: str) -> Any:
    return getattr(importlib.import_module("workbench.notebook"), name)


def _maker(name: str) -> Callable[[Any], Any]:
    def make(moment: Any) -> Any:
        return _widget(name)(moment)

    return make


def _moved(widget: Any, moment: Moment) -> Any:
    widget.moment = moment
    return widget


def _compared(view: Any, ends: tuple[Moment, Moment]) -> Any:
    """Move the ends of a comparison, as one step; of another guest there is a new one."""
    if view.guest.id != ends[1].guest.id:
        return _widget("DiffView")(*ends)
    with view.hold_trait_notifications():
        view.a, view.b = (str(each.id) for each in ends)
    return view
