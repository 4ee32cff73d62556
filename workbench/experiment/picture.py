"""Every value of an experiment with medians and quartiles, as SVG: a panel per measure, a row per variant.

Drawn by hand, since a handful of marks needs no library. The colour is the page's own (`currentColor`), so that it can
be read in the dark. Refuses to draw a value that is no number, and a name that is not escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.experiment.document import Document
from workbench.experiment.frames import chosen_measures, numbers_of, variants_of
from workbench.experiment.statistics import Spread, spread
from workbench.experiment.text import inert

__all__ = ["Picture", "picture_of"]

_WIDE, _NAME, _RIGHT = 760, 200, 110
"""Units: the whole, what names take, and what is left for runs without a value."""
_ROW, _HEAD, _FOOT = 28, 30, 30
_CUT = 28
_LEFT = 4
_TICKS = 5
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
    names = list(dict.fromkeys(chosen_measures(document, measures)))[:_MOST]
    variants = variants_of(document)
    tall = _HEAD + _ROW * len(variants) + _FOOT
    parts = [_panel(document, name, variants, number * tall) for number, name in enumerate(names)]
    height = len(names) * tall or _HEAD + _FOOT
    label = html.escape(inert("Values, medians and quartiles of " + ", ".join(names or ["nothing"])))
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
    bottom = top + _HEAD + _ROW * len(variants)
    rows = [
        _row(name, values[name], _lost(document, name), scale, top + _HEAD + number * _ROW)
        for number, name in enumerate(variants)
    ]
    title = f'<text x="{_LEFT}" y="{top + 18}" font-weight="600">{html.escape(inert(measure))}</text>'
    return title + _level(values[document.control], scale, top + _HEAD, bottom) + "".join(rows) + _axis(scale, bottom)


def _lost(document: Document, variant: str) -> str:
    """Return how many runs of a variant failed or hung, in words."""
    ended = [run.outcome for run in document.runs_of(variant)]
    return ", ".join(f"{ended.count(word)} {word}" for word in ("failed", "hung") if word in ended)


def _level(values: Sequence[float], scale: _Scale, top: int, bottom: int) -> str:
    """Return the control's median through all rows: what the others are held against."""
    if not values:
        return ""
    place = scale(spread(values).median)
    line = f'<line x1="{place}" x2="{place}" y1="{top}" y2="{bottom}" stroke="currentColor" stroke-dasharray="2 4"'
    return line + ' opacity="0.5"/>'


class _Scale:
    """From values to places; a single value is in the middle."""

    def __init__(self, least: float, most: float) -> None:
        # Halves, since the difference of two finite numbers may not be finite.
        self.least, self.most = least, most
        self._half = most / 2 - least / 2

    def __call__(self, value: float) -> float:
        part = 0.5 if self._half == 0 else (value / 2 - self.least / 2) / self._half
        return round(_NAME + part * (_WIDE - _NAME - _RIGHT), 1)


def _row(name: str, values: Sequence[float], lost: str, scale: _Scale, top: int) -> str:
    middle = top + _ROW / 2
    short = name if len(name) <= _CUT else name[: _CUT - 1] + "…"
    text = f'<text x="{_LEFT}" y="{middle + 4}">{html.escape(short)}<title>{html.escape(name)}</title></text>'
    if lost:
        text += f'<text x="{_WIDE - _RIGHT + 12}" y="{middle + 4}" font-size="11" opacity="0.8">{lost}</text>'
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
    marks = [
        f'<line x1="{scale(each)}" x2="{scale(each)}" y1="{top}" y2="{top + 4}" stroke="currentColor" opacity="0.4"/>'
        f'<text x="{scale(each)}" y="{top + 17}" text-anchor="middle" font-size="11" opacity="0.8">{told}</text>'
        for each, told in _ticks(scale.least, scale.most)
    ]
    line = f'<line x1="{_NAME}" x2="{_WIDE - _RIGHT}" y1="{top}" y2="{top}" stroke="currentColor" opacity="0.4"/>'
    return line + "".join(marks)


def _ticks(least: float, most: float) -> list[tuple[float, str]]:
    """Return round numbers between two, with their words; the ends where there are none that can be told apart."""
    span = most - least
    if span > 0 and math.isfinite(span) and span > abs(most) * 1e-9:
        rough = 10.0 ** math.floor(math.log10(span / _TICKS))
        step = next(rough * each for each in (1, 2, 5, 10) if span / (rough * each) <= _TICKS)
        first = math.ceil(least / step)
        places = [(first + number) * step for number in range(_TICKS + 1) if (first + number) * step <= most]
        told = [f"{each:.10g}" for each in places]
        if len(set(told)) == len(told) >= 2:
            return list(zip(places, told, strict=True))
    return [(each, f"{each:g}") for each in dict.fromkeys((least, most))]
