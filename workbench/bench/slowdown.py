"""Figure 3: how much slower the guest's own work is while it is captured every 5 s.

The guest does a fixed amount of processor and memory work, timed by the host's clock, so pauses count. Runs without and
with capture alternate (A B A B): the host's other load falls on both. Refuses to tell a slowdown without the spread of
the runs without capture, which is what the number can be trusted to.
"""

from __future__ import annotations

import statistics

from workbench.bench.result import Result, percentile
from workbench.bench.setting import Bench
from workbench.case import Recording
from workbench.demo import DemoGuest

__all__ = ["slowdown"]

_INTERVAL = 5.0
_RUNS = 2


def _work(guest: DemoGuest) -> float:
    """Return the seconds that a few runs of the benchmark took together."""
    return sum(guest.bench() for _ in range(_RUNS))


def _captured_work(guest: DemoGuest, recording: Recording) -> float:
    recording.capture("warm-up")
    recording.start(_INTERVAL)
    try:
        return _work(guest)
    finally:
        recording.stop()


def slowdown(bench: Bench) -> list[Result]:
    """Measure the slowdown at a 5 s interval, pair by pair."""
    alone, captured = [], []
    with bench.guest("slowdown") as guest:
        guest.bench()
        with bench.recording(guest) as (case, recording):
            recording.capture("baseline")
        for _ in range(bench.count(6, 1)):
            alone.append(_work(guest))
            with case.record(guest.name) as recording:
                captured.append(_captured_work(guest, recording))
        case.close()
    middle = statistics.median(alone)
    samples = tuple(100 * (with_it / without - 1) for without, with_it in zip(alone, captured, strict=True))
    whole = 100 * (statistics.median(captured) / middle - 1)
    spread = 100 * (percentile(alone, 95) - min(alone)) / middle
    note = f"medians of all runs: {whole:+.1f} %; runs without capture spread over {spread:.0f} %"
    how = f"{_RUNS} runs of the guest's benchmark, alternating without a recording and with one every {_INTERVAL:g} s"
    return [Result("slowdown, capture every 5 s", "%", 3, samples, how, note=note)]
