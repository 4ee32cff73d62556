"""Figure 3: how much slower the guest's own work is while it is captured every 5 s.

The guest does a fixed amount of processor and memory work, timed by the host's clock, so pauses count. Runs without and
with capture alternate (A B A B): the host's other load falls on both. Where there is much of that, the second result
says more: the time that the guest's CPU was given for the work, and the pauses. Refuses to settle a slowdown that is
smaller than what the pairs differ by.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.bench.result import Result, uncertainty
from workbench.bench.setting import Bench
from workbench.case import Recording, Tick
from workbench.demo import DemoGuest
from workbench.errors import GuestError

__all__ = ["slowdown"]

_INTERVAL = 5.0
_RUNS = 2
_REACH = 3.0


@dataclass(frozen=True, slots=True)
class _Work:
    """What a few runs of the benchmark took together, in seconds: by the clock, of processor, and of pauses."""

    elapsed: float
    processor: float
    paused: float = 0.0

    @property
    def spent(self) -> float:
        """Processor and pauses."""
        return self.processor + self.paused


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
    """Return the same while captures are taken."""
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
    return replace(work, paused=sum(pauses))


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
    by_clock = [100 * (with_it.elapsed / without.elapsed - 1) for without, with_it in pairs]
    by_work = [100 * (with_it.spent / without.spent - 1) for without, with_it in pairs]
    share = 100 * statistics.median(each.paused / each.elapsed for _, each in pairs)
    how = f"{_RUNS} runs of the guest's benchmark, alternating without a recording and with one every {_INTERVAL:g} s"
    return [
        _result("by the clock", by_clock, how, f"pauses are {share:.2f} % of the time"),
        _result("by work", by_work, f"{how}; processor time of the guest's CPUs, and the pauses", ""),
    ]


def _result(what: str, samples: list[float], how: str, note: str) -> Result:
    off = uncertainty(samples)
    told = f"+- {off:.0f} by the spread of {len(samples)} pairs" + (f"; {note}" if note else "")
    name = f"slowdown, capture every {_INTERVAL:g} s, {what}"
    return Result(name, "%", _REACH, tuple(samples), how, note=told, settled=len(samples) > 2 and off <= _REACH)
