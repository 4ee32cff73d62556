"""A against B in real clones: what was planted is found, in all runs of the variant and in none of the control."""

from __future__ import annotations

from typing import Any

import pytest
from experimenting import assert_nothing_left

from workbench.case import Moment
from workbench.errors import DamagedError, UsageError
from workbench.experiment.result import Experiment

pytestmark = pytest.mark.guest

PLANTED = """\
echo 20 >/root/lines
echo planted >/etc/planted
printf '#!/bin/sh\\nwhile :; do sleep 100; done\\n' >/root/plantedproc
chmod 755 /root/plantedproc
setsid /root/plantedproc >/dev/null 2>&1 </dev/null &
echo "<b>planted words</b>" >/dev/kmsg
sync
"""


@pytest.fixture(scope="module")
def done(exp_moment: Moment) -> Experiment:
    """Two variants, three runs each: B does twice the work, and leaves a file, a process and words of its kernel."""
    return exp_moment.case.experiment(
        exp_moment,
        {"control": None, "B": PLANTED},
        repeats=3,
        workload="/root/work",
        until="work is [d]one",
        measure={"lines": "wc -l </root/done", "noise": lambda clone: {"same": 7, "name": clone.name}},
        timeout=240,
        at_once=3,
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
    theirs = done.files("control").set_index("path")
    assert "/etc/planted" not in theirs.index
    assert list(theirs.loc["/root/done", ["change", "runs", "control"]]) == ["created", 3, 0]
    assert done.moment("B", 1).read_text("/root/done") == "line\n" * 20


def test_processes_and_words_of_the_kernel_are_those_that_were_planted(done: Experiment) -> None:
    processes = done.processes("B").set_index("name")
    assert list(processes.loc["plantedproc", ["change", "runs", "always", "control"]]) == ["came", 3, True, 0]
    assert "plantedproc" not in set(done.processes("control")["name"])
    said = done.kernel_log("B")
    [line] = said[said["line"].str.contains("planted words")].itertuples()
    assert (line.runs, line.always, line.control) == (3, True, 0)


def test_pages_of_memory_are_counted_by_owner_and_run(done: Experiment) -> None:
    pages = done.pages("B")
    assert list(pages.columns) == ["owner", "run 1", "run 2", "run 3", "median"]
    assert pages["median"].is_monotonic_decreasing
    assert pages["median"].sum() > 0


def test_each_run_can_be_looked_at_as_it_ended(done: Experiment, exp_moment: Moment) -> None:
    assert done.moment("B", 1).read_text("/root/done") == "line\n" * 20
    assert done.moment("B", 1, "before").id == exp_moment.id
    assert "work is done" in done.console("B", 3)
    with pytest.raises(UsageError, match="no capture"):
        done.moment("B", 1, "meanwhile")


def test_it_is_kept_in_the_case_and_found_again(done: Experiment, exp_moment: Moment) -> None:
    case = exp_moment.case
    assert done.id in set(case.experiments()["id"])
    assert case.open_experiment(done.id[:8]).document == done.document
    assert done.document.moment == exp_moment.id
    assert {"qemu", "libvirt", "python", "rewind-workbench"} <= set(done.document.versions)
    assert_nothing_left(case)


@pytest.fixture(scope="module")
def met(exp_moment: Moment) -> Experiment:
    """Two variants that are the same, each sending a word of its own name to all others."""
    return exp_moment.case.experiment(
        exp_moment,
        {"control": None, "again": None},
        repeats=1,
        workload="ip -4 addr show dev eth0; /root/work; ping -c 1 -W 1 10.0.2.2; true",
        measure={"lines": "wc -l </root/done"},
        timeout=240,
        at_once=2,
        keep="none",
        network="shared",
    )


def test_the_same_against_the_same_is_no_difference(met: Experiment) -> None:
    assert list(met.runs["outcome"]) == ["ok"] * 2, list(met.runs["error"])
    row = met.summary().set_index(["measure", "variant"]).loc[("lines", "again")]
    assert (row["n"], row["difference"], row["cliffs_delta"], row["p"]) == (1, 0, 0, 1)


def test_what_clones_of_a_shared_network_sent_is_told_by_variant_and_run(met: Experiment) -> None:
    packets = met.packets()
    asked = packets[(packets["protocol"] == "ARP") & packets["info"].str.startswith("who has 10.0.2.2?")]
    assert set(zip(asked["variant"], asked["repeat"], strict=True)) == {("control", 1), ("again", 1)}
    runs = {(run.variant, run.repeat): run.identity["address"].partition("/")[0] for run in met.document.runs}
    assert {runs[row.variant, row.repeat] for row in asked.itertuples()} == set(asked["source"])
    assert len(set(runs.values())) == 2
    assert set(met.packets("again")["variant"]) == {"again"}
    assert packets["time"].is_monotonic_increasing


def test_packets_that_somebody_changed_are_not_those_of_the_experiment(met: Experiment) -> None:
    segment = met.case.segment(met.document.segment)
    assert not segment.running
    whole = segment.pcap.read_bytes()
    try:
        segment.pcap.write_bytes(whole + whole[24:])
        with pytest.raises(DamagedError, match="packets are not those"):
            met.packets()
    finally:
        segment.pcap.write_bytes(whole)
    assert len(met.case.open_experiment(met.id).packets()) == len(met.packets())


def test_without_a_shared_network_there_are_no_packets(done: Experiment) -> None:
    with pytest.raises(UsageError, match="shared no network"):
        done.packets()


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
        {"seed": -1},
        {"network": "bridge"},
        {"network": "shared", "at_once": 65},
        {"clone_options": {"run": True}},
        {"clone_options": {"network": "shared"}},
    ],
)
def test_what_cannot_be_meant_starts_no_clone(exp_moment: Moment, asked: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"variants": {"control": None}, "repeats": 1} | asked
    with pytest.raises(UsageError):
        exp_moment.case.experiment(exp_moment, wanted.pop("variants"), **wanted)
    assert not list((exp_moment.case.path / "clones").glob("*/clone.json"))
