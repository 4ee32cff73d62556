"""Tables of an experiment as HTML: numbers that can be compared down a column, texts of a guest made inert and short.

Refuses to let a cell through that is not escaped.
"""

from __future__ import annotations

import html
import math
from typing import Any

import pandas as pd

from workbench.experiment.text import inert

__all__ = ["escaped", "number", "summary_tables", "table"]

_ROWS = 200
"""Rows of a table that a page shows."""
_CELL = 500
_PLAIN, _WHOLE = 1e-4, 1e9
"""Numbers between them are written without an exponent."""
_HEAD = "white-space:nowrap;text-align:left"
_NUMBER = "white-space:nowrap;text-align:right"


def escaped(value: object, longest: int = _CELL) -> str:
    """Return a text for a page: harmless, cut, and escaped."""
    return html.escape(inert(value, longest))


def number(value: float) -> str:
    """Return a number with four significant digits, or all of its whole ones; empty for NaN."""
    if math.isnan(value):
        return ""
    if value and not _PLAIN <= abs(value) < _WHOLE:
        return f"{value:.3e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(frame: pd.DataFrame, longest: int = _CELL) -> str:
    """Return a frame as a table, its first rows where it is long.

    Parameters
    ----------
    longest : int
        Characters of a cell.
    """
    head = "".join(f'<th style="{_HEAD}">{escaped(name, 80)}</th>' for name in frame.columns)
    rows = [
        f"<tr>{''.join(_cell(each, longest) for each in row)}</tr>" for row in frame.head(_ROWS).itertuples(index=False)
    ]
    more = f"<p>{len(frame) - _ROWS} further rows are not shown.</p>" if len(frame) > _ROWS else ""
    inside = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wb-content" style="overflow-x:auto">{inside}</div>{more}'


def summary_tables(summary: pd.DataFrame) -> str:
    """Return a summary as a table per measure, and the tests that were made."""
    parts = [
        f"<h3>{escaped(name)}</h3>{table(_short(summary[summary['measure'] == name]))}"
        for name in dict.fromkeys(summary["measure"])
    ]
    tests = "; ".join(each for each in dict.fromkeys(summary["test"]) if each)
    return "".join(parts) + (f"<p>Test: {escaped(tests)}.</p>" if tests else "")


def _short(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one measure in columns that fit on a page."""
    pairs = {"quartiles": ("q1", "q3"), "least to most": ("least", "most")}
    counts = [_count(*row) for row in rows[["n", "failed", "hung"]].itertuples(index=False)]
    told = pd.DataFrame({"variant": rows["variant"], "values": counts})
    told["median"] = rows["median"]
    for name, (low, high) in pairs.items():
        told[name] = [_span(*pair) for pair in zip(rows[low], rows[high], strict=True)]
    names = {"difference": "difference", "shift": "shift", "cliffs_delta": "Cliff's delta"}
    names |= {"p": "p", "p_holm": "p (Holm)", "smallest_p": "smallest p"}
    return told.assign(**{shown: rows[name] for name, shown in names.items()})


def _count(values: int, failed: int, hung: int) -> str:
    lost = ", ".join(f"{count} {word}" for count, word in ((failed, "failed"), (hung, "hung")) if count)
    return f"{values} ({lost})" if lost else str(values)


def _span(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{number(low)} to {number(high)}"


def _cell(value: Any, longest: int) -> str:
    if isinstance(value, float):
        return f'<td style="{_NUMBER}">{number(value)}</td>'
    if isinstance(value, int):
        return f'<td style="{_NUMBER}">{value:d}</td>' if not isinstance(value, bool) else f"<td>{value}</td>"
    return f"<td>{'' if value is pd.NA else escaped(value, longest)}</td>"
