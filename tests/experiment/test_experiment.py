"""A against B in real clones: what was planted is found, what fails or hangs is a result, and nothing is left over."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from workbench.case import Case, Moment
from workbench.errors import UsageError
from workbench.experiment.result import Experiment

pytestmark = pytest.mark.guest

EVIL = "<img src=x onerror=alert(1)>"
SLOW = "echo 20 >/root/lines; echo planted >/etc/planted; sync"


def assert_nothing_left(case: Case) -> None:
    names = {guest.name for guest in case.hypervisor.guests()}
    assert case.clones() == []
    assert not [name for name in names if name.startswith(f"{case.guests()[0].name}-clone-")]
    clones = case.path / "clones"
    assert [path for path in clones.glob("*") if path.is_dir()] == []


@pytest.fixture(scope="module")
def done(exp_moment: Moment) -> Experiment:
    """Two variants, three runs each: B does twice as many lines, and changes a file that the control does not."""
    return exp_moment.case.experiment(
        exp_moment,
        {"control": None, "B": SLOW},
        repeats=3,
        workload="/root/work",
        until="work is [d]one",
        measure={"lines": "wc -l </root/done", "noise": lambda clone: {"same": 7, "name": clone.name}},
        timeout=120,
        at_once=2,
        seed=5,
    )


def test_b_truly_differs_and_the_table_says_what_three_runs_allow(done: Experiment) -> None:
    assert list(done.runs["outcome"]) == ["ok"] * 6, list(done.runs["error"])
    told = done.summary().set_index(["measure", "variant"])
    assert told.loc[("lines", "control"), "median"] == 10
    other = told.loc[("lines", "B")]
    assert (other["n"], other["median"], other["difference"], other["cliffs_delta"]) == (3, 20, 10, 1)
    assert other["p"] == pytest.approx(0.1)
    assert other["smallest_p"] == pytest.approx(0.1)
    assert other["p_holm"] == pytest.approx(0.2)  # two measures were tested
    assert told.loc[("noise.same", "B"), "p"] == 1
    assert len(set(done.runs["noise.name"])) == 6  # six clones


def test_runs_are_in_the_order_that_the_seed_drew(done: Experiment) -> None:
    assert list(done.runs["position"]) == [1, 2, 3, 4, 5, 6]
    assert [set(done.runs["variant"][block : block + 2]) for block in (0, 2, 4)] == [{"control", "B"}] * 3
    assert (done.runs["seconds"] > 0).all()


def test_files_say_what_all_runs_did_and_what_the_control_did_too(done: Experiment) -> None:
    files = done.files("B").set_index("path")
    assert list(files.loc["/etc/planted", ["change", "runs", "of", "always", "control"]]) == ["created", 3, 3, True, 0]
    assert list(files.loc["/root/done", ["change", "runs", "control"]]) == ["created", 3, 3]
    assert "/etc/planted" not in set(done.files("control")["path"])
    assert files.index.name == "path"
    assert done.moment("B", 1).read_text("/root/done") == "line\n" * 20


def test_a_runs_clone_began_as_the_moment(done: Experiment, exp_moment: Moment) -> None:
    before = done.moment("B", 2, "before")
    theirs, ours = ({each.spec.name: each.digest for each in one.record.regions} for one in (exp_moment, before))
    assert theirs["disk:vda"] == ours["disk:vda"]
    assert theirs["pc.ram"] == ours["pc.ram"]


def test_every_analysis_works_on_the_variants(done: Experiment) -> None:
    assert {"owner", "run 1", "run 2", "run 3", "median"} == set(done.pages("B").columns)
    assert done.pages("B")["median"].sum() > 0
    assert {"name", "change", "runs", "always", "control"} <= set(done.processes("B").columns)
    assert "line" in done.kernel_log("B").columns
    assert done.console("B", 3).rstrip().endswith("work is done")


def test_it_is_kept_in_the_case_and_found_again(done: Experiment, exp_moment: Moment) -> None:
    case = exp_moment.case
    assert list(case.experiments()["id"]) == [done.id]
    assert case.open_experiment(done.id[:8]).document == done.document
    assert done.document.moment == exp_moment.id
    assert {"qemu", "libvirt", "python", "rewind-workbench"} <= set(done.document.versions)
    assert_nothing_left(case)


@pytest.fixture(scope="module")
def bad(exp_moment: Moment) -> Experiment:
    """A control that works, and what can go wrong, once each."""

    def raising(_clone: Any) -> None:
        raise RuntimeError(EVIL)

    def deaf(_clone: Any) -> None:
        time.sleep(1000)  # never asks its clone anything, so nothing tells it to end

    variants: dict[str, Any] = {
        "control": {"/root/answer": b"3\n"},
        "fails": f"echo '{EVIL}' >&2; exit 3",
        "hangs": "sleep 1000",
        "deaf": deaf,
        "raises": raising,
        "lies": {"/root/answer": f"3\n{EVIL}\x1b]0;owned\x07\n".encode()},
        "off": "poweroff -f; sleep 20",
    }
    return exp_moment.case.experiment(
        exp_moment,
        variants,
        repeats=1,
        measure={"answer": "cat /root/answer", "one": "echo 1"},
        timeout=12,
        at_once=2,
        keep="none",
        save=False,
    )


def test_what_fails_or_hangs_is_a_result_with_its_words(bad: Experiment, exp_moment: Moment) -> None:
    runs = bad.runs.set_index("variant")
    assert runs.loc["control", "outcome"] == "ok", runs.loc["control", "error"]
    assert list(runs.loc["fails", ["outcome", "step"]]) == ["failed", "variant"]
    assert f"exit code 3: {EVIL}" in runs.loc["fails", "error"]
    assert list(runs.loc["hangs", ["outcome", "step"]]) == ["hung", "variant"]
    assert list(runs.loc["deaf", ["outcome", "step"]]) == ["hung", "variant"]
    assert list(runs.loc["raises", ["outcome", "step"]]) == ["failed", "variant"]
    assert f"RuntimeError: {EVIL}" in runs.loc["raises", "error"]
    assert runs.loc["off", "outcome"] in ("failed", "hung")
    assert_nothing_left(exp_moment.case)


def test_a_measure_that_prints_hostile_text_is_no_number_and_spoils_no_other(bad: Experiment) -> None:
    run = bad.runs.set_index("variant").loc["lies"]
    assert list(run[["outcome", "step", "one"]]) == ["failed", "measure answer", 1]
    assert EVIL in run["error"]
    assert "\x1b" not in run["error"]
    summary = bad.summary().set_index(["measure", "variant"])
    assert list(summary.loc[("answer", "lies"), ["n", "failed"]]) == [0, 1]
    assert list(summary.loc[("answer", "hangs"), ["n", "hung"]]) == [0, 1]


def test_without_captures_it_says_so(bad: Experiment) -> None:
    with pytest.raises(UsageError, match="was captured"):
        bad.files("control")
    with pytest.raises(UsageError, match="no capture"):
        bad.moment("control", 1)
    with pytest.raises(UsageError, match="no variant"):
        bad.files("nobody")
    assert bad.id == ""


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


@pytest.mark.parametrize(
    "asked",
    [
        {"variants": {}},
        {"variants": {"<b>": None}},
        {"variants": {"a": 3}},
        {"repeats": 0},
        {"timeout": 0},
        {"keep": "everything"},
        {"control": "nobody"},
        {"at_once": 0},
        {"measure": {"seconds": "echo 1"}},
        {"measure": {"outcome": "echo 1"}},
        {"clone_options": {"run": True}},
    ],
)
def test_what_cannot_be_meant_starts_no_clone(exp_moment: Moment, asked: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"variants": {"control": None}, "repeats": 1} | asked
    with pytest.raises(UsageError):
        exp_moment.case.experiment(exp_moment, wanted.pop("variants"), **wanted)
    assert not list((exp_moment.case.path / "clones").glob("*/clone.json"))
