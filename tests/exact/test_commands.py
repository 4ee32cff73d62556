"""`workbench record` and `workbench replay`: the real commands, on a machine that they boot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from exactly import PLANTED

from workbench.case import Case, ExactRecording
from workbench.demo import DemoImage


def workbench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command; its exit code is the caller's to look at."""
    return subprocess.run(
        [sys.executable, "-m", "workbench.cli", *map(str, words)],
        capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_what_record_kept_replay_runs_again(tmp_path: Path, demo_image: DemoImage) -> None:
    case = tmp_path / "case"
    done = workbench(
        "record", "--case", case, "--kernel", demo_image.kernel, "--memory", "64", "--seconds", "1", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    done = workbench("replay", told["id"][:6], "--case", case, "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["same"] is True
    assert (again["icount"], again["ram_digest"]) == (told["instructions"], told["ram_digest"])
    listed = json.loads(workbench("replay", "--list", "--case", case, "--json").stdout)["rows"]
    assert [(each["id"], each["instructions"]) for each in listed] == [(told["id"], told["instructions"])]


def test_a_hung_replay_has_an_exit_code_of_its_own(case: Case, boot: ExactRecording) -> None:
    done = workbench("replay", boot.id, "--case", case.path, "--timeout", "0.2")
    assert done.returncode == 4
    assert "It hung at instruction" in done.stdout


def test_a_capture_is_one_command_and_a_last_write_another(case: Case, work: ExactRecording) -> None:
    here = work.description.begins
    done = workbench("replay", work.id, "--case", case.path, "--until", str(here), "--capture")
    assert done.returncode == 0, done.stderr
    assert "Captured: " in done.stdout
    done = workbench("replay", work.id, "--case", case.path, "--last-write-of", PLANTED, "--until", str(here + 1000))
    assert done.returncode == 2
    assert "the same from the beginning" in done.stderr


@pytest.mark.parametrize("words", [("--", "-nic", "user"), ("--", "-enable-kvm")])
def test_an_option_in_the_way_is_named(tmp_path: Path, demo_image: DemoImage, words: tuple[str, ...]) -> None:
    done = workbench("record", "--case", tmp_path / "case", "--kernel", demo_image.kernel, *words)
    assert done.returncode == 3
    assert f"{words[1]} is in the way" in done.stderr
