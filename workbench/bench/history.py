"""Figure 7: resolving one of 10,000 captures and reading one page of it. No guest is needed.

Refuses to measure a warm case: each sample opens the case anew, in this process and in fresh ones. The operating
system's page cache is not dropped.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from workbench.bench.result import Result
from workbench.bench.setting import Bench
from workbench.bench.tools import run
from workbench.model import CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore
from workbench.timeline import Timeline

__all__ = ["build_history", "look", "resolving"]

_GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
_START_NS = 1_700_000_000_000_000_000
_STEP_NS = 2_000_000_000
_PAGES = 1 << 17
_HOT = 4000
_CHANGED = 200


def _unflushed(fd: object) -> None:
    """Stand in for `os.fsync`, parameter's name included."""
    del fd


def build_history(place: Path, captures: int) -> None:
    """Make a case of captures of a 512 MiB region: 4,000 hot pages, 200 of them changing in each.

    Nothing is flushed to the volume: this case need not outlive a power cut, and 10,000 of it take minutes.
    """
    flush, os.fsync = os.fsync, _unflushed
    try:
        store = CaseStore.create(place)
        store.add_guest(_GUEST, "history")
        random = np.random.default_rng(1)
        ram = RegionSpec("pc.ram", RegionKind.MEMORY, _PAGES * 4096, 4096)
        hot = np.sort(random.choice(_PAGES, _HOT, replace=False))
        with store.writer(_GUEST) as writer:
            writer.move_to(None)
            for number in range(captures):
                indices = hot if number == 0 else hot[np.sort(random.choice(_HOT, _CHANGED, replace=False))]
                blocks = np.zeros((len(indices), 4096), np.uint8)
                blocks[:, :16] = random.integers(0, 256, (len(indices), 16), dtype=np.uint8)
                with writer.begin([ram]) as transaction:
                    transaction.put("pc.ram", indices, blocks)
                    when = _START_NS + number * _STEP_NS
                    transaction.commit(time_ns=when, mode=CaptureMode.CONTINUOUS, reason="", facts={})
    finally:
        os.fsync = flush


def look(place: Path, number: int) -> float:
    """Return, in ms, what opening the case, resolving the time of capture `number` and reading a page of it took."""
    when = np.datetime64(_START_NS + number * _STEP_NS + _STEP_NS // 2, "ns")
    began = time.perf_counter()
    store = CaseStore.open(place)
    found = Timeline(store, _GUEST).resolve(f"{when}"[:23] + "Z")
    region = store.view(found.id).region("pc.ram")
    page = region.read(int(region.nonzero()[number % _HOT]) * 4096, 4096)
    took = 1000 * (time.perf_counter() - began)
    assert any(page)
    assert found.time_ns == _START_NS + number * _STEP_NS
    return took


def _fresh(place: Path, number: int) -> float:
    return float(run(sys.executable, "-m", "workbench.bench.history", str(place), str(number)))


def resolving(bench: Bench) -> list[Result]:
    """Measure it in this process and in fresh ones."""
    captures, place = bench.count(10_000, 300), bench.place / "history"
    began = time.monotonic()
    run(sys.executable, "-m", "workbench.bench.history", place, "build", str(captures))
    note = f"the case took {time.monotonic() - began:.0f} s to make"
    numbers = [int(n) for n in np.random.default_rng(2).integers(1, captures, bench.count(60, 4))]
    look(place, 0)
    name = f"one of {captures:,} captures, one page"
    return [
        Result(name, "ms", 20, tuple(look(place, n) for n in numbers), "a fresh CaseStore each time", note=note),
        Result(
            f"{name}, fresh process",
            "ms",
            20,
            tuple(_fresh(place, n) for n in numbers[: bench.count(30, 3)]),
            "a fresh process each time, its imports not counted",
        ),
    ]


def _main(place: str, *words: str) -> None:
    if words[0] == "build":
        build_history(Path(place), int(words[1]))
    else:
        print(look(Path(place), int(words[0])))  # noqa: T201  (this is how the parent hears of it)


if __name__ == "__main__":
    _main(*sys.argv[1:])
