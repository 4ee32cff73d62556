"""Trials on the command line: begun in one process, kept or undone in another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trying import seen

from workbench.case import Case
from workbench.demo import DemoGuest

pytestmark = pytest.mark.guest


def trial(case: Case, *words: str) -> tuple[int, Any]:
    """What `workbench trial` answers, and with which exit code."""
    command = [sys.executable, "-m", "workbench.cli", "trial", words[0], "--json", "--case", str(case.path), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def test_a_trial_outlives_its_command_and_ends_with_another(case: Case, tried: DemoGuest, tmp_path: Path) -> None:
    (tmp_path / "change.sh").write_text("echo changed >/root/planted; sync\n")
    words = ("start", "then", "--script", str(tmp_path / "change.sh"), "--commit-within", "900", "--probe-cmd", "true")
    code, begun = trial(case, *words, "--confirm", tried.name)
    assert (code, begun["state"]) == (0, "open")
    assert seen(tried) == ["then", "changed"]
    code, (listed,) = trial(case, "status")
    assert (code, listed["state"], listed["watched"]) == (0, "open", True)
    code, ended = trial(case, "undo")
    assert (code, ended["state"]) == (0, "undone")
    assert seen(tried) == ["now"]

    code, again = trial(case, *words, "--confirm", tried.name)
    assert code == 0, again
    assert trial(case, "commit", again["id"])[1]["state"] == "committed"
    assert seen(tried) == ["then", "changed"]
    assert trial(case, "undo")[0] == 2
