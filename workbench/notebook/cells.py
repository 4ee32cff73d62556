"""How a value of a frame is shown in a cell: inert text, by what the value is.

Times are UTC to the millisecond, bytes a hex preview, addresses hexadecimal, and what could not be read is its reason.
Refuses to show an empty cell where a reason is known.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from workbench.notebook.text import inert, when

__all__ = ["LONGEST", "Cells", "show"]

LONGEST = 400
"""Characters of a cell."""
_BYTES = 24
_ADDRESS = re.compile(r"^(start|end|base)$|addr|offset", re.IGNORECASE)
_SAMPLE, _NARROW, _WIDE, _WIDEST = 60, 4, 56, 160
"""Rows that a column's width is taken from; its least and most characters, and the most of the last column."""


class Cells:
    """A frame as texts.

    Parameters
    ----------
    frame : DataFrame
        Any; `attrs["absent"]`, where it is there, has (row, column, reason) of cells that could not be read.
    hidden : sequence of str
        Columns that are not shown.
    """

    def __init__(self, frame: pd.DataFrame, hidden: tuple[str, ...] = ()) -> None:
        self.frame = pd.DataFrame(frame, copy=False)  # without `attrs`: pandas copies those with every row and column
        self.places = [place for place, name in enumerate(frame.columns) if name not in hidden]
        self.names = [str(frame.columns[place]) for place in self.places]
        self._hex = [
            _is_address(self.frame.iloc[:, place], name) for place, name in zip(self.places, self.names, strict=True)
        ]
        self._reasons = {(int(row), str(name)): str(why) for row, name, why in frame.attrs.get("absent", ())}

    def text(self, row: int, column: int) -> str:
        """Return one cell; `column` counts those that are shown."""
        value = self.frame.iloc[row, self.places[column]]
        if _is_nothing(value):
            return inert(self._reasons.get((row, self.names[column]), ""), LONGEST)
        return show(value, hexadecimal=self._hex[column])

    def row(self, row: int) -> list[str]:
        """Return the cells of a row."""
        return [self.text(row, column) for column in range(len(self.places))]

    def column(self, column: int) -> list[str]:
        """Return the cells of a column, in lower case, to be searched."""
        values = self.frame.iloc[:, self.places[column]].tolist()
        hexadecimal = self._hex[column]
        return [
            self.text(row, column).lower() if _is_nothing(value) else show(value, hexadecimal=hexadecimal).lower()
            for row, value in enumerate(values)
        ]

    def is_absent(self, row: int, column: int) -> bool:
        """Tell whether a cell shows why it has no value."""
        return (row, self.names[column]) in self._reasons

    def columns(self) -> list[dict[str, Any]]:
        """Return name, kind ("number" or "text") and width (characters) of each column, for a page."""
        rows = range(min(len(self.frame), _SAMPLE))
        found = []
        for column, (place, name) in enumerate(zip(self.places, self.names, strict=True)):
            widest = max((len(self.text(row, column)) for row in rows), default=0)
            kind = "number" if pd.api.types.is_numeric_dtype(self.frame.dtypes.iloc[place]) else "text"
            shown = inert(name, 80)
            most = _WIDEST if column == len(self.places) - 1 else _WIDE
            found.append({"name": shown, "kind": kind, "width": min(most, max(_NARROW, len(shown) + 3, widest + 1))})
        return found


def show(value: Any, *, hexadecimal: bool = False) -> str:
    """Return a value as inert text."""
    if _is_nothing(value):
        return ""
    if isinstance(value, pd.Timestamp):
        return when(value.value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        return data[:_BYTES].hex(" ") + (f" ... ({len(data)} bytes)" if len(data) > _BYTES else "")
    if isinstance(value, float):
        return f"{value:.6g}"
    if hexadecimal:
        return hex(int(value))
    return inert(value, LONGEST)


def _is_nothing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _is_address(column: pd.Series, name: str) -> bool:
    """Tell whether numbers are better read in hexadecimal: addresses by name or by size."""
    kind = column.dtype
    if not pd.api.types.is_unsigned_integer_dtype(kind):
        return False
    return bool(_ADDRESS.search(name)) or bool((column.dropna() >= 1 << 32).any())
