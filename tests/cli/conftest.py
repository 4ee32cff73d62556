"""The real command as a process, and a small case without a guest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from commandline import GUEST, NASTY, START_NS, Command, Done, SmallCase

from workbench.model import CaptureMode, Mark, RegionKind, RegionSpec
from workbench.store import CaseStore


@pytest.fixture
def workbench() -> Command:
    """Run the command with words; standard input is empty."""

    def run(*words: str | Path, timeout: float = 120) -> Done:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WORKBENCH_")}
        done = subprocess.run(
            [sys.executable, "-m", "workbench.cli", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def small_case(tmp_path: Path) -> SmallCase:
    """Four captures of one guest with a hostile name: two pages and one cluster change in each."""
    store = CaseStore.create(tmp_path / "case")
    store.add_guest(GUEST, NASTY)
    ram = RegionSpec("pc.ram", RegionKind.MEMORY, 64 * 4096, 4096)
    disk = RegionSpec("disk:vda", RegionKind.DISK, 8 * 65536, 65536)
    layout = RegionSpec("state:layout", RegionKind.STATE, 0, 4096)
    records = []
    with store.writer(GUEST) as writer:
        writer.move_to(None)
        for number in range(4):
            with writer.begin([ram, disk, layout]) as transaction:
                transaction.put_stream("state:layout", b"{}")
                transaction.put("pc.ram", np.array([number, 9]), np.full((2, 4096), number + 1, np.uint8))
                transaction.put("disk:vda", np.array([number]), np.full((1, 65536), number + 1, np.uint8))
                facts = {"pause_ns": 9_500_000, "pause_parts_ns": {"stop": 2_000_000}, "dirty_pages": 2}
                record = transaction.commit(
                    time_ns=START_NS + number * 10**9,
                    mode=CaptureMode.MANUAL,
                    reason=NASTY if number == 1 else "",
                    facts={**facts, "dirty_clusters": 1},
                )
                records.append(record)
    store.add_mark(Mark("alert-7", GUEST, records[2].time_ns, records[2].id, "event", NASTY))
    return SmallCase(tmp_path / "case", records)
