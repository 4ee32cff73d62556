"""Every notebook runs from top to bottom and shows what it showed when it was written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
LIVE = {"01-capture-live", "05-rewind-and-clone", "07-ab-experiment", "08-replay-and-bisect"}
"""They boot a guest, and show what no second run shows: only what they have in common with it is compared."""


def test_the_lessons_are_there() -> None:
    assert {path.stem[:2] for path in LESSONS if path.stem not in LIVE} == {"00", "02", "03", "04", "06"}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_is_a_lesson_with_its_answers(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].source.startswith("# ")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    rooms = "store|memory|disk|capture|guest|inquiry|rewind|evidence|experiment|replay|trial|inside"
    assert not re.search(rf"(?m)^(import|from) workbench\.({rooms})", "\n".join(cell.source for cell in code))


def lesson(path: Path) -> object:
    return pytest.param(path, id=path.stem, marks=[pytest.mark.guest] if path.stem in LIVE else [])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", [lesson(path) for path in LESSONS])
def test_it_runs_and_shows_the_same(path: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WORKBENCH_", "PYTEST_"))}
    environment |= {"WORKBENCH_STATIC": "1", "IPYTHONDIR": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1"}
    compare = "--nbval-lax" if path.stem in LIVE else "--nbval"
    limits = ["--nbval-cell-timeout=800", "--nbval-kernel-startup-timeout=400", "--timeout=0"]
    words = [compare, "--nbval-current-env", *limits, "-q", "-W", "ignore"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'in'}", str(path)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=NOTEBOOKS,
        timeout=1740,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
