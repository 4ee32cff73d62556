"""A plugin's grid as a DataFrame: typed columns, tree depth, and the reasons for what is not there.

Refuses to turn an absent cell into a value, and a value of an unexpected type into an absent cell.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from volatility3.framework import interfaces, renderers
from volatility3.framework.renderers import format_hints

from workbench.inquiry.answer import Absence

__all__ = ["Rows", "collect"]

_REASONS = {
    renderers.UnreadableValue: "unreadable",
    renderers.UnparsableValue: "unparsable",
    renderers.NotApplicableValue: "not applicable",
    renderers.NotAvailableValue: "not available",
}
_MOST_ROWS = 2_000_000
"""More rows than any sane answer has: a guest can tie its lists into rings."""


@dataclass(slots=True)
class Rows:
    """What came out of a grid.

    Attributes
    ----------
    frame : DataFrame
    absent : list of Absence
    error : str
        Empty if all rows came.
    """

    frame: pd.DataFrame
    absent: list[Absence] = field(default_factory=list)
    error: str = ""


def collect(grid: Any, canonical: Callable[[int], int]) -> Rows:
    """Read all rows of a TreeGrid.

    Parameters
    ----------
    grid : TreeGrid
        Not populated yet.
    canonical : callable
        Gives an address its sign back: Volatility masks addresses to the bits that page tables use.

    Returns
    -------
    Rows
        Integers are Int64, or UInt64 where one does not fit; hexadecimal columns UInt64 with canonical addresses;
        texts `string`, truth values `boolean`, times `datetime64[us, UTC]`, bytes `object`. A last column `depth`
        (int64) where rows have children.
    """
    nodes: list[tuple[int, list[Any]]] = []

    def keep(node: Any, _accumulator: Any) -> None:
        if len(nodes) >= _MOST_ROWS:
            raise OverflowError(f"more than {_MOST_ROWS:,} rows")
        nodes.append((node.path_depth - 1, list(node.values)))

    failure = grid.populate(keep, None, fail_on_errors=False)
    absent: list[Absence] = []
    columns = {}
    for at, column in enumerate(grid.columns):
        values = [row[at] for _, row in nodes]
        absent += [Absence(row, column.name, _reason(value)) for row, value in enumerate(values) if _is_absent(value)]
        columns[column.name] = _series(column.type, values, canonical)
    frame = pd.DataFrame(columns)
    if any(depth for depth, _ in nodes):
        frame["depth"] = [depth for depth, _ in nodes]
    return Rows(frame, absent, "" if failure is None else f"{type(failure).__name__}: {failure}")


def _is_absent(value: Any) -> bool:
    return value is None or isinstance(value, interfaces.renderers.BaseAbsentValue)


def _reason(value: Any) -> str:
    for kind, reason in _REASONS.items():
        if isinstance(value, kind):
            return reason
    return "not available"


def _series(kind: type, values: list[Any], canonical: Callable[[int], int]) -> pd.Series:
    plain = [None if _is_absent(value) else _plain(value) for value in values]
    if issubclass(kind, bool):
        return pd.Series(plain, dtype="boolean")
    if issubclass(kind, (format_hints.Hex, format_hints.Bin)):
        return _unsigned([None if value is None else canonical(value) for value in plain])
    if issubclass(kind, int):
        return _integers(plain)
    if issubclass(kind, float):
        return pd.Series(plain, dtype="Float64")
    if issubclass(kind, dt.datetime):
        return pd.Series([_utc(value) for value in plain], dtype="datetime64[us, UTC]")
    if issubclass(kind, bytes) and not issubclass(kind, format_hints.MultiTypeData):
        return pd.Series(plain, dtype="object")
    return pd.Series([None if value is None else str(value) for value in plain], dtype="string")


def _plain(value: Any) -> Any:
    """Return a value without Volatility's own types, which would keep its context alive."""
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, format_hints.MultiTypeData):
        return value.decode(value.encoding, errors="replace")
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, (float, dt.datetime)):
        return value
    if isinstance(value, renderers.Disassembly):
        return value.data.hex(" ")
    if isinstance(value, renderers.LayerData):
        layer = value.context.layers[value.layer_name]
        return bytes(layer.read(value.offset, value.length, pad=True))
    return str(value)


def _integers(values: list[Any]) -> pd.Series:
    known = [value for value in values if value is not None]
    if all(-(1 << 63) <= value < 1 << 63 for value in known):
        return pd.Series(values, dtype="Int64")
    return _unsigned(values)


def _unsigned(values: list[Any]) -> pd.Series:
    if all(value is None or 0 <= value < 1 << 64 for value in values):
        return pd.Series(values, dtype="UInt64")
    return pd.Series([None if value is None else str(value) for value in values], dtype="string")  # nothing is cut off


def _utc(value: dt.datetime | None) -> dt.datetime | None:
    if value is None:
        return None
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
