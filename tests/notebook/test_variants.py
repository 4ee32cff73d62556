"""Variants side by side, without a page: measures in words, tabs filled when opened, what cannot be had is said."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from small import HOSTILE, Forked, experiment_in, inert, kept_experiment

from workbench.case import Case
from workbench.errors import UsageError
from workbench.notebook.measures import Measures, measures_of
from workbench.notebook.variants import Variants

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion"
SOON = 120.0


@pytest.fixture(scope="module")
def intrusion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    path = tmp_path_factory.mktemp("variants") / "case"
    shutil.copytree(DATASET / "case", path, ignore=shutil.ignore_patterns("cache"))
    with Case(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def shown(intrusion: Case) -> Variants:
    """As if the recorded guest's clones had been left alone (control) and broken into (B)."""
    begin, end = (intrusion.moment(each) for each in ("start", "latest"))
    alone = next(each for each in intrusion.moments() if each.record.depth == 3)
    document = kept_experiment("planted", begin.id, (alone.id, end.id), begin.guest.id)
    return Variants(experiment_in(intrusion, document))


def side(shown: Variants, name: str) -> dict[str, Any]:
    shown.turn_to(name)
    assert shown.wait(SOON)
    assert shown.work.error == ""
    return {variant: table.frame for variant, table in shown.sides[name].tables.items()}


def test_the_control_comes_first_and_each_run_has_its_value(case: Case) -> None:
    (panel,) = measures_of(experiment_in(case, kept_experiment()))
    assert [row["name"] for row in panel["rows"]] == ["control", "B"]
    assert (panel["name"], panel["least"], panel["most"]) == ("load", 1.0, 9.0)
    control, other = panel["rows"]
    assert (control["median"], control["q1"], control["q3"], control["counts"]) == (2.0, 1.5, 2.5, "3 values")
    assert [(run["position"], run["value"]) for run in other["runs"]] == [(2, 9.0), (4, None), (6, None)]
    assert other["counts"] == "1 value, 1 failed, 1 hung"
    assert "run 2 of B: no value, failed: measure load: planted" in other["runs"][1]["words"]


def test_the_test_is_said_as_a_sentence_with_what_it_cannot_show(case: Case) -> None:
    (panel,) = measures_of(experiment_in(case, kept_experiment()))
    assert panel["rows"][0]["words"] == "This is the control."
    words = panel["rows"][1]["words"]
    assert "The median is 7 higher than that of control; shift 7, Cliff's delta 1." in words
    assert "so few values can give none below 0.5." in words


def test_files_that_were_planted_stand_beside_those_of_the_control(shown: Variants) -> None:
    truth = {each["what"]: each for each in json.loads((DATASET / "truth.json").read_text())}
    found = side(shown, "files")
    assert list(found) == ["control", "B"]
    planted = {truth[each]["path"] for each in ("new_user", "persistence", "wiped_log")}
    assert planted <= set(found["B"]["path"])
    assert not planted & set(found["control"]["path"])
    assert {"runs", "of", "always", "control"} <= set(found["B"].columns)


def test_a_tab_is_asked_when_it_is_opened_and_once(shown: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not shown.sides["kernel log"].filled
    asked: list[str] = []
    monkeypatch.setattr(type(shown.experiment), "processes", lambda self, variant: asked.append(variant) or self.runs)
    side(shown, "processes")
    side(shown, "processes")
    assert asked == ["control", "B"]


def test_a_chosen_run_is_chosen_everywhere_and_leads_to_its_diff(shown: Variants) -> None:
    shown.runs.selected = 1
    assert (shown.selected, shown.measures.selected) == (2, 2)
    assert (shown.run["variant"], shown.run["repeat"]) == ("B", 1)
    assert shown.diff.b.id == shown.experiment.case.moment("latest").id
    shown.measures.selected = 3
    assert (shown.selected, shown.runs.selected) == (3, 2)
    shown.measures.selected = 99
    assert (shown.selected, shown.run) == (0, None)
    with pytest.raises(UsageError, match="no run is chosen"):
        _ = shown.diff


def test_what_was_not_captured_is_said_in_each_table_and_the_console_is_there(case: Case) -> None:
    without = Variants(experiment_in(case, kept_experiment()))
    without.turn_to("files")
    assert without.wait(SOON)
    assert all("keep='captures'" in table.said for table in without.sides["files"].tables.values())
    found = side(without, "console")["B"]
    assert found.loc[found["run"] == 2, "line"].tolist() == ["line 1", "planted"]
    with pytest.raises(UsageError, match="no tab"):
        without.turn_to("pages")


def test_without_any_number_it_says_so(case: Case) -> None:
    none = replace(kept_experiment(), runs=tuple(run for run in kept_experiment().runs if run.outcome == "hung"))
    assert Measures(experiment_in(case, none)).untold == "No run gave a number."
    assert "No run gave a number." in Variants(experiment_in(case, none)).still()


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_guest_says_is_inert_in_traits_and_still(tmp_path: Path, name: str) -> None:
    with Case(Forked(tmp_path / "case").build(name).path) as case:
        hostile = Variants(experiment_in(case, kept_experiment(name)))
        side(hostile, "console")
        told = [json.dumps(hostile.measures.panels, ensure_ascii=False), repr(hostile), hostile.still()]
        for text in told:
            assert inert(text)
        assert "<img src=x" not in hostile.still()
        assert "<script" not in hostile.still()
