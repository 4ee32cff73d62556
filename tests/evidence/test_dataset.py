"""The dataset is whole, small, opens where it lies, and what the workbench finds in it is what was planted."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recorded import DATASET

from workbench.case import Case
from workbench.demo.story import BEFORE
from workbench.demo.traces import RULES
from workbench.inquiry.keeping import cache_of

Truth = dict[str, dict[str, Any]]
LARGEST = 25_000_000


def files() -> list[Path]:
    """The dataset's files; what an analysis kept does not belong to it."""
    kept, found = {DATASET / "case" / name for name in ("cache", "tmp")}, []
    for where, folders, names in os.walk(DATASET):
        folders[:] = [each for each in folders if Path(where, each) not in kept]  # where others come and go
        found += [Path(where, each) for each in names]
    return sorted(found)


def test_it_is_whole_and_small() -> None:
    listed = dict(line.split("  ")[::-1] for line in (DATASET / "SHA256SUMS").read_text().splitlines())
    found = {str(path.relative_to(DATASET)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files()}
    assert sum(path.stat().st_size for path in files()) <= LARGEST
    del found["SHA256SUMS"]
    assert found == listed


def test_the_case_is_whole(case: Case) -> None:
    assert case.check() == []


def test_every_step_has_its_capture(case: Case, truth: Truth) -> None:
    steps = [what for what in truth if what != "load"]
    marks = {mark.name: mark for mark in case.marks()}
    assert len(steps) == 6
    for step in steps:
        mark = marks[f"alert-{step}"]
        assert mark.capture == case.moment(mark.name).id
        assert case.moment(mark.name).time.timestamp() == pytest.approx(truth[step]["t"], abs=3)


def test_the_intruder_is_found_in_memory(case: Case, truth: Truth) -> None:
    planted = truth["dropped_binary"]
    finding = case.moment("alert-dropped_binary").vol("workbench.deleted_binaries")
    assert finding["pid"].tolist() == [planted["pid"]]
    assert finding["subject"].tolist() == [planted["path"]]
    assert case.moment("before:alert-dropped_binary").vol("workbench.deleted_binaries").empty


def test_the_backdoor_listens_in_memory(case: Case, truth: Truth) -> None:
    sockets = case.diff(BEFORE, "latest").vol("linux.sockstat.Sockstat")
    came = sockets[(sockets["change"] == "came") & (sockets["State"] == "LISTEN")]
    assert came["PID"].tolist() == [truth["backdoor"]["pid"]]
    assert came["Source Port"].tolist() == [str(truth["backdoor"]["port"])]


def test_the_changed_files_are_those_that_were_changed(case: Case, truth: Truth) -> None:
    changed = set(case.diff(BEFORE, "latest").files()["path"])
    planted = {truth[step]["path"] for step in ("break_in", "new_user", "persistence", "wiped_log")}
    noise = ("/var/tmp/load-shell", "/var/log/truth.jsonl", "/var/log/messages")
    assert planted <= changed
    beside = {path for path in changed - planted if not path.startswith(noise)}
    assert {path for path in beside if path.startswith("/etc/")} == {"/etc/shadow"}
    assert f"+{truth['new_user']['user']}:x:0:0:" in case.diff(BEFORE, "latest").text("/etc/passwd")


def test_the_wiped_log_is_there_in_the_capture_before(case: Case, truth: Truth) -> None:
    assert case.moment("alert-wiped_log").read_text("/var/log/auth.log") == ""
    before = case.moment("before:alert-wiped_log").read_text("/var/log/auth.log")
    assert truth["break_in"]["address"] in before
    assert len(before) == truth["wiped_log"]["bytes"]


def test_yara_finds_the_mark_in_the_page_of_its_process(case: Case, truth: Truth) -> None:
    hits = case.yara(RULES, BEFORE, "alert-dropped_binary", mark=False)
    first = case.moment("alert-dropped_binary")
    assert truth["dropped_binary"]["pid"] in hits["pid"].dropna().tolist()
    assert set(hits["capture"]) == {first.id}


READS = """
import sys
from workbench.case import Case
with Case(sys.argv[1]) as case:
    print(case.moment("alert-dropped_binary").vol("workbench.deleted_binaries")["pid"].tolist())
    print(len(case.diff("before:alert-break_in", "latest").files()) > 0)
    print(case.analyst.cache)
"""


def test_a_case_that_cannot_be_written_is_analysed_all_the_same(public_directory: Path, truth: Truth) -> None:
    place, cache = public_directory / "case", public_directory / "cache"
    shutil.copytree(DATASET / "case", place, ignore=shutil.ignore_patterns("cache", "tmp"))
    cache.mkdir()
    nobody = 65534 if os.geteuid() == 0 else os.geteuid()  # root may write whatever the permissions say
    if nobody != os.geteuid():
        os.chown(cache, nobody, nobody)
    for path in [place, *place.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(path for path in place.rglob("*"))
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READS, place],
        capture_output=True,
        text=True,
        env=environment,
        user=nobody,
        cwd=public_directory,
        timeout=800,
        check=False,
    )
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.stdout.splitlines()[:2] == [str([truth["dropped_binary"]["pid"]]), "True"], done.stderr
    assert Path(done.stdout.splitlines()[2]).is_relative_to(cache)
    assert sorted(path for path in place.rglob("*")) == before


def test_what_is_kept_goes_to_the_case_where_it_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_of(tmp_path) == tmp_path / "cache"
    monkeypatch.setattr(os, "access", lambda *_: False)
    one, other = cache_of(tmp_path / "one"), cache_of(tmp_path / "other")
    assert one.is_relative_to(tmp_path / "mine")
    assert one != other
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "named"))
    assert cache_of(tmp_path / "one") == tmp_path / "named"
