"""Figure 8: the most memory that a process recording a guest holds, beyond the guest's own RAM.

Refuses to take our word for it: a process of its own records, and its VmHWM is the kernel's.
"""

from __future__ import annotations

import sys
from pathlib import Path

from workbench.bench.result import Result
from workbench.bench.setting import Bench
from workbench.bench.tools import run
from workbench.demo import DemoGuest

__all__ = ["memory"]

_FILL = "dd if=/dev/urandom of=/dev/shm/fill bs=1M count={} 2>/dev/null"

_CHILD = """
import sys, time
from workbench.case import Case
with Case.create(sys.argv[1], uri=sys.argv[2]) as case, case.record(sys.argv[3]) as recording:
    for _ in range(int(sys.argv[4])):
        recording.capture("bench")
        time.sleep(0.5)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def _high_water(guest: DemoGuest, place: Path, captures: int) -> int:
    """Return the most bytes that a process held while it recorded the guest."""
    return int(run(sys.executable, "-c", _CHILD, place, guest.uri, guest.name, str(captures))) * 1024


def memory(bench: Bench) -> list[Result]:
    """Measure the memory of the capturing process while most of the guest's RAM holds content."""
    with bench.guest("memory") as guest:
        guest.run(_FILL.format(bench.count(200, 20)), timeout=120)
        guest.load("shell")
        ram = guest.spec.memory_mib << 20
        taken = [_high_water(guest, bench.place / f"case-memory-{n}", 8) for n in range(bench.count(2, 1))]
    how = "VmHWM of a child process that attaches and takes 8 captures, less the guest's 512 MiB"
    note = f"VmHWM {max(taken) / 1e6:.0f} MB; content of zeros is not held, so it can be less than RAM"
    return [
        Result("memory beyond the guest's RAM", "MB", 200, tuple((each - ram) / 1e6 for each in taken), how, note=note)
    ]
