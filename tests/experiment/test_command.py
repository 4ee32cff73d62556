"""`workbench experiment` on a real guest: what it prints, its JSON, its report; and words that cost no clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from experimenting import assert_nothing_left

from workbench.case import Moment


def experiment(moment: Moment, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command on the case of a moment."""
    told = {key: value for key, value in os.environ.items() if not key.startswith("WORKBENCH_")}
    command = [sys.executable, "-m", "workbench.cli", "experiment", f"id:{moment.id}", "--case", str(moment.case.path)]
    words = ("--guest", moment.guest.name, *words)
    return subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, env=told, timeout=280, check=False
    )


def nothing_but_json(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.guest
def test_a_script_is_a_variant_and_its_failure_is_told(exp_moment: Moment, tmp_path: Path) -> None:
    script, report = tmp_path / "b.sh", tmp_path / "ab.html"
    script.write_text("echo 'no <b>good</b>' >&2; exit 4\n")
    words = ("--variant", f"b={script}", "--measure", "one=echo 1", "--repeats", "1", "--keep", "none", "--seed", "3")
    done = experiment(exp_moment, *words, "--at-once", "2", "--json", "-o", report)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout, parse_constant=nothing_but_json)
    runs = {run["variant"]: run for run in told["runs"]}
    assert (runs["control"]["outcome"], runs["control"]["one"], told["seed"]) == ("ok", 1, 3)
    assert (runs["b"]["outcome"], runs["b"]["step"], runs["b"]["one"]) == ("failed", "variant", None)
    assert "exit code 4: no <b>good</b>" in runs["b"]["error"]
    assert "exit code 4: no &lt;b&gt;good&lt;/b&gt;" in report.read_text()
    assert exp_moment.case.open_experiment(told["id"]).seed == 3
    assert_nothing_left(exp_moment.case)


@pytest.mark.guest
def test_a_wrong_word_starts_nothing(exp_moment: Moment, tmp_path: Path) -> None:
    there = tmp_path / "there.html"
    there.touch()
    for words, said in (
        (("--variant", f"b={tmp_path}/none.sh"), "No such file"),
        (("--variant", "<b>"), "plain name"),
        (("-o", str(there)), "there already"),
        (("--network", "bridge"), "invalid choice"),
    ):
        done = experiment(exp_moment, *words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert there.read_text() == ""
    assert list(exp_moment.case.path.glob("clones/*/clone.json")) == []
