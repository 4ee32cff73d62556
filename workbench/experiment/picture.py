"""Every value of an experiment with medians and quartiles, as SVG: a panel per measure, a row per variant.

Drawn by hand, since a handful of marks needs no library. The colour is the page's own (`currentColor`), so that it can
be read in the dark. Refuses to draw a value that is no number, and a name that is not escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.experiment.document import Document
from workbench.experiment.frames import numbers_of, summary_frame
from workbench.experiment.statistics import Spread, spread

__all__ = ["Picture", "picture_of"]

_WIDE, _NAME, _RIGHT = 720, 150, 24
"""Units: the whole, what names take, and the margin."""
_ROW, _HEAD, _FOOT = 28, 30, 26
_CUT = 22
_MOST = 12
"""Panels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as SVG text."""

    svg: str

    def save(self, path: Path | str) -> Path:
        """Write it to a file and return its path."""
        place = Path(path)
        place.write_text(self.svg, encoding="utf-8")
        return place

    def _repr_svg_(self) -> str:
        return self.svg


def picture_of(document: Document, measures: Sequence[str] | None = None) -> Picture:
    """Return the picture of some measures, by default of those of the summary.

    Raises
    ------
    UsageError
        If no run gave numbers of that name.
    """
    frame = summary_frame(document, measures)
    names = list(dict.fromkeys(frame["measure"]))[:_MOST]
    variants = list(dict.fromkeys(frame["variant"]))
    tall = _HEAD + _ROW * len(variants) + _FOOT
    parts = [_panel(document, name, variants, number * tall) for number, name in enumerate(names)]
    height = max(1, len(names)) * tall
    label = html.escape("Values, medians and quartiles of " + ", ".join(names or ["nothing"]))
    return Picture(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {height}" width="{_WIDE}" height="{height}" '
        f'role="img" aria-label="{label}" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
        + "".join(parts)
        + "</svg>"
    )


def _panel(document: Document, measure: str, variants: Sequence[str], top: int) -> str:
    values = {name: numbers_of(document, measure, name) for name in variants}
    every = [each for found in values.values() for each in found]
    scale = _Scale(min(every), max(every))
    rows = [_row(name, values[name], scale, top + _HEAD + number * _ROW) for number, name in enumerate(variants)]
    title = f'<text x="0" y="{top + 18}" font-weight="600">{html.escape(measure)}</text>'
    return title + "".join(rows) + _axis(scale, top + _HEAD + _ROW * len(variants))


class _Scale:
    """From values to places; a single value is in the middle."""

    def __init__(self, least: float, most: float) -> None:
        # Halves, since the difference of two finite numbers may not be finite.
        self.least, self.most = least, most
        self._half = most / 2 - least / 2

    def __call__(self, value: float) -> float:
        part = 0.5 if self._half == 0 else (value / 2 - self.least / 2) / self._half
        return round(_NAME + part * (_WIDE - _NAME - _RIGHT), 1)


def _row(name: str, values: Sequence[float], scale: _Scale, top: int) -> str:
    middle = top + _ROW / 2
    short = name if len(name) <= _CUT else name[: _CUT - 1] + "…"
    text = f'<text x="0" y="{middle + 4}">{html.escape(short)}<title>{html.escape(name)}</title></text>'
    if not values:
        return text + f'<text x="{_NAME}" y="{middle + 4}" opacity="0.7">no value</text>'
    ring = '<circle cx="{}" cy="{}" r="4" fill="none" stroke="currentColor"><title>{:g}</title></circle>'
    dots = [ring.format(scale(each), middle, each) for each in values]
    return text + _box(spread(values), scale, middle) + "".join(dots)


def _box(told: Spread, scale: _Scale, middle: float) -> str:
    """Return the quartiles as a band and the median as a bar."""
    left, right, median = scale(told.q1), scale(told.q3), scale(told.median)
    return (
        f'<rect x="{left}" y="{middle - 8}" width="{max(1.0, round(right - left, 1))}" height="16" opacity="0.15"/>'
        f'<rect x="{median - 1}" y="{middle - 10}" width="2" height="20"><title>median {told.median:g}</title></rect>'
    )


def _axis(scale: _Scale, top: int) -> str:
    ends = [scale.least] if scale.least == scale.most else [scale.least, scale.most]
    marks = [
        f'<text x="{scale(each)}" y="{top + 16}" text-anchor="middle" font-size="11" opacity="0.8">{each:g}</text>'
        for each in ends
    ]
    line = f'<line x1="{_NAME}" x2="{_WIDE - _RIGHT}" y1="{top}" y2="{top}" stroke="currentColor" opacity="0.4"/>'
    return line + "".join(marks)
