"""A frame as a table in a page: 10^5 rows and more, sorted, searched, walked by keys; rows go to the page in windows.

The page asks for the rows that it shows; sorting and filtering are done here. Refuses to put a text on the page that is
not inert, and to change the frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from workbench.notebook.cells import Cells
from workbench.notebook.front import module, style
from workbench.notebook.searching import fitting, ordered
from workbench.notebook.still import Still
from workbench.notebook.text import inert, markup, table

__all__ = ["Table"]

_WINDOW = 400
"""Rows that one message carries at most."""
_STILL = 60
_DEEPEST = 64


class Table(Still, anywidget.AnyWidget):
    """A frame, shown.

    Parameters
    ----------
    frame : DataFrame
        `attrs` may have `absent` (see `workbench.case.absences`) and `error`, which are shown.
    label : str
        What it is a table of; its name for who does not see it.
    tree : str
        A column of depths (integers): the first column is indented by it, and it is not shown.
    hidden : tuple of str
        More columns that are not shown.

    Attributes
    ----------
    selected : int
        The chosen row, counted in `frame` as it was given; -1 for none.
    sort : list
        Column (its place among those shown) and 1 or -1; empty for the frame's own order.
    sought : str
        Words of the filter box: a row has each of them in any column, `column:text` in that one.
    """

    _esm = module("base", "grid")
    _css = style("base", "grid")

    label = traitlets.Unicode("").tag(sync=True)
    columns = traitlets.List(traitlets.Dict()).tag(sync=True)
    rows = traitlets.Int(0).tag(sync=True)
    total = traitlets.Int(0).tag(sync=True)
    version = traitlets.Int(0).tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    sort = traitlets.List(traitlets.Int()).tag(sync=True)
    sought = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self, frame: pd.DataFrame | None = None, *, label: str = "", tree: str = "", hidden: tuple[str, ...] = ()
    ) -> None:
        self._lock = threading.RLock()
        self._tree, self._hidden = tree, (tree, *hidden)
        self._opened: list[Callable[[pd.Series], None]] = []
        self._take(pd.DataFrame() if frame is None else frame)
        super().__init__(label=inert(label), **self._told())
        self.on_msg(self._asked)

    def __repr__(self) -> str:
        return f"<Table {self.label!r} of {len(self._frame)} rows by {len(self._cells.places)} columns>"

    def still(self) -> str:
        """Return its first rows, in the order that is shown, as HTML."""
        rows: list[tuple[object, ...]] = [tuple(self._cells.row(at)) for at in self._order[:_STILL].tolist()]
        shown = table(rows, tuple(self._cells.names)) if self._cells.names else ""
        count = f"{min(_STILL, len(self._order))} of {len(self._frame)} rows"
        return f"<p><strong>{markup(self.label)}</strong> {count} {markup(self.said, 400)}</p>{shown}"

    @property
    def frame(self) -> pd.DataFrame:
        """What is shown; may be set from any thread. Nothing is then chosen, the filter and the sorting stay."""
        return self._frame

    @frame.setter
    def frame(self, frame: pd.DataFrame) -> None:
        with self._lock, self.hold_sync():
            same = [str(each) for each in frame.columns] == [str(each) for each in self._frame.columns]
            self._take(frame)
            self.selected = -1
            if not same:
                self.sort, self.sought = [], ""
            self._arrange()

    @property
    def row(self) -> pd.Series | None:
        """The chosen row, or None."""
        return self._cells.frame.iloc[self.selected] if 0 <= self.selected < len(self._frame) else None

    def on_open(self, callback: Callable[[pd.Series], None]) -> None:
        """Call `callback(row)` when a row is opened, by a double click or Enter."""
        self._opened.append(callback)

    # What is shown.

    def _take(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._cells = Cells(frame, self._hidden)
        self._words: dict[int, list[str]] = {}
        self._order = np.arange(len(frame))

    def _told(self) -> dict[str, Any]:
        error = self._frame.attrs.get("error", "")
        return {
            "columns": self._cells.columns(),
            "rows": len(self._frame),
            "total": len(self._order),
            "said": f"Broke off: {inert(error, 400)}" if error else "",
        }

    def _arrange(self) -> None:
        """Make the order of rows anew and let the page ask for them."""
        with self._lock, self.hold_sync():
            order = np.arange(len(self._frame))
            if self.sort and self.sort[0] < len(self._cells.places):
                order = ordered(self._cells.frame.iloc[:, self._cells.places[self.sort[0]]], falling=self.sort[1] < 0)
            if self.sought.strip():
                order = order[fitting(self.sought, self._cells.names, self._column, len(self._frame))[order]]
            self._order = order
            for name, value in self._told().items():
                setattr(self, name, value)
            self.version += 1

    def _column(self, column: int) -> list[str]:
        if column not in self._words:
            self._words[column] = self._cells.column(column)
        return self._words[column]

    @traitlets.observe("sort", "sought")
    def _changed(self, _change: Any) -> None:
        self._arrange()

    @traitlets.validate("sort")
    def _a_column(self, proposal: Any) -> list[int]:
        asked = list(proposal["value"])
        if asked and (len(asked) != 2 or not 0 <= asked[0] < len(self._cells.places) or asked[1] not in (1, -1)):
            raise traitlets.TraitError(f"a column and 1 or -1, or nothing: {asked}")
        return asked

    @traitlets.validate("selected")
    def _a_row(self, proposal: Any) -> int:
        asked = int(proposal["value"])
        return asked if 0 <= asked < len(self._frame) else -1

    # What the page asks.

    def _asked(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        with self._lock:
            if content.get("version") != self.version:
                return
            asked, at = content.get("ask"), _whole(content.get("at"))
        if asked == "rows":
            self._send_rows(at, _whole(content.get("to")))
        elif asked == "where":
            found = np.flatnonzero(self._order == at)
            self.send({"where": int(found[0]) if len(found) else -1, "row": at, "version": self.version})
        elif asked == "open" and 0 <= at < len(self._frame):
            self.selected = at
            for callback in self._opened:
                callback(self._cells.frame.iloc[at])

    def _send_rows(self, first: int, last: int) -> None:
        with self._lock:
            first = max(0, first)
            chosen = self._order[first : max(first, min(last, first + _WINDOW))].tolist()
            told = [self._row_of(row) for row in chosen]
            self.send({"rows": told, "at": first, "version": self.version})

    def _row_of(self, row: int) -> dict[str, Any]:
        cells = self._cells
        absent = [column for column in range(len(cells.places)) if cells.is_absent(row, column)]
        return {"row": row, "cells": cells.row(row), "absent": absent, "depth": self._depth_of(row)}

    def _depth_of(self, row: int) -> int:
        """Return how far a row is indented: not at all where another order has taken it from its parent."""
        if self.sort or self._tree not in self._cells.frame.columns:
            return 0
        deep: Any = self._cells.frame[self._tree].iloc[row]
        return 0 if pd.isna(deep) else max(0, min(int(deep), _DEEPEST))


def _whole(value: Any) -> int:
    """Return a number that a page sent, -1 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
