"""Cases to record the shared guest into, and the truth to compare with: the guest's own memory and disks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workbench.case import Case
from workbench.demo import DemoGuest


@pytest.fixture
def case(guest: DemoGuest, tmp_path: Path) -> Iterator[Case]:
    """An empty case beside the shared guest."""
    with Case.create(tmp_path / "case", uri=guest.uri) as made:
        yield made
