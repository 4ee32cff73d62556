"""Bisection: along the line that leads from A to B, only there, with few questions, and to what was planted."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from commandline import on_a_terminal
from numbered import Numbered, from_number, number_of

from workbench.case import Case, Moment, file_exists, plugin_reports, process_runs
from workbench.cli import main
from workbench.errors import AnalysisError, UsageError

# On the line.


def test_it_finds_the_first_with_few_questions(case: Case, numbered: Numbered) -> None:
    for least in (1, 2, 15, 28, 29):
        found = case.bisect(from_number(least), (numbered.ids[0], numbered.ids[29]), "demo")
        assert (number_of(found.last_before), number_of(found.first)) == (least - 1, least)
        assert (found.unknown, found.captures, found.span) == ([], 30, 2.0)
        assert len(found.evaluations) <= 2 + math.ceil(math.log2(29))


def test_a_rewind_lies_on_the_way_and_what_it_left_behind_does_not(case: Case, numbered: Numbered) -> None:
    found = case.bisect(from_number(20), (numbered.ids[0], numbered.ids[49]), "demo")
    assert (number_of(found.last_before), number_of(found.first)) == (19, 30)
    assert found.captures == 40
    assert not set(found.evaluations["capture"]) & set(numbered.ids[20:30])


def test_what_was_pruned_is_not_on_the_way(case: Case, numbered: Numbered) -> None:
    numbered.prune(*range(1, 9), *range(15, 19), *range(31, 36))
    with Case(numbered.path) as pruned:
        found = pruned.bisect(from_number(33), (numbered.ids[0], numbered.ids[49]), "demo")
        assert (number_of(found.last_before), number_of(found.first)) == (30, 36)
        assert found.captures == 40 - 8 - 4 - 5


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [(25, 40, "two branches"), (29, 0, "Exchange the two"), (7, 7, "same capture"), (40, 25, "two branches")],
)
@pytest.mark.parametrize("gone", [(), (1, 2, 3)], ids=["whole", "pruned"])
def test_no_way_leads_from_a_to_b(numbered: Numbered, a: int, b: int, words: str, gone: tuple[int, ...]) -> None:
    if gone:
        numbered.prune(*gone)
    with Case(numbered.path) as case, pytest.raises(UsageError, match=words) as raised:
        case.bisect(from_number(1), (numbered.ids[a], numbered.ids[b]), "demo")
    if "branches" in words:
        assert raised.value.facts["fork"] == numbered.ids[19][:12]


def test_two_guests_have_no_way(case: Case, numbered: Numbered) -> None:
    stranger = case.moment(str(numbered.stranger), "other")
    with pytest.raises(UsageError, match="two guests"):
        case.bisect(from_number(1), (case.moment(numbered.ids[0], "demo"), stranger))


# What the predicate says.


@pytest.mark.parametrize(("least", "where"), [(0, "holds already at the beginning"), (40, "does not hold at the end")])
def test_it_has_to_turn_between_the_ends(case: Case, numbered: Numbered, least: int, where: str) -> None:
    with pytest.raises(UsageError, match=where):
        case.bisect(from_number(least), (numbered.ids[0], numbered.ids[29]), "demo")


def test_what_cannot_be_told_is_gone_round_and_told(case: Case, numbered: Numbered) -> None:
    def torn(moment: Moment) -> bool:
        if number_of(moment) in (13, 14, 15):
            raise AnalysisError("torn page")
        return number_of(moment) >= 15

    found = case.bisect(torn, (numbered.ids[0], numbered.ids[29]), "demo")
    assert (number_of(found.last_before), number_of(found.first)) == (12, 16)
    assert found.unknown == numbered.ids[13:16]
    unsure = found.evaluations[found.evaluations["answer"].isna()]
    assert set(unsure["capture"]) == set(numbered.ids[13:16])
    assert set(unsure["why"]) == {"AnalysisError: torn page"}


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_only_true_and_false_are_answers(case: Case, numbered: Numbered, answer: Any) -> None:
    with pytest.raises(UsageError, match=f"cannot be told at the beginning.*{type(answer).__name__}"):
        case.bisect(lambda _moment: answer, (numbered.ids[0], numbered.ids[29]), "demo")


def test_an_answer_that_turns_often_gives_one_of_the_turns(case: Case, numbered: Numbered) -> None:
    found = case.bisect(lambda moment: number_of(moment) % 2 == 1, (numbered.ids[0], numbered.ids[29]), "demo")
    assert number_of(found.first) == number_of(found.last_before) + 1
    assert number_of(found.first) % 2 == 1


# What was planted in the recorded intrusion.


def planted_in(case: Case, step: str) -> tuple[str, str]:
    """The captures before and at a step's alert: it was taken because of it."""
    return case.moment(f"before:alert-{step}").id, case.moment(f"alert-{step}").id


def test_the_file_that_persists(intrusion: Case, truth: dict[str, dict[str, Any]]) -> None:
    found = intrusion.bisect(file_exists(truth["persistence"]["path"]), ("start", "latest"))
    assert (found.last_before.id, found.first.id) == planted_in(intrusion, "persistence")


def test_on_the_disk_alone_it_came_later(intrusion: Case, truth: dict[str, dict[str, Any]]) -> None:
    found = intrusion.bisect(file_exists(truth["persistence"]["path"], source="disk"), ("start", "latest"))
    assert found.last_before.id == planted_in(intrusion, "persistence")[1]


def test_the_back_door(intrusion: Case, truth: dict[str, dict[str, Any]]) -> None:
    by_name = intrusion.bisect(process_runs("nc"), ("start", "latest"))
    pid = truth["backdoor"]["pid"]
    by_pid = intrusion.bisect(plugin_reports("linux.pslist", {"PID": pid}), ("start", "latest"))
    port = truth["backdoor"]["port"]
    by_port = intrusion.bisect(
        plugin_reports("linux.sockstat", lambda table: table["Source Port"].astype("string") == str(port)),
        ("start", "latest"),
    )
    for found in (by_name, by_pid, by_port):
        assert (found.last_before.id, found.first.id) == planted_in(intrusion, "backdoor")


def test_a_program_without_a_file_is_known_by_its_path(intrusion: Case, truth: dict[str, dict[str, Any]]) -> None:
    path = truth["dropped_binary"]["path"]
    assert (
        intrusion.bisect(process_runs(path), ("start", "latest")).first.id == planted_in(intrusion, "dropped_binary")[1]
    )


def test_the_opposite_finds_when_something_went(intrusion: Case) -> None:
    came = intrusion.bisect(process_runs("nc"), ("start", "latest")).first
    gone = ~process_runs("nc")
    assert (gone(came), gone(intrusion.moment("start"))) == (False, True)
    assert gone.words == "not: a process nc runs"


def test_a_part_of_an_answer_is_no_absence(intrusion: Case) -> None:
    whole = intrusion.moment("latest").processes()

    class Torn:
        def processes(self) -> Any:
            part = whole[whole["name"] != "nc"].copy()
            part.attrs = {"partial": True, "error": "broke off", "plugin": "workbench.processes"}
            return part

    assert process_runs("init")(Torn())
    with pytest.raises(AnalysisError, match="broke off"):
        process_runs("nc")(Torn())


def test_a_column_that_is_not_there_is_said(intrusion: Case) -> None:
    with pytest.raises(UsageError, match="no such column"):
        intrusion.bisect(plugin_reports("linux.pslist", {"NAME": "nc"}), ("start", "latest"))


# From the command line.


def test_the_verb(intrusion: Case, truth: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bisect", "--case", str(intrusion.path), "--from", "start", "--to", "latest"]
    assert main([*words, "--json", "--file", truth["persistence"]["path"]]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["last_before"], told["first"]) == planted_in(intrusion, "persistence")
    assert [each["answer"] for each in told["evaluations"][:2]] == [False, True]
    assert main([*words, "--plugin", "linux.pslist", "--where", "COMM=nc"]) == 0
    assert planted_in(intrusion, "backdoor")[1][:12] in capsys.readouterr().out
    assert main([*words, "--process", "init"]) == 2
    assert "holds already" in capsys.readouterr().err


def test_the_verb_on_a_terminal(intrusion: Case) -> None:
    code, drawn = on_a_terminal("bisect", "--case", intrusion.path, "--from", "start", "--process", "nc", columns=120)
    assert code == 0
    assert planted_in(intrusion, "backdoor")[1][:12] in drawn
