"""Memory and descriptors of processes, and whether they rise, for figures and the soak.

Linux's /proc: `smaps_rollup` (Pss: what is shared counts in parts), `fd`, `task/*/children`. Refuses to take noise for
a leak: what is held for the time of a capture goes away, what leaks stays.
"""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Sample", "children", "command", "leaked", "rise", "rollup", "sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process.

    Attributes
    ----------
    at : float
        Seconds, of a steady clock.
    pss : int
        Bytes, of the process, with its children where that was asked; 0 where memory was not looked at.
    descriptors : int
        Open files of the process.
    """

    at: float
    pss: int
    descriptors: int


def children(pid: int) -> list[int]:
    """Return the children of a process, of all of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:  # the thread ended
            continue
    return found


def command(pid: int) -> str:
    """Return a process's words; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def sample(pid: int, at: float, *, family: bool = False, memory: bool = True) -> Sample:
    """Look at a process, with `family` at the memory of its children too.

    Without `memory` at descriptors alone: the kernel counts a guest's pages one by one, and QEMU waits meanwhile.
    """
    pss = sum(_pss(each) for each in [pid, *(children(pid) if family else [])]) if memory else 0
    return Sample(at, pss, len(os.listdir(f"/proc/{pid}/fd")))


def rollup(pid: int) -> dict[str, int]:
    """Return a process's `smaps_rollup` (proc_pid_smaps(5)), in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kilobytes) << 10 for name, kilobytes in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}


def _pss(pid: int) -> int:
    try:
        return rollup(pid).get("Pss", 0)
    except OSError:
        return 0


def rise(samples: Sequence[Sample]) -> float:
    """Return by how many bytes memory rose over the second half: by the line of least squares through it."""
    late = samples[len(samples) // 2 :]
    if len(late) < 3:
        return 0.0
    middle = sum(each.at for each in late) / len(late)
    mean = sum(each.pss for each in late) / len(late)
    spread = sum((each.at - middle) ** 2 for each in late)
    slope = sum((each.at - middle) * (each.pss - mean) for each in late) / spread if spread else 0.0
    return slope * (late[-1].at - late[0].at)


def leaked(samples: Sequence[Sample]) -> int:
    """Return how many descriptors stayed open: the median of the last third less the median of the second.

    A few looks see more, what a capture lends; a few see fewer: a paused QEMU closes 64 of a virtio-serial card.
    """
    third = len(samples) // 3
    if not third:
        return 0
    second, last = samples[third : 2 * third], samples[2 * third :]
    return _usual(last) - _usual(second)


def _usual(samples: Sequence[Sample]) -> int:
    return statistics.median_low(each.descriptors for each in samples)
