"""Thinning 10,000 captures to tiers while captures go on. No guest is needed.

Refuses to measure a prune that nobody disturbs: a writer takes a capture every 200 ms meanwhile, ten times as often as
a recording does, and what each took is told beside what it took before.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np

from workbench.bench.result import Result
from workbench.bench.setting import Bench
from workbench.bench.tools import run, total_bytes
from workbench.model import CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaseStore, Pruned, Writer, plan_prune
from workbench.timeline import Timeline
from workbench.timeline.retention import Retention, choose

__all__ = ["pruning"]

_KEEP = Retention.parse("all for 10m, 1m for 1d")
_PAGES = 1 << 17
_CHANGED = 200
_EVERY_S = 0.2
_LEAST = "half of what is written is the newest of its page when a minute ends, and stays: about 55 % is the least"
_RAM = RegionSpec("pc.ram", RegionKind.MEMORY, _PAGES * 4096, 4096)


def _capture(writer: Writer, random: np.random.Generator, hot: np.ndarray) -> float:
    """Take a capture of 200 of the hot pages; return how long it took, ms."""
    indices = np.sort(random.choice(hot, _CHANGED, replace=False))
    blocks = np.zeros((_CHANGED, 4096), np.uint8)
    blocks[:, :16] = random.integers(0, 256, (_CHANGED, 16), dtype=np.uint8)
    began = time.perf_counter()
    with writer.begin([_RAM]) as transaction:
        transaction.put(_RAM.name, indices, blocks)
        transaction.commit(time_ns=time.time_ns(), mode=CaptureMode.CONTINUOUS, reason="", facts={})
    return 1000 * (time.perf_counter() - began)


def _guest(store: CaseStore) -> GuestId:
    return store.guest_ids()[0]


def _prune(place: Path) -> tuple[float, Pruned, int]:
    """Plan and execute in a store of its own; return seconds, the outcome and how many captures stay."""
    began = time.perf_counter()
    store = CaseStore.open(place)
    guest = _guest(store)
    timeline = Timeline(store, guest)
    records = timeline.records()
    # The captures that are taken meanwhile are of today; the history ends when its last one was taken.
    end = max(record.time_ns for record in records if record.time_ns < time.time_ns() - 3600 * 10**9)
    chosen = choose(_KEEP, records, timeline.marks(), {}, end)
    done = plan_prune(store, guest, set(chosen.loc[~chosen["keep"], "capture"])).execute(patience_s=60)
    return time.perf_counter() - began, done, int(chosen["keep"].sum())


def _disturbed(place: Path) -> tuple[float, Pruned, int, list[float], list[float]]:
    """Prune while another thread captures; return what `_prune` does, and ms of captures before and meanwhile."""
    store, random = CaseStore.open(place), np.random.default_rng(5)
    ended = threading.Event()
    meanwhile: list[float] = []
    with store.writer(_guest(store)) as writer:
        newest = store.captures(writer.guest)[-1].id
        writer.move_to(newest)
        hot = store.view(newest).region(_RAM.name).nonzero()
        before = [_capture(writer, random, hot) for _ in range(20)]

        def captures() -> None:
            while not ended.wait(_EVERY_S):
                meanwhile.append(_capture(writer, random, hot))

        thread = threading.Thread(target=captures)
        thread.start()
        try:
            seconds, done, kept = _prune(place)
        finally:
            ended.set()
            thread.join()
    return seconds, done, kept, before, meanwhile


def pruning(bench: Bench) -> list[Result]:
    """Measure it: seconds, bytes, and how long captures took meanwhile."""
    captures, place = bench.count(10_000, 300), bench.place / "prune"
    run(sys.executable, "-m", "workbench.bench.history", place, "build", str(captures))
    full = total_bytes(place)
    seconds, done, kept, before, meanwhile = _disturbed(place)
    _, rest, _ = _prune(place)
    left = total_bytes(place)
    how = f"{captures:,} captures, 200 of 4,000 hot pages each; '{_KEEP}', a capture every 200 ms meanwhile"
    note = (
        f"{done.dropped:,} dropped, {kept:,} kept, {done.rebased:,} re-based, {done.moved:,} blocks copied, "
        f"{full / 1e6:.1f} MB before, {left / 1e6:.1f} MB after, of which {rest.freed / 1e6:.1f} MB by a second prune"
    )
    usual = f"{statistics.median(before):.1f} ms is the median before; the prune holds no lock that a capture takes"
    return [
        Result("prune, plan and execution", "s", 60, (seconds,), how, note=note),
        Result("size after a prune, of before", "%", 70, (100 * left / full,), how, note=_LEAST),
        Result("longest capture during a prune", "ms", 500, (max(meanwhile, default=0.0),), how, note=usual),
    ]
