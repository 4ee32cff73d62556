"""Who only reads cases needs no libvirt: without its binding every verb that reads works, every other says the cure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CURE = "pip install 'rewind-workbench[guest]'"
READS = [
    ("timeline",),
    ("vol", "latest", "linux.pslist"),
    ("vol", "latest", "workbench.deleted_binaries"),
    ("files", "before:alert-break_in", "latest"),
    ("cat", "latest", "/etc/hostname"),
    ("clone", "list"),
    ("check",),
]
NEEDS_A_GUEST = [
    ("guests",),
    ("capture", "web1"),
    ("watch", "web1"),
    ("clone", "run", "latest"),
    ("rewind", "latest", "--mode", "test"),
]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is there once something tried to import the binding."""
    return tmp_path_factory.mktemp("tried") / "tried"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, tried: Path) -> dict[str, str]:
    """Where the binding cannot be imported, by any process: what stands in its place says so and fails."""
    here = tmp_path_factory.mktemp("blocked")
    code = f"open({str(tried)!r}, 'a').close()\nraise ModuleNotFoundError(f'No module named {{__name__}}')\n"
    for name in ("libvirt", "libvirt_qemu"):
        (here / f"{name}.py").write_text(code)
    return {**os.environ, "PYTHONPATH": str(here), "XDG_CACHE_HOME": str(here / "cache"), "COLUMNS": "200"}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("case") / "case"
    shutil.copytree(ROOT / "datasets/intrusion/case", target, ignore=shutil.ignore_patterns("cache", "tmp"))
    return target


def run(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.cli", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_binding_is_blocked(environment: dict[str, str], tried: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "import libvirt"], env=environment, capture_output=True, check=False)
    assert b"No module named libvirt" in done.stderr
    tried.unlink()


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_reading_works_and_does_not_even_try(
    words: tuple[str, ...], environment: dict[str, str], case: Path, tried: Path
) -> None:
    done = run(environment, *words, "--case", case)
    assert (done.returncode, done.stderr) == (0, "")
    assert not tried.exists()


def test_every_room_can_be_imported(environment: dict[str, str], tried: Path) -> None:
    code = (
        "import importlib, pkgutil, workbench\n"
        "for each in pkgutil.walk_packages(workbench.__path__, 'workbench.'):\n"
        "    if not each.name.endswith('__main__'): importlib.import_module(each.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not tried.exists()


@pytest.mark.parametrize("words", NEEDS_A_GUEST, ids=" ".join)
def test_what_needs_a_guest_says_what_to_install(
    words: tuple[str, ...], environment: dict[str, str], case: Path
) -> None:
    done = run(environment, *words, *(() if words == ("guests",) else ("--case", case)))
    assert done.returncode == 3
    assert CURE in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_doctor_finds_it(environment: dict[str, str]) -> None:
    done = run(environment, "doctor")
    assert (done.returncode, done.stderr) == (3, "")
    said = " ".join(done.stdout.split())
    assert CURE in said
    assert "cases can be read" in said
