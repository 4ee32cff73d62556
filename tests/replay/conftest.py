"""A case whose captures carry a number, and the recorded intrusion with its truth."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from numbered import Numbered

from workbench.case import Case

DATASET = Path(__file__).parents[2] / "datasets" / "intrusion"


@pytest.fixture
def numbered(tmp_path: Path) -> Numbered:
    return Numbered(tmp_path / "case").build()


@pytest.fixture
def case(numbered: Numbered) -> Iterator[Case]:
    with Case(numbered.path) as opened:
        yield opened


@pytest.fixture(scope="session")
def truth() -> dict[str, dict[str, Any]]:
    """What the guest itself says that was planted, by step."""
    return {each["what"]: each for each in json.loads((DATASET / "truth.json").read_text())}


@pytest.fixture(scope="session")
def intrusion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A copy of the recorded intrusion."""
    target = tmp_path_factory.mktemp("intrusion") / "case"
    shutil.copytree(DATASET / "case", target, ignore=shutil.ignore_patterns("cache", "tmp"))
    with Case(target) as opened:
        yield opened
