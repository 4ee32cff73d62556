"""Figures of a live guest: pauses, rewinds, clones, the slowdown, the bytes stored, the memory taken.

Each function gets a guest and returns what it measured, in the unit its name tells. Refuses to know reaches.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from workbench.case import Case, Recording
from workbench.demo import DemoGuest
from workbench.demo.supervisor import Supervisor
from workbench.errors import GuestError
from workbench.model import CaptureRecord

__all__ = ["capturer_memory", "clone_seconds", "pauses", "rewind_downtimes", "slowdown_percent", "stored_kilobytes"]

DIRTY_30_MB = "dd if=/dev/urandom of=/dev/shm/dirty bs=1M count=30 2>/dev/null"


def pauses(guest: DemoGuest, recording: Recording, count: int, dirty: str = "true", settle: float = 1.0) -> list[float]:
    """Return the pauses, in ms, of `count` captures, each after `dirty` ran in the guest and `settle` s passed."""
    for _ in range(3):
        recording.capture("warm-up")
    found = []
    for _ in range(count):
        guest.run(dirty)
        time.sleep(settle)
        found.append(recording.capture("bench").facts["pause_ns"] / 1e6)
    return found


def rewind_downtimes(
    guest: DemoGuest, case: Case, recording: Recording, count: int
) -> tuple[list[float], dict[str, float]]:
    """Return the downtimes, in ms, of `count` rewinds 10 s back in place, and the medians of their parts."""
    recording.capture("the moment to go back to", mark="back")
    found, parts = [], []
    guest.load("shell")
    for _ in range(count):
        time.sleep(10)
        done = recording.rewind(case.plan_rewind("back", mode="production"), confirm=guest.name)
        found.append(done.downtime_ns / 1e6)
        parts.append(done.parts_ns)
        if not guest.health().ok:
            raise GuestError("the guest is not well after a rewind")
    guest.load("off")
    return found, {name: statistics.median(each.get(name, 0) for each in parts) / 1e6 for name in parts[0]}


def clone_seconds(case: Case, count: int) -> list[float]:
    """Return, in s, how long clones took from the call to their first answer."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        with case.moment("latest").clone() as clone, Supervisor(clone.socket("supervisor.sock")) as copy:
            copy.ping()
            found.append(time.monotonic() - began)
    return found


def slowdown_percent(guest: DemoGuest, recording: Recording, rounds: int) -> list[float]:
    """Return, in percent, how much longer the guest's own benchmark took captured every 5 s; pairs side by side."""
    recording.capture("warm-up")
    found = []
    for _ in range(rounds):
        alone = guest.bench()
        recording.start(5.0)
        under = guest.bench()
        recording.stop()
        found.append(100 * (under / alone - 1))
    return found


def stored_kilobytes(guest: DemoGuest, recording: Recording, count: int) -> list[float]:
    """Return, in kB, what each capture at a 2 s interval added to the case, under a light shell workload."""
    guest.load("shell")
    recording.capture("warm-up")
    time.sleep(2)
    records: list[CaptureRecord] = []
    for _ in range(count):
        records.append(recording.capture("bench").record)
        time.sleep(2)
    guest.load("off")
    return [record.facts["stored_bytes"] / 1e3 for record in records[1:]]


_CHILD = """
import sys, time
from workbench.case import Case
with Case.create(sys.argv[1], uri=sys.argv[2]) as case, case.record(sys.argv[3]) as recording:
    for _ in range(5):
        recording.capture("bench")
        time.sleep(0.5)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def capturer_memory(guest: DemoGuest, place: Path) -> list[float]:
    """Return, in MB beyond the guest's RAM, the most memory that a process recording the guest held."""
    words = [sys.executable, "-c", _CHILD, str(place), guest.uri, guest.name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise GuestError(f"the recording process failed: {done.stderr.strip().splitlines()[-1:]}")
    return [int(done.stdout) * 1024 / 1e6 - guest.spec.memory_mib * (1 << 20) / 1e6]
