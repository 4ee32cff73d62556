"""The files that describe the project agree with each other and with the fixed layout."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import workbench

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = PROJECT["dependencies"] + EXTRAS["dev"]
ON_CONDA = {"python-xxhash": "xxhash", "prometheus_client": "prometheus-client"}
TOP_LEVEL = {"pyproject.toml", "workbench", "notebooks", "tests", "datasets", "environment.yml"} | {
    "README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "Makefile", "constraints.txt", "docs", ".ci", ".gitignore",
}  # fmt: skip


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-")


def test_environment_has_the_same_dependencies():
    listed = re.findall(r"^ +- ([a-z0-9].*[^:])$", (ROOT / "environment.yml").read_text(), re.MULTILINE)
    listed = {re.sub(r"^[a-z0-9_-]+", lambda name: ON_CONDA.get(name[0], name[0]), line) for line in listed}
    assert listed - {"pip"} == {f"python{PROJECT['requires-python']}", *DEPENDENCIES}


def test_constraints_pin_everything_and_name_no_address():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+", line), line
    assert {name_of(each) for each in DEPENDENCIES} <= {name_of(line) for line in lines}


@pytest.fixture
def tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def test_top_level_is_as_fixed(tracked):
    assert {line.split("/")[0] for line in tracked} <= TOP_LEVEL


def test_system_packages_lists_what_it_installs():
    listed = subprocess.run(
        [ROOT / ".ci/system-packages", "--print"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"qemu-system-x86", "qemu-utils", "libvirt-daemon-system", "libvirt-dev", "python3-venv"} <= set(listed)


def test_a_reader_installs_nothing_that_needs_a_compiler_or_root():
    assert "libvirt-python" not in map(name_of, PROJECT["dependencies"])
    assert set(EXTRAS["guest"]) <= set(EXTRAS["dev"])
    command = ["make", "--dry-run", "--what-if=pyproject.toml", "lab"]
    steps = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-e '.'" in steps
    assert "system-packages" not in steps


def test_no_file_names_the_machine_it_was_made_on(tracked):
    forbidden = re.compile("|".join(["/wo" + "rk/", "bash" + "_jobs"]).encode())
    assert [name for name in tracked if (ROOT / name).is_file() and forbidden.search((ROOT / name).read_bytes())] == []


def test_the_map_of_the_house_has_every_room():
    inside = [path for path in (ROOT / "workbench").iterdir() if not path.name.startswith(("_", "."))]
    rooms = {path.stem for path in inside if path.is_dir() or path.suffix == ".py"}
    assert rooms <= set(re.findall(r"^([a-z]+)  ", workbench.__doc__, re.MULTILINE))


def test_types_are_told_to_who_uses_the_package():
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert (ROOT / "workbench" / "py.typed").is_file()
