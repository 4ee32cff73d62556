"""Answers on the command line: a frame as a table, or as JSON with everything that belongs to it.

Refuses to choose what matters: all columns are shown, but for those a verb names as of no use on a terminal.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import ABSENT

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["show_frame"]

_LONGEST = 120
_NOTHING = ("<NA>", "NaT", "nan")


def show_frame(output: Output, frame: pd.DataFrame, *, without: Collection[str] = ()) -> None:
    """Print an answer: `without` names columns that a table leaves out; JSON has them all, and the answer's facts."""
    if output.as_json:
        output.document({**frame.attrs, "rows": [_json(row) for row in frame.to_dict("records")]})
        return
    kept = [name for name in frame.columns if name not in without]
    if frame.empty:
        output.say("Nothing.")
    else:
        numbers = {name for name in kept if frame[name].dtype.kind in "iuf"}
        columns = [Column(str(name), right=name in numbers, wraps=name not in numbers) for name in kept]
        kinds = [frame[name].dtype.name for name in kept]
        rows = [
            [_cell(value, kind) for value, kind in zip(row, kinds, strict=True)]
            for row in frame[kept].itertuples(index=False, name=None)
        ]
        output.table(columns, rows, longest=_LONGEST)
    if frame.attrs.get("error"):
        output.note(f"The answer broke off there: {frame.attrs['error']}")


def _json(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(name): value.hex() if isinstance(value, bytes) else value for name, value in row.items()}


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, bytes):
        return value[:32].hex(" ")
    if value is None or str(value) in _NOTHING:
        return ABSENT
    if kind == "UInt64":
        return f"{int(value):#x}"
    if kind.startswith("datetime"):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}"[:-3]
    return str(value)
