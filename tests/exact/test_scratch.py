"""A killed process leaves its directory; the next sweep takes it away, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workbench.replay.exact.scratch import Scratch, sweep_scratch

HOLD = """
import sys
from workbench.replay.exact.scratch import Scratch
made = Scratch()
(made.path / "log").write_text("content")
print(made.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def hold() -> tuple[subprocess.Popen[str], Path]:
    """Start a process that has one."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_has_is_not() -> None:
    killed, left = hold()
    living, kept = hold()
    assert (left / "log").exists()
    killed.kill()
    killed.communicate()
    with Scratch() as made:
        sweep_scratch()
        assert not left.exists()
        assert (kept / "log").exists()
        assert made.path.is_dir()
    assert not made.path.exists()
    living.communicate("")
    sweep_scratch()
    assert not kept.exists()


def test_what_is_no_directory_is_left(place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (place / "rwb-exact-link").symlink_to(outside)
    (place / "rwb-exact-file").touch()
    sweep_scratch()
    assert (outside / "file").exists()
    assert (place / "rwb-exact-link").is_symlink()
    assert (place / "rwb-exact-file").exists()
