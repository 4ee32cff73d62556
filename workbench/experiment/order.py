"""In which order the runs of an experiment go, and how many at once: pure, but for a look at the host's memory.

In blocks: each repeat has every variant once, in an order drawn by chance from the stated seed. So what drifts on the
host while an experiment goes on (caches, heat, neighbours) falls on all variants alike. Refuses to favour the control
with the first place.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import UsageError

__all__ = ["Need", "Turn", "available_memory", "cores", "fitting", "new_seed", "turns"]

_MEMINFO = Path("/proc/meminfo")
OWN = 96 << 20
"""Bytes that a QEMU takes beside its guest's memory (about 50 MB under TCG, and room)."""
WRITTEN = 4
"""A mapped clone is taken to write one part in so many of its memory."""
USED = 0.6
"""The part of the free memory that clones may take."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One run to be made: the `position`-th of all, of a variant, its `repeat`-th (from 1)."""

    position: int
    variant: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Need:
    """What a clone of a moment takes of the host.

    Attributes
    ----------
    memory : int
        Bytes of the guest's main memory.
    vcpus : int
    shared : bool
        Whether clones share what they do not write (`CloneRecord.memory` is "mapped").
    """

    memory: int
    vcpus: int
    shared: bool


def new_seed() -> int:
    """Return a seed that nobody chose."""
    return secrets.randbits(32)


def turns(variants: Sequence[str], repeats: int, seed: int) -> list[Turn]:
    """Return the runs in their order.

    Raises
    ------
    UsageError
        Unless there is at least one repeat.
    """
    if not variants or repeats < 1:
        raise UsageError("an experiment has a variant and a repeat at least", repeats=repeats)
    chance = random.Random(seed)
    found: list[Turn] = []
    for repeat in range(1, repeats + 1):
        block = list(variants)
        chance.shuffle(block)
        found += [Turn(len(found) + number, name, repeat) for number, name in enumerate(block, 1)]
    return found


def fitting(need: Need, runs: int, *, free: int, cores: int) -> int:
    """Return how many clones may run at once: by memory, and by processors, so that none waits for another's.

    Parameters
    ----------
    free : int
        Bytes of the host's memory that can be had.

    Raises
    ------
    UsageError
        If not even one fits.
    """
    each = OWN + (need.memory // WRITTEN if need.shared else need.memory)
    base = need.memory if need.shared else 0
    by_memory = (int(free * USED) - base) // each
    if by_memory < 1:
        raise UsageError(
            "no clone of this moment fits into the host's memory",
            needs=base + each,
            free=int(free * USED),
            cure="Free memory, or say at_once=1 to try nevertheless.",
        )
    return max(1, min(by_memory, cores // max(1, need.vcpus), runs))


def available_memory(meminfo: Path = _MEMINFO) -> int:
    """Return the bytes that new processes can have without swapping (`MemAvailable`, proc(5))."""
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) << 10


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0))
