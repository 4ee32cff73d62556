"""Figure 3: how much slower the guest's own work is while it is captured every 5 s.

The guest does a fixed amount of processor and memory work, timed by the host's clock, so pauses count. Runs without and
with capture alternate (A B A B): the host's other load falls on both. Where there is much of that, the second result
says more: the time that the guest's CPU was given for the work, and the pauses. Refuses to tell a slowdown without the
spread of the runs without capture, which is what the first can be trusted to.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from workbench.bench.result import Result, percentile
from workbench.bench.setting import Bench
from workbench.case import Recording, Tick
from workbench.demo import DemoGuest
from workbench.errors import GuestError

__all__ = ["slowdown"]

_INTERVAL = 5.0
_RUNS = 2


@dataclass(frozen=True, slots=True)
class _Work:
    """What a few runs of the benchmark took together, in seconds: by the clock, and of processor and pauses."""

    elapsed: float
    spent: float


def _cpu_seconds(pid: int) -> float:
    """Return for how long the guest's CPUs have been on a processor of the host: the threads `CPU n/...` of QEMU."""
    tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().startswith("CPU ")]
    if not tasks:
        raise GuestError("QEMU has no thread of a CPU")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _work(guest: DemoGuest, pid: int) -> _Work:
    before = _cpu_seconds(pid)
    elapsed = sum(guest.bench() for _ in range(_RUNS))
    return _Work(elapsed, _cpu_seconds(pid) - before)


def _captured_work(guest: DemoGuest, recording: Recording, pid: int) -> _Work:
    """Return the same while captures are taken; their pauses count as spent."""
    pauses = []

    def note(tick: Tick) -> None:
        if tick.record is not None:
            pauses.append(tick.record.facts["pause_ns"] / 1e9)

    recording.capture("warm-up")
    recording.start(_INTERVAL, note)
    try:
        work = _work(guest, pid)
    finally:
        recording.stop()
    return _Work(work.elapsed, work.spent + sum(pauses))


def _pairs(bench: Bench) -> list[tuple[_Work, _Work]]:
    """Return runs without and with capture, side by side."""
    found = []
    with bench.guest("slowdown") as guest:
        guest.bench()
        with bench.recording(guest) as (case, recording):
            recording.capture("baseline")
        pid = case.hypervisor.guest(guest.name).pid
        for _ in range(bench.count(6, 1)):
            alone = _work(guest, pid)
            with case.record(guest.name) as recording:
                found.append((alone, _captured_work(guest, recording, pid)))
        case.close()
    return found


def slowdown(bench: Bench) -> list[Result]:
    """Measure the slowdown at a 5 s interval, pair by pair."""
    pairs = _pairs(bench)
    alone = [without.elapsed for without, _ in pairs]
    middle = statistics.median(alone)
    whole = 100 * (statistics.median(each.elapsed for _, each in pairs) / middle - 1)
    spread = 100 * (percentile(alone, 95) - min(alone)) / middle
    note = f"medians of all runs: {whole:+.1f} %; runs without capture spread over {spread:.0f} %"
    how = f"{_RUNS} runs of the guest's benchmark, alternating without a recording and with one every {_INTERVAL:g} s"
    by_clock = tuple(100 * (with_it.elapsed / without.elapsed - 1) for without, with_it in pairs)
    by_work = tuple(100 * (with_it.spent / without.spent - 1) for without, with_it in pairs)
    name = f"slowdown, capture every {_INTERVAL:g} s"
    return [
        Result(f"{name}, by the clock", "%", 3, by_clock, how, note=note),
        Result(f"{name}, by work", "%", 3, by_work, f"{how}; processor time of the guest's CPUs, and the pauses"),
    ]
