"""`workbench vol`, `lifelines`, `yara`, `symbols`: answers, exit codes, and cures, on the recorded intrusion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.demo import DemoImage

from .conftest import Recorded


def workbench(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WORKBENCH_")}
    command = [sys.executable, "-m", "workbench.cli", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, timeout=600, check=False
    )


def document(*words: object) -> Any:
    done = workbench(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_moment_is_asked_by_name_and_arguments(recorded: Recorded) -> None:
    pid = recorded.truth["backdoor"]["pid"]
    answer = document("vol", "backdoor", "linux.pslist", f"pid={pid},1", "--case", recorded.case.path)
    assert {row["PID"] for row in answer["rows"]} == {1, pid}
    assert answer["plugin"] == "linux.pslist.PsList"
    assert answer["arguments"] == {"pid": [pid, 1]}
    shown = workbench("vol", "backdoor", "workbench.processes", "--case", recorded.case.path).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith(f"{pid} "))
    assert "nc -ll -p 4444" in line
    assert "0xffff" in line


def test_plugins_are_listed_with_what_they_take(recorded: Recorded) -> None:
    rows = document("vol", "--list", "--case", recorded.case.path)["rows"]
    (pslist,) = (row for row in rows if row["plugin"] == "linux.pslist.PsList")
    assert "pid:" in pslist["arguments"]
    assert len(rows) > 40


def test_an_answer_that_broke_off_is_shown_and_exits_8(recorded: Recorded) -> None:
    done = workbench("vol", "clean", "linux.vmayarascan.VmaYaraScan", "--case", recorded.case.path)
    assert done.returncode == 8
    assert "broke off" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("vol", "clean"), 2, "a moment and a plugin"),
        (("vol", "clean", "linux.psl"), 2, "linux.pslist.PsList"),
        (("vol", "clean", "linux.pslist", "pid"), 2, "NAME=VALUE"),
        (("vol", "clean", "linux.pslist", "colour=red"), 2, "takes"),
        (("vol", "clean", "linux.pslist", "--symbols", "/nowhere.json"), 2, "symbol table"),
        (("vol", "nonsense", "linux.pslist"), 2, "nonsense"),
        (("vol", "clean", "linux.kallsyms", "--timeout", "0.1"), 8, "did not end"),
        (("lifelines", "colours"), 2, "colours"),
        (("lifelines", "processes", "--since", "nonsense"), 2, "nonsense"),
        (("yara", "/nowhere.yar"), 2, "/nowhere.yar"),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(recorded: Recorded, words: tuple[str, ...], code: int, said: str) -> None:
    done = workbench(*words, "--case", recorded.case.path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_lifelines_of_what_came(recorded: Recorded) -> None:
    answer = document("lifelines", "sockets", "--came", "--case", recorded.case.path)
    assert [row["Source Port"] for row in answer["rows"] if row["State"] == "LISTEN"] == ["4444"]
    shown = workbench("lifelines", "sockets", "--came", "--case", recorded.case.path).stdout
    assert "4444" in shown
    assert "first_seen" in shown


def test_rules_mark_the_timeline(recorded: Recorded, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a.yar").write_text('rule from_the_command_line { strings: $a = "/tmp/.hidden/" condition: $a }')
    found = document("yara", rules, "--case", recorded.case.path)["rows"]
    assert {row["rule"] for row in found} == {"from_the_command_line"}
    timeline = workbench("timeline", "--case", recorded.case.path).stdout
    (line,) = (line for line in timeline.splitlines() if "yara-from_the_command_line" in line)
    assert recorded.capture("dropped_binary")[:12] in line


def test_symbols_are_shown_and_made(recorded: Recorded, demo_image: DemoImage, tmp_path: Path) -> None:
    (row,) = document("symbols", "show", "clean", "--case", recorded.case.path)["rows"]
    assert Path(row["symbols"]).is_file()
    made = tmp_path / "kernel.json"
    assert document("symbols", "build", demo_image.kernel, "-o", made)["symbols"] == str(made)
    assert made.read_bytes() == Path(row["symbols"]).read_bytes()
    done = workbench("symbols", "build", "/etc/hostname")
    assert done.returncode == 8
    assert "vmlinuz" in done.stderr
