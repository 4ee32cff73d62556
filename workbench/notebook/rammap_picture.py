"""How owners of pages look, by colour and by pattern, so that either suffices; the map of memory as a still picture.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which stay apart for colour-blind eyes. Refuses to draw
a cell by itself: cells of one kind are one path, so that the picture's size is bounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.model import PAGE
from workbench.notebook.rammap_cells import Cells
from workbench.notebook.text import markup

__all__ = ["OTHER", "OWNERS", "map_picture"]

_BLUE, _ORANGE, _GREEN, _RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
_PINK, _SKY, _YELLOW, _GREY = "#CC79A7", "#56B4E9", "#F0E442", "#999999"

OWNERS: dict[str, tuple[str, str]] = {
    "process": (_BLUE, "solid"),
    "anonymous": (_BLUE, "stripes"),
    "page cache": (_ORANGE, "solid"),
    "slab": (_GREEN, "dots"),
    "vmalloc": (_GREEN, "stripes"),
    "kernel text": (_RED, "solid"),
    "kernel rodata": (_RED, "stripes"),
    "kernel data": (_PINK, "bars"),
    "kernel init": (_PINK, "stripes"),
    "module text": (_RED, "dots"),
    "module rodata": (_RED, "bars"),
    "module data": (_PINK, "dots"),
    "page table": (_SKY, "dots"),
    "memory map": (_SKY, "stripes"),
    "reserved": (_YELLOW, "solid"),
    "device": (_YELLOW, "stripes"),
    "outside": (_YELLOW, "dots"),
    "free": (_GREY, "stripes"),
    "unknown": (_GREY, "dots"),
}
"""Colour and pattern of each kind of owner, as `Diff.pages` names them."""
OTHER = (_GREY, "bars")

_WIDTH, _CELL, _LINE = 900, 12, 18
_PATTERNS = {
    "stripes": '<path d="M0 4L4 0" stroke="#000" stroke-width=".9"/>',
    "dots": '<circle cx="2" cy="2" r="1" fill="#000"/>',
    "bars": '<path d="M0 2H4" stroke="#000" stroke-width=".9"/>',
}


def map_picture(cells: Cells, kinds: list[str]) -> str:
    """Return the cells as SVG: empty ones grey, the others in the look of the owner that has the most changed pages."""
    across = _WIDTH // _CELL
    y, places = 0, np.zeros((len(cells.low), 2), np.int64)
    parts: list[str] = []
    ends = [*(each["first"] for each in cells.bands), len(cells.low)][1:]
    for band, end in zip(cells.bands, ends, strict=True):
        parts.append(_heading(y + 13, band, int(cells.low[band["first"]])))
        at = np.arange(end - band["first"])
        places[band["first"] : end] = np.stack([at % across * _CELL, y + _LINE + at // across * _CELL], axis=1)
        y += _LINE + -(-len(at) // across) * _CELL + 4
    shown = np.where(cells.counts.sum(axis=1) > 0, cells.counts.argmax(axis=1) if kinds else 0, -1)
    drawn = [_path(places[shown == -1], "#e4e4e4")]
    for kind, name in enumerate(kinds):
        colour, pattern = OWNERS.get(name, OTHER)
        drawn.append(_path(places[shown == kind], colour))
        if pattern != "solid":
            drawn.append(_path(places[shown == kind], f"url(#wb-{pattern})"))
    return _svg(max(y, _LINE), [*parts, *drawn])


def _path(places: Any, fill: str) -> str:
    side = _CELL - 1
    squares = "".join(f"M{x} {y}h{side}v{side}h-{side}z" for x, y in places)
    return f'<path d="{squares}" fill="{fill}"/>' if squares else ""


def _heading(y: int, band: dict[str, Any], low: int) -> str:
    begin = f"{round(low - band['base']) * PAGE:#x}"
    where = f"outside the guest's view: {band['name']}, {begin}" if band["name"] else begin
    words = f"{band['hole']}, then {where}" if band["hole"] else where
    return f'<text x="2" y="{y}" fill="#222">{markup(words)}</text>'


def _svg(height: int, parts: list[str]) -> str:
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    patterns = "".join(
        f'<pattern id="wb-{name}" width="4" height="4" patternUnits="userSpaceOnUse">{drawn}</pattern>'
        for name, drawn in _PATTERNS.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
        f"<title>changed pages of memory</title><defs>{patterns}</defs>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )
