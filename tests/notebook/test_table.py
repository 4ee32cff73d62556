"""A table without a page: what its cells say, how it is sorted and searched, what it answers to a page."""

from __future__ import annotations

import os
import sys
from typing import Any

import pandas as pd
import pytest
import traitlets

sys.path.insert(0, os.path.dirname(__file__))

from small import CONTROL, HOSTILE, LONG, MARKUP, inert

from workbench.notebook.cells import Cells, show
from workbench.notebook.searching import ordered, terms
from workbench.notebook.table import Table


class Heard(Table):
    """A table that keeps what it would send to its page."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        super().__init__(*given, **named)

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append(content)

    def ask(self, **content: Any) -> dict[str, Any]:
        self.sent.clear()
        self._asked(self, {"version": self.version, **content}, None)
        return self.sent[-1] if self.sent else {}

    def shown(self) -> list[str]:
        return [row["cells"][0] for row in self.ask(ask="rows", at=0, to=100)["rows"]]


@pytest.fixture
def table() -> Heard:
    frame = pd.DataFrame(
        {
            "name": ["init", "sshd", "bash", "SSHD-child", None],
            "pid": pd.array([1, 30, 200, 31, None], dtype="Int64"),
            "Source Addr": pd.array(["10.0.0.1", "10.0.0.2", None, "ssh.example", "::1"], dtype="string"),
            "depth": [0, 1, 2, 2, 0],
        }
    )
    frame.attrs["absent"] = [[2, "Source Addr", "unreadable"], [4, "pid", "not available"]]
    return Heard(frame, label="Processes", tree="depth")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (pd.Timestamp("2024-05-01T12:30:00.0015Z"), "2024-05-01 12:30:00.001Z"),
        (pd.Timestamp("2024-05-01T12:30:00"), "2024-05-01 12:30:00.000Z"),
        (bytes(range(4)), "00 01 02 03"),
        (b"\xff" * 100, " ".join(["ff"] * 24) + " ... (100 bytes)"),
        (None, ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        (float("nan"), ""),
        (0.1 + 0.2, "0.3"),
        (True, "True"),
        ("\udcff", "\\udcff"),
        (CONTROL, "web\\x1b]0;owned\\x07\\x00\\r\\n\\u2028"),
    ],
)
def test_values_are_shown_by_what_they_are(value: object, shown: str) -> None:
    assert show(value) == shown


def test_addresses_are_hexadecimal_and_counts_are_not() -> None:
    frame = pd.DataFrame(
        {
            "start": pd.array([4194304, None], dtype="UInt64"),
            "Code Size": pd.array([24576, 1], dtype="UInt64"),
            "where": pd.array([1 << 63, 1], dtype="UInt64"),
            "offset": [4096, 1],
        }
    )
    assert Cells(frame).row(0) == ["0x400000", "24576", "0x8000000000000000", "4096"]


def test_what_could_not_be_read_says_why(table: Heard) -> None:
    rows = table.ask(ask="rows", at=0, to=5)["rows"]
    assert rows[2]["cells"] == ["bash", "200", "unreadable"]
    assert rows[2]["absent"] == [2]
    assert rows[4]["cells"] == ["", "not available", "::1"]


def test_a_tree_is_indented_until_another_order_tears_it_apart(table: Heard) -> None:
    assert [each["name"] for each in table.columns] == ["name", "pid", "Source Addr"]
    assert [row["depth"] for row in table.ask(ask="rows", at=0, to=5)["rows"]] == [0, 1, 2, 2, 0]
    table.sort = [1, 1]
    assert {row["depth"] for row in table.ask(ask="rows", at=0, to=5)["rows"]} == {0}


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        ("ssh", ["sshd", "SSHD-child"]),
        ("name:ssh", ["sshd", "SSHD-child"]),
        ("sourceaddr:ssh", ["SSHD-child"]),
        ('"Source Addr:ssh"', ["SSHD-child"]),
        ("source:10. pid:3", ["sshd"]),
        ("unreadable", ["bash"]),
        ("::1", [""]),
        ("nothing:here", []),
        ("  ", ["init", "sshd", "bash", "SSHD-child", ""]),
    ],
)
def test_words_are_found_in_any_column_or_in_one(table: Heard, sought: str, found: list[str]) -> None:
    table.sought = sought
    assert table.shown() == found
    assert table.total == len(found)


def test_an_unclosed_quote_is_no_fault() -> None:
    assert terms('"a b', ["x"]) == [([0], "a b")]


def test_sorting_keeps_equal_rows_as_they_were_and_what_has_no_value_last() -> None:
    column = pd.Series([2, 1, None, 2, 1])
    assert ordered(column).tolist() == [1, 4, 0, 3, 2]
    assert ordered(column, falling=True).tolist() == [0, 3, 1, 4, 2]


def test_values_that_cannot_be_compared_are_sorted_as_text() -> None:
    assert ordered(pd.Series([b"x", 3, "a"], dtype=object)).tolist() == [2, 1, 0]


def test_rows_are_sent_in_windows_of_the_order_that_is_shown() -> None:
    table = Heard(pd.DataFrame({"n": range(100_000)}))
    table.sort = [0, -1]
    answer = table.ask(ask="rows", at=10, to=99_999)
    assert answer["at"] == 10
    assert [row["row"] for row in answer["rows"]] == list(range(99_989, 99_989 - 400, -1))
    assert table.ask(ask="where", at=7)["where"] == 99_992


def test_what_a_page_asks_of_an_older_table_is_not_answered(table: Heard) -> None:
    table.sort = [1, -1]
    assert table.ask(ask="rows", at=0, to=5, version=table.version - 1) == {}


@pytest.mark.parametrize("content", [None, [], {"ask": "rows"}, {"ask": "open", "at": "1"}, {"ask": "open", "at": -1}])
def test_what_a_page_should_not_ask_opens_nothing(table: Heard, content: Any) -> None:
    opened: list[pd.Series] = []
    table.on_open(opened.append)
    table._asked(table, content if not isinstance(content, dict) else {"version": table.version, **content}, None)
    assert opened == []


def test_a_row_is_chosen_and_opened(table: Heard) -> None:
    opened: list[pd.Series] = []
    table.on_open(opened.append)
    assert table.row is None
    table.ask(ask="open", at=3)
    assert [row["pid"] for row in opened] == [31]
    assert table.row is not None
    assert table.row["name"] == "SSHD-child"
    table.selected = 99
    assert table.selected == -1


def test_the_order_of_a_column_that_is_not_there_is_refused(table: Heard) -> None:
    with pytest.raises(traitlets.TraitError, match="a column and 1 or -1"):
        table.sort = [7, 1]


def test_another_frame_of_the_same_columns_keeps_filter_and_order(table: Heard) -> None:
    table.sought, table.sort, table.selected = "ssh", [1, -1], 1
    table.frame = table.frame.iloc[[1, 3, 0]].reset_index(drop=True)
    assert table.shown() == ["SSHD-child", "sshd"]
    assert table.selected == -1
    table.frame = pd.DataFrame({"other": [1]})
    assert (table.sort, table.sought, table.shown()) == ([], "", ["1"])


def test_an_answer_that_broke_off_says_so() -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["error"] = f"stopped at {MARKUP}"
    table = Table(frame)
    assert table.said.startswith("Broke off: stopped at")
    assert "<img" not in table.still()


def test_without_a_page_the_first_rows_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(pd.DataFrame({f"name {HOSTILE[0]}": [*HOSTILE, *map(str, range(100))]}), label=MARKUP)
    told = table._repr_mimebundle_()[0]
    assert told["text/html"].count("<tr>") == 61
    assert "<img" not in told["text/html"]
    assert inert(told["text/html"])
    assert LONG not in told["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in told
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    assert set(table._repr_mimebundle_()[0]) == {"text/plain", "text/html"}


def test_a_frame_without_columns_or_rows() -> None:
    table = Heard()
    assert table.ask(ask="rows", at=0, to=5)["rows"] == []
    assert "0 of 0 rows" in table.still()
