"""A sparkline: the last values of one quantity, live, with the newest, the median and the most in words.

Refuses to keep more points than can be told apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

import anywidget
import traitlets

from workbench.notebook.front import module, style
from workbench.notebook.picture import as_image
from workbench.notebook.still import Still
from workbench.notebook.text import inert, markup

__all__ = ["POINTS", "Sparkline", "amount"]

POINTS = 240
_WIDTH, _HEIGHT = 240, 40
_STEPS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


class Sparkline(Still, anywidget.AnyWidget):
    """The last values of a quantity.

    Parameters
    ----------
    label : str
        What it is.
    unit : str
        Of a value; bytes are told as kB, MB, GB.

    Attributes
    ----------
    points : list of float
        Oldest first, at most `POINTS`.
    words : str
        The newest, the median, the most.
    """

    _esm = module("base", "sparks")
    _css = style("base", "sparks")

    label = traitlets.Unicode("").tag(sync=True)
    unit = traitlets.Unicode("").tag(sync=True)
    words = traitlets.Unicode("").tag(sync=True)
    points = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(self, label: str, unit: str = "", points: Iterable[float] = ()) -> None:
        super().__init__(label=inert(label), unit=inert(unit), points=list(points))

    def __repr__(self) -> str:
        return f"<Sparkline {self.label!r}: {self.words}>"

    def add(self, value: float) -> None:
        """Add the newest value."""
        self.points = [*self.points, value]

    def still(self) -> str:
        """Return it as a picture."""
        words = f"{self.label}: {self.words}"
        return f"<p>{as_image(_picture(self.points, words), words)} {markup(words)}</p>"

    @traitlets.validate("points")
    def _drawable(self, proposal: Any) -> list[float]:
        return [max(0.0, float(each)) if math.isfinite(each) else 0.0 for each in proposal["value"]][-POINTS:]

    @traitlets.observe("points")
    def _tell(self, change: Any) -> None:
        found = change["new"]
        middle = statistics.median(found) if found else 0.0
        self.words = (
            f"{amount(found[-1], self.unit)} (median {amount(middle, self.unit)}, most {amount(max(found), self.unit)})"
            if found
            else "nothing yet"
        )

    @traitlets.default("words")
    def _none(self) -> str:
        return "nothing yet"


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, to three digits."""
    if unit != "B":
        return f"{value:.3g} {unit}".rstrip() if value < 1000 else f"{value:,.0f} {unit}".rstrip()
    sign, step = next(((sign, step) for sign, step in _STEPS if value >= step), ("", 1.0))
    return f"{value / step:.3g} {sign}B"


def _picture(points: list[float], words: str) -> str:
    most = max([1e-9, *points])
    step = _WIDTH / max(1, len(points) - 1)
    line = " ".join(
        f"{at * step:.1f},{_HEIGHT - 2 - each / most * (_HEIGHT - 4):.1f}" for at, each in enumerate(points)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"><title>{markup(words)}</title>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<polyline points="{line}" fill="none" stroke="#0072B2" stroke-width="1.5"/></svg>'
    )
