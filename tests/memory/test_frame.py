"""Grids become frames: types, depth, UTC, and the reason of every empty cell; what is hostile stays data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from volatility3.framework import renderers
from volatility3.framework.renderers import format_hints

from workbench.inquiry.wire import frame_of, table_of
from workbench.memory.volatility.frame import Rows, collect

COLUMNS = [
    ("address", format_hints.Hex),
    ("count", int),
    ("name", str),
    ("open", bool),
    ("when", dt.datetime),
    ("share", float),
    ("bytes", format_hints.HexBytes),
]
NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
ROW = (format_hints.Hex(0xFFFF80000000), 1, "init", True, NOON, 0.5, format_hints.HexBytes(b"\0\xff"))
ABSENT = (
    renderers.UnreadableValue(),
    renderers.UnparsableValue(),
    renderers.NotApplicableValue(),
    renderers.NotAvailableValue(),
    renderers.UnreadableValue(),
    renderers.UnreadableValue(),
    renderers.UnreadableValue(),
)


def canonical(address: int) -> int:
    return address | 0xFFFF << 48 if address >> 47 == 1 else address


def rows(*nodes: tuple[int, tuple[Any, ...]], columns: Any = None, failure: Exception | None = None) -> Rows:
    def generate() -> Iterator[tuple[int, tuple[Any, ...]]]:
        yield from nodes
        if failure is not None:
            raise failure

    return collect(renderers.TreeGrid(columns or COLUMNS, generate()), canonical)


def test_columns_have_types_and_times_are_utc() -> None:
    found = rows((0, ROW), (0, ABSENT))
    kinds = {name: str(kind) for name, kind in found.frame.dtypes.items()}
    assert kinds == {
        "address": "UInt64",
        "count": "Int64",
        "name": "string",
        "open": "boolean",
        "when": "datetime64[us, UTC]",
        "share": "Float64",
        "bytes": "object",
    }
    first = found.frame.iloc[0]
    assert first["address"] == 0xFFFF_FFFF_8000_0000
    assert first["when"] == pd.Timestamp("2026-11-24T10:00:00Z")
    assert first["bytes"] == b"\0\xff"
    pd.testing.assert_frame_equal(frame_of(table_of(found.frame)), found.frame)


def test_every_empty_cell_keeps_its_reason() -> None:
    found = rows((0, ROW), (0, ABSENT))
    assert found.frame.iloc[1].isna().all()
    reasons = {each.column: each.reason for each in found.absent}
    assert {each.row for each in found.absent} == {1}
    assert list(reasons.values())[:4] == ["unreadable", "unparsable", "not applicable", "not available"]
    assert set(reasons) == {name for name, _ in COLUMNS}


def test_a_tree_has_depths_and_a_list_has_none() -> None:
    assert rows((0, ROW), (1, ROW), (2, ROW), (1, ROW)).frame["depth"].tolist() == [0, 1, 2, 1]
    assert "depth" not in rows((0, ROW), (0, ROW)).frame
    assert rows().frame.empty


def test_what_breaks_off_keeps_its_rows() -> None:
    found = rows((0, ROW), failure=RuntimeError("a ring of lists"))
    assert len(found.frame) == 1
    assert found.error == "RuntimeError: a ring of lists"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, -1], "Int64"),
        ([(1 << 63), None], "UInt64"),
        ([-1, 1 << 63], "string"),
        ([1 << 200], "string"),
    ],
)
def test_no_number_is_cut_off(values: list[int | None], kind: str) -> None:
    nodes = [(0, (renderers.NotAvailableValue() if value is None else value,)) for value in values]
    frame = rows(*nodes, columns=[("n", int)]).frame
    assert frame["n"].dtype == kind
    assert [None if pd.isna(each) else int(each) for each in frame["n"]] == values
    pd.testing.assert_frame_equal(frame_of(table_of(frame)), frame)


def test_text_of_a_guest_stays_text() -> None:
    nasty = "<script>\x1b]0;owned\x07\u202e\udc80"
    row = (*ROW[:2], nasty.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), *ROW[3:])
    frame = rows((0, row)).frame
    assert frame["name"].iloc[0].startswith("<script>")
    assert "<script>" not in frame._repr_html_()
