"""Figures 5 and 11: how long a clone takes from the call to its first answer, and what memory several of them take.

Refuses to count a clone that does not answer, and to hide shared memory: what no clone has mapped yet is counted too.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from workbench.bench import virsh
from workbench.bench.processes import rollup
from workbench.bench.result import Peer, Result, measured
from workbench.bench.setting import Bench
from workbench.case import Case, Clone
from workbench.demo import DemoGuest
from workbench.demo.supervisor import Supervisor

__all__ = ["clone_first_command", "clone_memory", "clone_small_and_large"]

_CLONES = 8
_SETTLE = 5.0
"""Seconds that clones run idle before they are measured."""
_FILL = "dd if=/dev/urandom of=/dev/shm/fill bs=1M count=230 2>/dev/null"


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


def _further_seconds(case: Case, count: int) -> list[float]:
    """Return, in s, how long clones took to their first answer while another of the same moment runs."""
    with case.moment("latest").clone():
        return _clone_seconds(case, count)[0]


def _measure(bench: Bench, memory_mib: int, reach: float) -> Result:
    with bench.guest("clone", memory_mib) as guest:
        with bench.recording(guest) as (case, recording):
            recording.capture("bench")
            answered, running = _clone_seconds(case, bench.count(6, 2))
            further = _further_seconds(case, bench.count(6, 2))
        how = "from the call to the answer to a ping"
        peer = measured("virsh restore", how, partial(virsh.restore_seconds, guest, bench.count(3, 1)))
    note = (
        f"running after {statistics.median(running):.2f} s; the first, which makes the disk's image, {answered[0]:.2f};"
        f" beside a clone of the same moment {statistics.median(further):.2f}"
    )
    return Result(f"clone answering, {memory_mib} MiB", "s", reach, tuple(answered), how, (peer,), note)


def clone_small_and_large(bench: Bench) -> list[Result]:
    """Measure clones of a small and a large guest."""
    return [_measure(bench, 512, 1.0), _measure(bench, bench.large_mib, 2.0)]


def clone_first_command(bench: Bench) -> list[Result]:
    """Measure clones of a small and a large guest to the first command that they have carried out, by their agent."""
    return [_first_command(bench, 512, 0.7), _first_command(bench, bench.large_mib, 1.0)]


def _first_command(bench: Bench, memory_mib: int, reach: float) -> Result:
    with bench.guest("command", memory_mib, agent=True) as guest:
        with bench.recording(guest) as (case, recording):
            recording.capture("bench")
            answered, running = [], []
            for _ in range(bench.count(6, 2)):
                began = time.monotonic()
                with case.moment("latest").clone() as clone:
                    running.append(time.monotonic() - began)
                    clone.run("true", how="agent").check()
                    answered.append(time.monotonic() - began)
        how = "from the call to the end of `clone.run` by the guest agent"
        peer = measured("virsh restore", how, partial(virsh.restore_seconds, guest, bench.count(3, 1)))
    note = f"running after {statistics.median(running):.2f} s; virsh restore is to an answer on another channel"
    return Result(f"clone's first command, {memory_mib} MiB", "s", reach, tuple(answered), how, (peer,), note)


def _files(pids: Sequence[int]) -> int:
    """Return the bytes of the memory files that these processes have open, each file once, mapped or not."""
    sizes = {}
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(entry).startswith("/memfd:rwb-"):
                sizes[entry.stat().st_ino] = entry.stat().st_blocks * 512
    return sum(sizes.values())


def _clones_bytes(pids: Sequence[int]) -> float:
    """Return what the QEMUs take together: their proportional set sizes, shared files counted whole and once."""
    parts = [rollup(pid) for pid in pids]
    return sum(each["Pss"] - each["Pss_Shmem"] for each in parts) + _files(pids)


def _idle_clones(case: Case, count: int) -> tuple[float, float, float]:
    """Return the bytes of `count` idle clones: what they take together, what of it they map, and what is one's own."""
    with contextlib.ExitStack() as stack:
        clones: list[Clone] = [stack.enter_context(case.moment("latest").clone()) for _ in range(count)]
        for clone in clones:
            with Supervisor(clone.socket("supervisor.sock")) as copy:
                copy.wait_ready()
        time.sleep(_SETTLE)
        pids = [clone.guest.pid for clone in clones]
        return _clones_bytes(pids), sum(rollup(pid)["Pss"] for pid in pids), rollup(pids[0])["Pss_Anon"]


def _sharing(bench: Bench, guest: DemoGuest, words: str) -> list[Result]:
    """Measure proportional set sizes, and the same with what of the shared file no clone has mapped."""
    with Case.create(bench.place / f"case-share-{words[:5]}", uri=bench.uri) as case:
        with case.record(guest.name) as recording:
            recording.capture("bench")
        one = rollup(case.hypervisor.guest(guest.name).pid)["Rss"]
        taken, seen, own = _idle_clones(case, _CLONES)
    how = f"{_CLONES} idle clones of one moment: the sum of their proportional set sizes, over the guest's RSS"
    note = f"{seen / 1e6:.0f} MB; the guest {one / 1e6:.0f}; of that a clone's own {own / 1e6:.0f} each"
    peer = Peer("as many guests", (float(_CLONES),), "each with memory of its own")
    whole = f"{taken / 1e6:.0f} MB: the shared memory file counts whole, also where no clone has mapped it"
    name = f"memory of {_CLONES} clones, {words}"
    return [
        Result(name, "x", 1.5, (seen / one,), how, (peer,), note),
        Result(f"{name}, with what none maps", "x", 1.5, (taken / one,), how, (peer,), whole),
    ]


def clone_memory(bench: Bench) -> list[Result]:
    """Measure what clones of one 512 MiB moment share: of a guest fresh from its boot, and of one whose RAM is used."""
    with bench.guest("share") as guest:
        fresh = _sharing(bench, guest, "fresh guest")
        guest.run(_FILL, timeout=120)
        return [*fresh, *_sharing(bench, guest, "used guest")]
