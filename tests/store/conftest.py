"""The tests of the store share `casebuilder`: pytest imports test files by path, so its directory is named here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from casebuilder import Built, build_case


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """A case with six captures on one line."""
    return build_case(tmp_path / "case")
