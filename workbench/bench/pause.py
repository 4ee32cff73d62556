"""Figures 1 and 2: the pause of an incremental capture, of a quiet guest and with 30 MB freshly written.

Ours is the time from sending `stop` to the answer to `cont`, as each capture records it; QEMU's own STOP and RESUME
events are told beside it. Refuses to count the first captures of a session, which a user pays once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workbench.bench import virsh
from workbench.bench.result import Peer, Result, measured, medians
from workbench.bench.setting import Bench
from workbench.bench.stops import Stops
from workbench.case import Recording
from workbench.demo import DemoGuest

__all__ = ["pause_dirty", "pause_quiet"]

_QUIET = "true"
_DIRTY = "dd if=/dev/urandom of=/dev/shm/dirty bs=1M count=30 2>/dev/null"
_HOW = "from sending `stop` to the answer to `cont`"

Facts = list[dict[str, Any]]


def _captures(guest: DemoGuest, recording: Recording, count: int, dirty: str, settle: float) -> Facts:
    """Return the facts of `count` captures, each after `dirty` ran in the guest and `settle` s passed."""
    for _ in range(3):
        recording.capture("warm-up")
    facts = []
    for _ in range(count):
        guest.run(dirty)
        time.sleep(settle)
        facts.append(recording.capture("bench").facts)
    return facts


def _peers(guest: DemoGuest, count: int, dirty: str) -> tuple[Peer, ...]:
    snapshot = measured(
        "virsh snapshot-create-as", "STOP to RESUME, QEMU's events", lambda: virsh.snapshot_pauses(guest, count, dirty)
    )
    both: list[tuple[float, float]] = []

    def save() -> list[float]:
        both.extend(virsh.save_pauses(guest, count, dirty))
        return [each[0] for each in both]

    saved = measured("virsh save", "STOP to the end of the command; the guest is off then", save)
    how = "STOP to RESUME of the restored QEMU" if both else saved.how
    return snapshot, saved, Peer("virsh save, restore", tuple(each[1] for each in both), how)


def _note(facts: Facts, pauses_seen: Sequence[float]) -> str:
    """Say how long the pauses were by QEMU's events, how many pages they took, and where the time went."""
    pages = statistics.median(each["dirty_pages"] for each in facts)
    seen = f"{1000 * statistics.median(pauses_seen):.1f} ms by QEMU's events" if pauses_seen else "no events seen"
    return f"{seen}; {pages:.0f} pages; {medians([each['pause_parts_ns'] for each in facts])}"


def _measure(bench: Bench, name: str, memory_mib: int, dirty: str, settle: float) -> Result:
    """Measure our pauses and the peers' on one guest."""
    with bench.guest(name, memory_mib) as guest:
        with bench.recording(guest) as (_case, recording), Stops(guest) as stops:
            facts = _captures(guest, recording, bench.count(30, 3), dirty, settle)
            time.sleep(0.5)
            seen = stops.pauses()[-len(facts) :]
        peers = _peers(guest, bench.count(5 if memory_mib == 512 else 2, 1), dirty)
    title = f"pause, {'quiet' if dirty == _QUIET else '30 MB dirty'}, {memory_mib} MiB"
    samples = tuple(each["pause_ns"] / 1e6 for each in facts)
    return Result(title, "ms", 12, samples, _HOW, peers, _note(facts, seen))


def pause_quiet(bench: Bench) -> list[Result]:
    """Measure the pause of a quiet guest, small and large."""
    small = replace(_measure(bench, "pause", 512, _QUIET, 0.7), reach_p95=40)
    large = _measure(bench, "pause", bench.large_mib, _QUIET, 0.7)
    how = f"{_HOW}; the reach is 1.5 x the median of 512 MiB"
    return [small, replace(large, reach=round(1.5 * small.median, 1), how=how)]


def pause_dirty(bench: Bench) -> list[Result]:
    """Measure the pause with 30 MB of random bytes written into /dev/shm just before."""
    return [replace(_measure(bench, "dirty", 512, _DIRTY, 0.0), reach=60)]
