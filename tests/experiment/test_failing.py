"""What fails, hangs or dies in an experiment is a row of it, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest
from experimenting import assert_nothing_left

from workbench.case import Clone, Moment
from workbench.errors import UsageError
from workbench.experiment.result import Experiment

pytestmark = pytest.mark.guest

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def bad(exp_moment: Moment) -> Experiment:
    """A control that works, and what can go wrong at once."""

    def raising(_clone: Any) -> None:
        raise RuntimeError(EVIL)

    variants: dict[str, Any] = {
        "control": {"/root/answer": b"3\n"},
        "raises": raising,
        "lies": {"/root/answer": f"3\n{EVIL}\x1b]0;owned\x07\n".encode()},
    }
    return exp_moment.case.experiment(
        exp_moment,
        variants,
        repeats=1,
        measure={"answer": "cat /root/answer", "one": "echo 1"},
        timeout=240,
        at_once=3,
        keep="none",
        save=False,
    )


def test_what_fails_is_a_result_with_its_words(bad: Experiment, exp_moment: Moment) -> None:
    runs = bad.runs.set_index("variant")
    assert runs.loc["control", "outcome"] == "ok", runs.loc["control", "error"]
    assert list(runs.loc["raises", ["outcome", "step"]]) == ["failed", "variant"]
    assert f"RuntimeError: {EVIL}" in runs.loc["raises", "error"]
    assert_nothing_left(exp_moment.case)


def test_a_measure_that_prints_hostile_text_is_no_number_and_spoils_no_other(bad: Experiment) -> None:
    run = bad.runs.set_index("variant").loc["lies"]
    assert list(run[["outcome", "step", "one"]]) == ["failed", "measure answer", 1]
    assert EVIL in run["error"]
    assert "\x1b" not in run["error"]
    summary = bad.summary().set_index(["measure", "variant"])
    assert list(summary.loc[("answer", "lies"), ["n", "failed"]]) == [0, 1]
    assert list(summary.loc[("answer", "raises"), ["n", "failed"]]) == [0, 1]


def test_without_captures_it_says_so(bad: Experiment) -> None:
    with pytest.raises(UsageError, match="was captured"):
        bad.files("control")
    with pytest.raises(UsageError, match="no capture"):
        bad.moment("control", 1)
    with pytest.raises(UsageError, match="no variant"):
        bad.files("nobody")
    assert bad.id == ""


@pytest.fixture(scope="module")
def late(exp_moment: Moment) -> Experiment:
    """A command and a callable that do not end."""

    def deaf(_clone: Clone) -> None:
        time.sleep(1000)  # never asks its clone anything, so nothing tells it to end

    return exp_moment.case.experiment(
        exp_moment,
        {"hangs": "sleep 1000", "deaf": deaf},
        repeats=1,
        workload="echo work",
        measure={"one": "echo 1"},
        timeout=20,
        at_once=2,
    )


def test_what_hangs_is_a_result_and_can_be_looked_at(late: Experiment, exp_moment: Moment) -> None:
    runs = late.runs.set_index("variant")
    assert list(runs.loc["hangs", ["outcome", "step"]]) == ["hung", "variant"]
    assert list(runs.loc["deaf", ["outcome", "step"]]) == ["hung", "variant"]
    assert late.moment("hangs", 1).read_text("/root/work").startswith("#!/bin/sh")
    assert late.summary().empty
    assert_nothing_left(exp_moment.case)


def test_a_clone_that_dies_in_the_middle_is_a_failed_run(exp_moment: Moment) -> None:
    case = exp_moment.case
    found = case.experiment(
        exp_moment,
        {"dies": lambda clone: os.kill(clone.guest.pid, signal.SIGKILL)},
        repeats=1,
        workload="echo work",
        measure={"one": "echo 1"},
        timeout=240,
    )
    [run] = found.runs.to_dict("records")
    assert (run["outcome"], run["step"], run["after"]) == ("failed", "workload", "")
    assert "workload: " in run["error"]
    assert "capturing: " in run["error"]
    assert case.open_experiment(found.id).document == found.document
    with pytest.raises(UsageError, match="was captured"):
        found.files("dies")
    assert_nothing_left(case)


def test_ctrl_c_ends_all_clones(exp_moment: Moment) -> None:
    reached = threading.Event()

    def interrupt(_clone: Any) -> None:
        if not reached.is_set():
            reached.set()
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1000)

    with pytest.raises(KeyboardInterrupt):
        exp_moment.case.experiment(
            exp_moment, {"a": None, "b": None}, repeats=2, workload=interrupt, at_once=2, keep="none"
        )
    assert reached.is_set()
    assert_nothing_left(exp_moment.case)
