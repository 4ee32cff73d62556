"""A long history without a guest: how long it takes to open 10,000 captures, resolve one and read a page of it.

Refuses to measure a warm case: every sample is a fresh process that has read nothing of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from workbench.model import CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore

__all__ = ["build_history", "resolve_milliseconds"]

_GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
_START_NS = 1_700_000_000_000_000_000
_PAGES = 1 << 15
_HOT = 2000

_CHILD = """
import sys, time
from pathlib import Path
import workbench.timeline, workbench.store
from workbench.store import CaseStore
from workbench.timeline import Timeline
from workbench.model import GuestId
began = time.perf_counter()
store = CaseStore.open(Path(sys.argv[1]))
found = Timeline(store, GuestId(sys.argv[2])).resolve(sys.argv[3])
page = store.view(found.id).region("pc.ram").read(int(sys.argv[4]) * 4096, 4096)
print(1000 * (time.perf_counter() - began))
"""


def build_history(place: Path, captures: int) -> None:
    """Make a case of `captures` captures of a 128 MiB region, 50 of 2,000 hot pages changing in each."""
    store = CaseStore.create(place)
    store.add_guest(_GUEST, "history")
    random = np.random.default_rng(1)
    ram = RegionSpec("pc.ram", RegionKind.MEMORY, _PAGES * 4096, 4096)
    with store.writer(_GUEST) as writer:
        writer.move_to(None)
        for number in range(captures):
            with writer.begin([ram]) as transaction:
                indices = np.arange(_HOT) if number == 0 else np.sort(random.choice(_HOT, 50, replace=False))
                blocks = np.zeros((len(indices), 4096), np.uint8)
                blocks[:, :64] = random.integers(0, 256, (len(indices), 64), dtype=np.uint8)
                transaction.put("pc.ram", indices, blocks)
                time_ns = _START_NS + number * 2_000_000_000
                transaction.commit(time_ns=time_ns, mode=CaptureMode.CONTINUOUS, reason="", facts={})


def resolve_milliseconds(place: Path, captures: int, count: int) -> list[float]:
    """Return, in ms, how long a fresh process took to open the case, resolve a time of day and read one page of it."""
    random = np.random.default_rng(2)
    found = []
    for _ in range(count):
        number, page = int(random.integers(1, captures)), int(random.integers(0, _HOT))
        when = np.datetime64(_START_NS + number * 2_000_000_000 + 10**9, "ns")
        words = [sys.executable, "-c", _CHILD, str(place), str(_GUEST), f"{when}Z"[:23] + "Z", str(page)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        found.append(float(done.stdout))
    return found
