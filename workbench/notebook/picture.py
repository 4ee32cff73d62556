"""Pictures: SVG of bounded size, the same bytes for the same captures, for exports and notebooks that are not trusted.

Every text in it is escaped. As a picture (`as_image`) it can hold no script even where that failed. Refuses to name
colours by theme: a picture in a report has none.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from workbench.notebook.history import History
from workbench.notebook.text import markup, when

__all__ = ["as_image", "axis_picture", "bars_picture", "line_picture", "on_paper", "timeline_picture"]

_WIDTH, _GUTTER, _LANE, _AXIS = 900, 150, 26, 24
_COLUMNS = 370
"""Ticks of a lane at most: the picture's size does not grow with the captures."""
_SHOWN_LANES, _SHOWN_MARKS = 40, 200
_INK, _DIM, _PAPER = "#222222", "#8a8a8a", "#ffffff"
_TICK, _FORK, _MARK, _HERE = "#0072B2", "#D55E00", "#E69F00", "#009E73"
_CLONE = "#CC79A7"
_FRAME = re.compile(r'<svg xmlns="http://www\.w3\.org/2000/svg" (viewBox="[\d. ]+" width="\d+" height="\d+")')


def as_image(svg: str, alt: str) -> str:
    """Return an HTML element that shows a picture as nothing but a picture."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{markup(alt)}" src="data:image/svg+xml;base64,{data}">'


def timeline_picture(history: History, chosen: str | Sequence[str] = ()) -> str:
    """Return the captures by lane, forks, clones, marks, and rings around the captures chosen (whole ids)."""
    lanes = history.lanes[:_SHOWN_LANES]
    height = len(lanes) * _LANE + 2 * _AXIS
    if not len(history.frame):
        return _svg(height, "no captures", [_text(4, 16, "No captures.")])
    at_ms = history.frame["time"].dt.as_unit("ns").astype("int64").to_numpy() / 1e6
    low, width = float(at_ms[0]), max(1e-3, float(at_ms[-1] - at_ms[0]))

    def x_of(time: Any) -> Any:
        return _GUTTER + (np.clip(time, low, low + width) - low) / width * (_WIDTH - _GUTTER - 12)

    parts = [part for at, lane in enumerate(lanes) for part in _lane(at, lane["label"])]
    parts += _ticks(history, x_of(at_ms), len(lanes))
    parts += [_fork(x_of(each["from_time"]), x_of(each["time"]), each) for each in history.forks if _drawn(each, lanes)]
    parts += [_bar(x_of(each["time"]), each) for each in history.runs if each["lane"] < len(lanes)]
    parts += [_diamond(x_of(each["time"]), each) for each in history.marks[-_SHOWN_MARKS:] if each["lane"] < len(lanes)]
    parts += [_ring(x_of(each["time"]), each["lane"], _HERE, 5) for each in history.here if each["lane"] < len(lanes)]
    ids = {chosen} if isinstance(chosen, str) else set(chosen)
    rows = history.frame[history.frame["id"].isin(ids) & (history.frame["lane"] < len(lanes))]
    parts += [_ring(x_of(row["time"].value / 1e6), row["lane"], _INK, 9) for _, row in rows.iterrows()]
    parts += [_text(_GUTTER, height - 6, when(round(low * 1e6)))]
    parts += [_text(_WIDTH - 12, height - 6, when(round((low + width) * 1e6)), anchor="end")]
    return _svg(height, f"{len(history.frame)} captures", parts)


def line_picture(points: Sequence[tuple[int, str]]) -> str:
    """Return named instants (ns, words) on one line of time, in the order given, with arrows between them."""
    return axis_picture([(at, words, when(at)) for at, words in points])


def axis_picture(points: Sequence[tuple[int, str, str]]) -> str:
    """Return named places (number, words above, words below) on one line, in the order given, with arrows between."""
    low, high = min(at for at, *_ in points), max(at for at, *_ in points)
    xs = [30 + (at - low) / max(1, high - low) * (_WIDTH - 60) for at, *_ in points]
    parts = [f'<path d="M20 44H{_WIDTH - 20}" stroke="{_DIM}"/>']
    for (_, above, below), x in zip(points, xs, strict=True):
        anchor = "start" if x < _WIDTH / 2 else "end"
        parts.append(f'<circle cx="{x:.1f}" cy="44" r="5" fill="{_TICK}"/>')
        parts.append(_text(x, 20, above, anchor=anchor) + _text(x, 70, below, anchor=anchor))
    for begin, end in pairwise(xs):
        tip = 8 if end < begin else -8
        parts.append(f'<path d="M{begin:.1f} 36H{end:.1f}m{tip} -4l{-tip} 4l{tip} 4" stroke="{_FORK}" fill="none"/>')
    return _svg(80, " to ".join(words for _, words, _ in points), parts)


def on_paper(svg: str) -> str:
    """Return a picture of ours that takes its colours from the page, in ink on paper, as an image has no page."""
    frame = _FRAME.match(svg)
    if frame is None:
        raise ValueError("not a picture of ours")
    paper = f'<rect width="100%" height="100%" fill="{_PAPER}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame[1]} color="{_INK}">{paper}{svg}</svg>'


def bars_picture(rows: Iterable[tuple[str, int, str]], title: str) -> str:
    """Return named amounts (name, amount, words) as bars."""
    shown = list(rows)[:_SHOWN_LANES]
    most = max([1, *(amount for _, amount, _ in shown)])
    parts = []
    for at, (name, amount, words) in enumerate(shown):
        y, length = at * _LANE, amount / most * (_WIDTH - _GUTTER - 200)
        parts.append(_text(4, y + 17, name, longest=22))
        parts.append(f'<rect x="{_GUTTER}" y="{y + 5}" width="{length:.1f}" height="16" fill="{_TICK}"/>')
        parts.append(_text(_GUTTER + length + 6, y + 17, words))
    return _svg(len(shown) * _LANE + 4, title, parts)


def _svg(height: int, title: str, parts: Iterable[str]) -> str:
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return (
        f'{frame}<title>{markup(title)}</title><rect width="100%" height="100%" fill="{_PAPER}"/>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", longest: int = 60) -> str:
    shown = markup(words if len(words) <= longest else words[: longest - 3] + "...", longest)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{_INK}" unicode-bidi="isolate">{shown}</text>'


def _middle(lane: int) -> int:
    return lane * _LANE + _LANE // 2 + 4


def _lane(at: int, label: str) -> list[str]:
    line = f'<path d="M{_GUTTER} {_middle(at)}H{_WIDTH}" stroke="{_DIM}" stroke-width=".5"/>'
    return [_text(4, _middle(at) + 4, label, longest=20), line]


def _ticks(history: History, xs: Any, lanes: int) -> list[str]:
    """Return one path per lane, with at most `_COLUMNS` ticks."""
    lane = history.frame["lane"].to_numpy()
    step = (_WIDTH - _GUTTER) / _COLUMNS
    paths = []
    for at in range(lanes):
        columns = np.unique((xs[lane == at] / step).astype(int)) * step
        ticks = "".join(f"M{x:.1f} {_middle(at) - 6}v12" for x in columns)
        paths.append(f'<path d="{ticks}" stroke="{_TICK}" stroke-width="1.5"/>')
    return paths


def _drawn(fork: dict[str, Any], lanes: Sequence[Any]) -> bool:
    return bool(fork["lane"] < len(lanes) and fork["from"] < len(lanes))


def _fork(begin: float, end: float, fork: dict[str, Any]) -> str:
    y, to = _middle(fork["from"]), _middle(fork["lane"])
    return f'<path d="M{begin:.1f} {y}C{begin:.1f} {to} {end:.1f} {y} {end:.1f} {to}" stroke="{_FORK}" fill="none"/>'


def _bar(x: float, run: dict[str, Any]) -> str:
    """Return the sign of a clone: of one length, so that a picture does not change with the hour."""
    words = f"<title>{markup(run['name'], 80)}</title>"
    return f'<path d="M{x:.1f} {_middle(run["lane"])}v8h24v-3h-22.5v-5z" fill="{_CLONE}">{words}</path>'


def _diamond(x: float, mark: dict[str, Any]) -> str:
    top = _middle(mark["lane"]) - 14
    words = f"<title>{markup(mark['name'], 80)}</title>"
    return f'<path d="M{x:.1f} {top}l4 5l-4 5l-4 -5z" fill="{_MARK}" stroke="{_INK}" stroke-width=".7">{words}</path>'


def _ring(x: float, lane: int, colour: str, radius: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{_middle(lane)}" r="{radius}" fill="none" stroke="{colour}" stroke-width="2"/>'
