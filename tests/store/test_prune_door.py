"""Retention and prune through the one door and on the command line, on a case with no guest behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from casebuilder import START_NS, Built, assert_whole, build_hot_case
from test_prune import forget

from workbench.case import Case
from workbench.cli import main
from workbench.errors import MomentNotFoundError, UsageError

STEP_NS = 2_000_000_000
END_NS = START_NS + 29 * STEP_NS


@pytest.fixture
def hot(tmp_path: Path) -> Built:
    """Thirty captures, one every two seconds."""
    return build_hot_case(tmp_path / "case", 30)


def test_a_case_is_pruned_by_its_retention(hot: Built) -> None:
    with Case(hot.path) as case:
        case.mark("alert", hot.ids[7][:12])
        case.hold(hot.ids[9][:12], "for the report")
        retention = "all for 10s, 20s for 40s"
        chosen = case.retained(retention, now_ns=END_NS)
        plan = case.plan_prune(retention, now_ns=END_NS)
        assert {ref.id for ref in plan.drop} == set(chosen.loc[~chosen["keep"], "capture"])
        done = plan.execute()
        assert done.complete
        forget(hot, [ref.id for ref in plan.drop])
        left = [(END_NS - record.time_ns) // 10**9 for record in hot.records]
        newest = [age for age in left if age <= 10]
        assert newest == [10, 8, 6, 4, 2, 0]
        assert {58, 44, 40} <= set(left)  # the first, the marked, the held
        assert len(left) <= 6 + 3 + 3
        assert list(case.timeline()["id"]) == hot.ids
        with pytest.raises(MomentNotFoundError):
            case.moment(plan.drop[0].id[:12])
        count = len(left) - 1
        assert case.moment(f"{count} captures ago").id == hot.ids[0]
        with pytest.raises(MomentNotFoundError, match=f"has {count + 1} captures"):
            case.moment(f"{count + 1} captures ago")
    assert_whole(hot)


def test_what_was_held_goes_once_it_is_released(hot: Built) -> None:
    with Case(hot.path) as case:
        case.hold(hot.ids[9][:12])
        assert hot.ids[9] not in {ref.id for ref in case.plan_prune("all for 2s", now_ns=END_NS).drop}
        assert [mark.kind for mark in case.release(hot.ids[9][:12])] == ["hold"]
        assert hot.ids[9] in {ref.id for ref in case.plan_prune("all for 2s", now_ns=END_NS).drop}
        with pytest.raises(UsageError, match="is not held"):
            case.release(hot.ids[9][:12])


def test_the_command_plans_and_then_does_it(hot: Built, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", "--case", str(hot.path), "--keep", "all for 10m, at most 50 kB"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "drop      28 captures of 30" in told.out
    assert "first of the guest" in told.out
    assert "The limit cannot be held" in told.out + told.err
    assert_whole(hot)
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["drop"] == hot.ids[1:-1]
    assert plan["over"] > 0
    assert main([*words, "--json", "--execute"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["dropped"], done["complete"]) == (28, True)
    forget(hot, hot.ids[1:-1])
    assert_whole(hot)
    assert main(["prune", "--case", str(hot.path), "--keep", "some"]) == 2
