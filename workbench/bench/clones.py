"""Figure 5: how long a clone takes from the call to its first answer.

Refuses to count a clone that does not answer.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

from workbench.bench import virsh
from workbench.bench.result import Result, measured
from workbench.bench.setting import Bench
from workbench.case import Case
from workbench.demo.supervisor import Supervisor

__all__ = ["clone_small_and_large"]


def _clone_seconds(case: Case, count: int) -> tuple[list[float], list[float]]:
    """Return, in s, how long clones took to their first answer, and to running."""
    answered, running = [], []
    for _ in range(count):
        began = time.monotonic()
        with case.moment("latest").clone() as clone, Supervisor(clone.socket("supervisor.sock")) as copy:
            running.append(time.monotonic() - began)
            copy.ping()
            answered.append(time.monotonic() - began)
    return answered, running


def _measure(bench: Bench, memory_mib: int, reach: float) -> Result:
    with bench.guest("clone", memory_mib) as guest:
        with bench.recording(guest) as (case, recording):
            recording.capture("bench")
            answered, running = _clone_seconds(case, bench.count(6, 2))
        how = "from the call to the answer to a ping"
        peer = measured("virsh restore", how, partial(virsh.restore_seconds, guest, bench.count(3, 1)))
    note = (
        f"running after {statistics.median(running):.2f} s; the first, which makes the disk's image, {answered[0]:.2f}"
    )
    return Result(f"clone answering, {memory_mib} MiB", "s", reach, tuple(answered), how, (peer,), note)


def clone_small_and_large(bench: Bench) -> list[Result]:
    """Measure clones of a small and a large guest."""
    return [_measure(bench, 512, 1.0), _measure(bench, bench.large_mib, 2.0)]
