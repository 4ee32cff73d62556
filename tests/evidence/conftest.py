"""The recorded intrusion, a small case full of hostile names, and one report of the first for all tests."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))
sys.path.insert(0, str(Path(__file__).parent))

from recorded import DATASET, HOSTILE

from workbench.case import Case
from workbench.model import CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore


@pytest.fixture(scope="session")
def truth() -> dict[str, dict[str, Any]]:
    """What the guest itself says that was planted, by step."""
    return {each["what"]: each for each in json.loads((DATASET / "truth.json").read_text())}


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the dataset's case, to be written to."""
    target = tmp_path_factory.mktemp("intrusion") / "case"
    shutil.copytree(DATASET / "case", target, ignore=shutil.ignore_patterns("cache", "tmp"))
    return target


@pytest.fixture(scope="session")
def case(copied: Path) -> Iterator[Case]:
    """The case, opened."""
    with Case(copied) as opened:
        yield opened


@pytest.fixture(scope="session")
def report(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the whole intrusion; leave it as it is."""
    return case.report(tmp_path_factory.mktemp("report") / "report.html", "before:alert-break_in")


@pytest.fixture
def hostile_case(tmp_path: Path) -> Path:
    """Two captures of a guest whose name and reasons are hostile, and whose memory holds no kernel."""
    store = CaseStore.create(tmp_path / "hostile")
    guest = GuestId("3f2b8c1a-7d4e-4f60-9a51-c0ffee000002")
    store.add_guest(guest, HOSTILE[:200])
    ram = RegionSpec("pc.ram", RegionKind.MEMORY, 16 * 4096, 4096)
    with store.writer(guest) as writer:
        writer.move_to(None)
        for number in range(2):
            with writer.begin([ram]) as transaction:
                transaction.put("pc.ram", np.array([number]), np.full((1, 4096), number + 1, np.uint8))
                time_ns = 1_750_000_000_000_000_000 + number * 10**9
                transaction.commit(time_ns=time_ns, mode=CaptureMode.MANUAL, reason=HOSTILE, facts={})
    return tmp_path / "hostile"
