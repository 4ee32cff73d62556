"""Commands and files of a clone on the command line."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from workbench.case import Case, Clone

pytestmark = pytest.mark.guest


def clone_verb(case: Case, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """What `workbench clone` does with a case."""
    command = [sys.executable, "-m", "workbench.cli", "clone", words[0], "--case", str(case.path), *words[1:]]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)


def test_a_command_passes_on_its_output_its_errors_and_its_exit_code(inside_case: Case, clone: Clone) -> None:
    done = clone_verb(inside_case, "exec", "--stdin", clone.name, "--", "cat; echo bad >&2; exit 9", stdin=b"\x00\xff")
    assert (done.returncode, done.stdout, done.stderr) == (9, b"\x00\xff", b"bad\n")
    until(lambda: clone.run("true").how == "agent", "the agent answers")
    told = json.loads(clone_verb(inside_case, "exec", "--json", clone.name, "--", "printf", "%s", "a b").stdout)
    assert (told["exit_code"], base64.b64decode(told["stdout_base64"])) == (0, b"a b")
    assert told["how"] == "agent"


def test_files_go_both_ways_and_nothing_is_overwritten_here(inside_case: Case, clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content\x00")
    put = clone_verb(inside_case, "put", "--mode", "600", clone.name, str(tmp_path / "source"), "/root/put")
    assert put.returncode == 0, put.stderr
    assert clone.run("stat -c %a /root/put").text == "600\n"
    target = str(tmp_path / "target")
    assert clone_verb(inside_case, "get", clone.name, "/root/put", target).returncode == 0
    assert Path(target).read_bytes() == b"content\x00"
    assert clone_verb(inside_case, "get", clone.name, "/root/put", target).returncode == 2


def test_what_is_no_clone_is_refused(inside_case: Case) -> None:
    done = clone_verb(inside_case, "exec", "nobody", "--", "true")
    assert done.returncode == 2
    assert b"no clone 'nobody'" in done.stderr
