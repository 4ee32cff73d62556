"""The bench as a program: quick runs of its cheap figures, and the document it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workbench.bench.__main__ import FIGURES, main

pytestmark = pytest.mark.guest


def run_bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.bench", "--quick", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)


def document(*words: str) -> dict[str, Any]:
    done = run_bench(*words, "--json", "-")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_document_holds_host_versions_samples_and_what_was_derived() -> None:
    told = document("--only", "history,memory")
    assert told["failed"] == {}
    assert {"time", "cores", "cpu", "load", "load_after", "kernel", "accelerator", "versions"} <= told["host"].keys()
    assert {"python", "libvirt", "qemu", "restic", "borg", "zstd"} <= told["host"]["versions"].keys()
    assert [figure["name"] for figure in told["figures"]] == [
        "one of 300 captures, one page",
        "one of 300 captures, one page, fresh process",
        "memory beyond the guest's RAM",
    ]
    for figure in told["figures"]:
        assert {
            "name",
            "unit",
            "reach",
            "samples",
            "how",
            "peers",
            "note",
            "median",
            "p95",
            "met",
            "settled",
        } <= figure.keys()
        assert len(figure["samples"]) >= 1


def test_a_pause_stands_beside_its_peers() -> None:
    (figure,) = document("--only", "dirty")["figures"]
    assert [peer["name"] for peer in figure["peers"]] == [
        "virsh snapshot-create-as",
        "virsh save",
        "virsh save, restore",
    ]
    for peer in figure["peers"]:
        assert peer["samples"], peer["how"]
        assert min(peer["samples"]) > 0
    assert min(figure["samples"]) > 0


def test_files_are_written_where_asked(tmp_path: Path) -> None:
    done = run_bench("--only", "history", "--json", tmp_path / "b.json", "--markdown", tmp_path / "b.md")
    assert done.returncode == 0, done.stderr
    assert "300 captures" in done.stdout
    assert json.loads((tmp_path / "b.json").read_text())["host"]["quick"] is True
    assert (tmp_path / "b.md").read_text().startswith("| figure |")


def test_a_figure_that_is_not_there_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "history,speed"])
    told = capsys.readouterr().err
    assert "speed" in told
    assert all(name in told for name in FIGURES)


def test_a_service_is_asked_triggered_polled_and_pruned_while_it_records() -> None:
    told = document("--only", "service")
    assert told["failed"] == {}
    figures = {figure["name"]: figure for figure in told["figures"]}
    assert list(figures) == [
        "status of a service",
        "alert until its capture can be read",
        "a guest's own mark until its capture's instant",
        "pause while 50 clients ask for status",
        "bytes told freed by a prune, of which still there",
        "longest pause while a prune runs",
    ]
    assert all(min(figure["samples"]) > 0 for name, figure in figures.items() if "still there" not in name)
    assert figures["pause while 50 clients ask for status"]["peers"][0]["samples"]
