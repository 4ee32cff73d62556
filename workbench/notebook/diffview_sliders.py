"""A slider over the captures of a guest, with buttons for the one before and the one after; acts when it is let go.

Refuses to send a page more captures than a slider can point at: of more, every so-manieth is on the slider, and the
buttons still reach each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from workbench.model import CaptureRef, Mark
from workbench.notebook.text import inert, when

__all__ = ["CaptureSlider"]

MOST_OPTIONS = 2000


class CaptureSlider(ipywidgets.HBox):  # type: ignore[misc]
    """One capture out of many.

    Parameters
    ----------
    captures : sequence of CaptureRef
        By time.
    marks : sequence of Mark
    name : str
        What it chooses, for its label and for screen readers.

    Attributes
    ----------
    capture : str
        Id of the chosen one; must be one of `captures`.
    """

    capture = traitlets.Unicode("")

    def __init__(self, captures: Sequence[CaptureRef], marks: Sequence[Mark], name: str, capture: str) -> None:
        self._take(captures)
        self._marks: dict[str, str] = {str(each.capture): inert(each.name, 24) for each in marks if each.capture}
        self._name, self._settling = name, False
        self.slider = ipywidgets.SelectionSlider(
            options=self._options(capture), value=capture, continuous_update=False, description=name,
            layout={"width": "auto", "flex": "1 1 auto"}, style={"description_width": "3em"},
        )  # fmt: skip
        self._buttons = [self._button(-1, "Previous"), self._button(1, "Next")]
        super().__init__([self._buttons[0], self.slider, self._buttons[1]], capture=capture)
        self.slider.observe(self._moved, "value")
        self._enable()

    def _button(self, direction: int, words: str) -> ipywidgets.Button:
        button = ipywidgets.Button(
            description=words, tooltip=f"{words} capture as {self._name}", layout={"width": "auto"}
        )
        button.on_click(lambda _button: self.step(direction))
        return button

    def _take(self, captures: Sequence[CaptureRef]) -> None:
        self._captures = captures
        self._places = {str(each.id): at for at, each in enumerate(captures)}

    def know(self, capture: str, captures: Sequence[CaptureRef]) -> None:
        """Take a longer list of captures if one is asked for that was not there before."""
        if capture not in self._places:
            self._take(captures)
            self._enable()

    def step(self, direction: int) -> None:
        """Choose the next capture (1), or the one before (-1); at the ends nothing happens."""
        at = self._places[self.capture] + direction
        if 0 <= at < len(self._captures):
            self.capture = str(self._captures[at].id)

    @traitlets.validate("capture")
    def _known(self, proposal: Any) -> str:
        capture = str(proposal["value"])
        if capture not in self._places:
            raise traitlets.TraitError(f"no capture {inert(capture, 64)!r}")
        return capture

    @traitlets.observe("capture")
    def _shown(self, change: Any) -> None:
        if self.slider.value != change["new"]:
            self._show(change["new"])
        self._enable()

    def _show(self, capture: str) -> None:
        """Move the slider, with other captures on it where this one is not; it then begins at its first one."""
        self._settling = True
        try:
            with self.slider.hold_sync():
                if all(capture != value for _, value in self.slider.options):
                    self.slider.options = self._options(capture)
                self.slider.value = capture
        finally:
            self._settling = False

    def _moved(self, change: Any) -> None:
        if not self._settling:
            self.capture = change["new"]

    def _enable(self) -> None:
        at = self._places[self.capture]
        self._buttons[0].disabled, self._buttons[1].disabled = at == 0, at == len(self._captures) - 1

    def _options(self, chosen: str) -> list[tuple[str, str]]:
        """Return label and id of those on the slider: all, or so many of them and the chosen one."""
        count = len(self._captures)
        places = [int(at) for at in np.unique(np.linspace(0, count - 1, min(count, MOST_OPTIONS)).round())]
        at = self._places[chosen]
        place = bisect_left(places, at)
        if place == len(places) or places[place] != at:
            places.insert(place, at)
        return [(self._label(self._captures[each]), str(self._captures[each].id)) for each in places]

    def _label(self, ref: CaptureRef) -> str:
        mark, at = self._marks.get(str(ref.id), ""), when(ref.time_ns)
        # There is room for about 20 characters: the mark tells most, and the date stands elsewhere.
        return f"{mark} {at[11:19]}" if mark else f"{at[11:]} {ref.id[:6]}"
