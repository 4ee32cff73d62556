"""The explorer over the recorded intrusion: what it shows is what was planted, and a row leads on and back."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, inert

from workbench.case import Case, Moment
from workbench.errors import UsageError
from workbench.notebook.asking import arguments_of, field_of, value_of
from workbench.notebook.explorer import TABS, Explorer
from workbench.notebook.family import as_tree
from workbench.notebook.pane import process_of

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion"
LIMIT = 240.0


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    path = tmp_path_factory.mktemp("explorer") / "case"
    shutil.copytree(DATASET / "case", path)
    with Case(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def backdoor() -> int:
    truth = json.loads((DATASET / "truth.json").read_text())
    return int(next(each["pid"] for each in truth if each["what"] == "backdoor"))


@pytest.fixture
def explorer(case: Case) -> Explorer:
    found = Explorer(case.moment("alert-backdoor"))
    assert found.wait(LIMIT)
    return found


def row_of(explorer: Explorer, pid: int) -> int:
    return int(explorer.table.frame.index[explorer.table.frame["pid"] == pid][0])


def crumbs(explorer: Explorer) -> list[str]:
    return [each.description for each in explorer.pane._crumbs.children]


def test_processes_are_a_tree_with_the_planted_one_below_its_parent(explorer: Explorer, backdoor: int) -> None:
    frame = explorer.table.frame
    at = row_of(explorer, backdoor)
    assert "-p 4444" in frame["arguments"][at]
    above = frame[frame["pid"] == frame["ppid"][at]].iloc[0]
    assert frame["depth"][at] == above["depth"] + 1
    assert list(frame.columns[:3]) == ["name", "pid", "ppid"]
    assert explorer.table.label.startswith("Processes at 20")
    assert explorer.table.said == explorer.work.words == ""


@pytest.mark.parametrize(
    ("title", "column", "value"),
    [
        ("Sockets", "Source Port", "4444"),
        ("Modules", "Module Name", "virtio_blk"),
        ("Open files", "Process", "nc"),
        ("Kernel log", "level", "notice"),
    ],
)
def test_each_tab_is_filled_when_it_is_opened(explorer: Explorer, title: str, column: str, value: str) -> None:
    pane = explorer._panes[title]
    assert pane.table.label == ""
    explorer.show(title)
    assert explorer.wait(LIMIT)
    assert value in set(pane.table.frame[column].dropna())


def test_another_moment_refills_the_open_tab_only(case: Case, explorer: Explorer, backdoor: int) -> None:
    explorer.show("Sockets")
    assert explorer.wait(LIMIT)
    earlier, before = case.moment("alert-break_in"), explorer._panes["Processes"].table.label
    explorer.moment = earlier
    assert explorer.wait(LIMIT)
    assert "4444" not in set(explorer.table.frame["Source Port"].dropna())
    assert explorer._panes["Processes"].table.label == before
    explorer.show("Processes")
    assert explorer.wait(LIMIT)
    assert explorer._panes["Processes"].table.label != before
    assert backdoor not in set(explorer.table.frame["pid"])


def test_a_tab_that_is_shown_again_is_not_asked_again(explorer: Explorer) -> None:
    version = explorer.table.version
    explorer.show("Modules")
    assert explorer.wait(LIMIT)
    explorer.show("Processes")
    assert not explorer.work.running
    assert explorer.table.version == version


def test_a_process_leads_to_what_it_is_made_of_and_back(explorer: Explorer, backdoor: int) -> None:
    table = explorer.table
    table.selected = row_of(explorer, backdoor)
    assert explorer.pane.process is not None
    assert explorer.pane.process[0] == backdoor
    table._asked(table, {"ask": "open", "at": table.selected, "version": table.version}, None)
    assert explorer.wait(LIMIT)
    assert any("busybox" in str(each) for each in table.frame["path"])
    assert crumbs(explorer) == ["Processes", f"Maps of {backdoor} nc"]
    for button in explorer.pane._leads:
        assert not button.disabled
    for words, column in (("Open files", "FD"), ("Environment", "KEY"), ("Memory strings", "text")):
        next(each for each in explorer.pane._leads if each.description == words).click()
        assert explorer.wait(LIMIT)
        assert len(table.frame[column]) > 0
        assert crumbs(explorer) == ["Processes", f"{words} of {backdoor} nc"]
    explorer.pane._crumbs.children[0].click()
    assert explorer.wait(LIMIT)
    assert backdoor in set(table.frame["pid"])
    assert crumbs(explorer) == []
    assert all(button.disabled for button in explorer.pane._leads)


def test_a_process_that_is_not_there_at_another_moment_says_so(case: Case, explorer: Explorer, backdoor: int) -> None:
    explorer.process(backdoor)
    assert explorer.wait(LIMIT)
    assert len(explorer.table.frame) > 0
    explorer.moment = case.moment("alert-break_in")
    assert explorer.wait(LIMIT)
    assert len(explorer.table.frame) == 0
    assert str(backdoor) in explorer.work.error


def test_any_question_is_found_and_asked_by_its_form(explorer: Explorer, backdoor: int) -> None:
    explorer.show("Ask")
    assert explorer.wait(LIMIT)
    asking = explorer.asking
    assert {"linux.pslist.PsList", "workbench.detect", "workbench.strings"} <= set(asking.known)
    asking.search.value = "Pslist"
    assert asking.chosen.options == ("linux.pslist.PsList",)
    fields = {each.description: each for each in asking.form.children}
    fields["pid"].value = "x"
    asking._run.click()
    assert "pid wants whole numbers" in explorer.work.words
    fields["pid"].value = f"{backdoor:#x}, 1"
    asking._run.click()
    assert explorer.wait(LIMIT)
    assert set(explorer.table.frame["PID"]) == {1, backdoor}
    assert explorer.work.words == ""


def test_a_question_that_there_is_not_says_so(explorer: Explorer) -> None:
    explorer.ask("linux.nothing.Nothing")
    assert explorer.wait(LIMIT)
    assert "no plugin" in explorer.work.error


def test_a_static_report_waits_for_the_table(case: Case, backdoor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_STATIC", "1")
    explorer = Explorer(case.moment("latest"))
    data, _ = explorer._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}
    assert f"<td><bdi>{backdoor}</bdi></td>" in data["text/html"]


# Without a case.


class Told:
    """A moment that answers every question with the same frame."""

    class Record:
        time_ns = 0

    record = Record()
    id = "0" * 64

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def vol(self, plugin: str, **_arguments: Any) -> pd.DataFrame:
        return self.frame

    def __repr__(self) -> str:
        return f"<Told {HOSTILE[0]}>"


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "control", "backwards", "long", "signs"])
def test_names_from_a_guest_do_nothing(name: str) -> None:
    frame = pd.DataFrame({"name": [name], "pid": [7], "ppid": [1]})
    moment: Any = Told(frame)
    explorer = Explorer(moment)
    assert explorer.wait(LIMIT)
    explorer.table.selected = 0
    explorer.pane.lead("Open files")
    assert explorer.wait(LIMIT)
    shown = [*crumbs(explorer), explorer.table.label, explorer.work.words, explorer.still()]
    assert all(inert(each) for each in shown)
    assert "<img" not in explorer.still()


def test_what_each_tab_asks_is_asked_once() -> None:
    asked: list[str] = []

    class Counted(Told):
        def vol(self, plugin: str, **arguments: Any) -> pd.DataFrame:
            asked.append(plugin)
            return self.frame

    moment: Any = Counted(pd.DataFrame({"name": ["init"], "pid": [1], "ppid": [0]}))
    explorer = Explorer(moment)
    assert explorer.wait(LIMIT)
    assert asked == ["workbench.processes"]
    for title in TABS:
        explorer.show(title)
        assert explorer.wait(LIMIT)
    assert len(asked) == len(TABS)


def test_cancel_ends_the_question_that_is_answered() -> None:
    asked, ended = threading.Event(), threading.Event()

    class Slow(Told):
        class Answering:
            class Analyst:
                close = ended.set

            analyst = Analyst

        case = Answering

        def vol(self, plugin: str, **arguments: Any) -> pd.DataFrame:
            asked.set()
            ended.wait(LIMIT)
            raise UsageError("the worker died")

    moment: Any = Slow(pd.DataFrame())
    explorer = Explorer(moment)
    assert asked.wait(LIMIT)
    explorer.work._button.click()
    assert ended.is_set()
    assert (explorer.work.words, explorer.work.error) == ("Cancelled.", "")


def test_a_tree_loses_no_process() -> None:
    frame = pd.DataFrame({"pid": [5, 1, 2, 9, 8, 3, 4], "ppid": [2, 0, 1, 8, 9, 3, 77], "name": list("abcdefg")})
    frame.attrs["absent"] = [[0, "name", "unreadable"]]
    tree = as_tree(frame)
    pairs = list(zip(tree["pid"], tree["depth"], strict=True))
    assert pairs == [(1, 0), (2, 1), (5, 2), (3, 0), (4, 0), (9, 0), (8, 1)]
    assert tree.attrs["absent"] == [[2, "name", "unreadable"]]


def test_processes_that_share_a_number_are_all_there() -> None:
    tree = as_tree(pd.DataFrame({"pid": [1, 1, 2], "ppid": [0, 0, 1], "name": ["a", "b", "c"]}))
    assert sorted(tree["name"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("row", "process"),
    [
        ({"pid": 3, "name": "init"}, (3, "init")),
        ({"PID": 3, "COMM": pd.NA, "Process": "sh"}, (3, "sh")),
        ({"PID": pd.NA}, None),
        ({"Offset": 1}, None),
    ],
)
def test_the_process_of_a_row(row: dict[str, Any], process: tuple[int, str] | None) -> None:
    assert process_of(pd.Series(row, dtype=object)) == process
    assert process_of(None) is None


def test_arguments_are_told_apart_whatever_their_descriptions_hold() -> None:
    row = pd.Series(
        {
            "plugin": "p",
            "arguments": "pid: Process; all others: out; dump: Write",
            "kinds": "pid: list of int; dump: bool",
        }
    )
    assert arguments_of(row) == {"pid": ("list of int", "Process; all others: out"), "dump": ("bool", "Write")}
    assert arguments_of(pd.Series({"plugin": "p", "arguments": "", "kinds": ""})) == {}


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("bool", True, True),
        ("bool", False, None),
        ("int", " 0x10 ", 16),
        ("int", "", None),
        ("list of int", "1, 2 3", [1, 2, 3]),
        ("list of text", "REG DIR", ["REG", "DIR"]),
        ("text, needed", "a b", "a b"),
        ("one of gz, xz", "xz", "xz"),
        ("one of gz, xz", "", None),
    ],
)
def test_a_field_means_a_value_of_its_kind(kind: str, given: object, value: object) -> None:
    field = field_of("name", kind, "words")
    field.value = given
    assert value_of("name", kind, field.value) == value


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [("int", "ten", "wants whole numbers"), ("list of int", "1 x", "wants"), ("int, needed", " ", "is needed")],
)
def test_a_field_that_is_not_of_its_kind_is_refused(kind: str, given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        value_of("name", kind, given)


def test_what_can_be_asked_has_kinds_that_a_form_knows(case: Case) -> None:
    plugins = pd.concat([case.plugins("workbench."), case.plugins()])
    kinds = {kind for _, row in plugins.iterrows() for kind, _ in arguments_of(row).values()}
    known = ("bool", "int", "text", "list of int", "list of text", "one of ")
    assert kinds
    assert all(kind.removesuffix(", needed").startswith(known) for kind in kinds)
    takes = {str(row["plugin"]): arguments_of(row) for _, row in plugins.iterrows()}
    assert takes["linux.pslist.PsList"]["pid"] == ("list of int", "Filter on specific process IDs")
    assert takes["workbench.pages"]["against"][0] == "text, needed"


def test_the_moment_of_an_explorer_is_a_moment(explorer: Explorer) -> None:
    assert isinstance(explorer.moment, Moment)
    assert "Explorer of <Moment" in repr(explorer)
