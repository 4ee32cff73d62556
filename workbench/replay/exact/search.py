"""Find the instruction that last changed bytes of physical memory, by replays.

What is looked for is the last time that the bytes took the value they have at the end (or at `before`). Between two
places that are looked at a value may change and change back unseen: the span is one at which the final value came
about, not proven to be the last one. A write of the value that was there already changes nothing and is not seen.
Refuses addresses that are not RAM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import UsageError
from workbench.progress import Progress, silent
from workbench.replay.exact.content import open_memory, read_physical
from workbench.replay.exact.narrowing import narrow
from workbench.replay.exact.replaying import Replay

__all__ = ["LastWrite", "find_last_write"]

_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class LastWrite:
    """Where bytes took their last value.

    Attributes
    ----------
    after, by : int
        After `after` instructions they had another value, after `by` this one.
    before, value : bytes
        Both values.
    rip, cr3, cpl : int
        The instruction that runs next at `after`, the page table it runs under and its privilege (0 kernel, 3 user).
        With a span of one instruction that is the writer, unless a device wrote at this instant.
    replays : int
        How many replays it took.
    """

    after: int
    by: int
    before: bytes
    value: bytes
    rip: int
    cr3: int
    cpl: int
    replays: int

    @property
    def exact(self) -> bool:
        """Whether the span is one instruction."""
        return self.by - self.after == 1


@dataclass(frozen=True, slots=True)
class _Seen:
    value: bytes
    registers: str = field(compare=False)


def find_last_write(
    place: Path,
    address: int,
    length: int = 8,
    *,
    before: int | None = None,
    resolution: int = 1,
    progress: Progress = silent,
) -> LastWrite:
    """Find where bytes of physical memory took the value they have at the end, or after `before` instructions.

    Parameters
    ----------
    address, length : int
        Guest-physical, in bytes; at most 4096.
    resolution : int
        Instructions: a span of so many is narrow enough.

    Raises
    ------
    UsageError
        If that is no RAM, or the bytes have this value from the beginning on.
    HungError, GuestError, StoreError
    """
    if not 0 < length <= _MOST_BYTES:
        raise UsageError("length out of range", length=length, cure=f"Give 1 to {_MOST_BYTES} bytes.")

    def look(replay: Replay) -> _Seen:
        with open_memory(replay.qemu) as (memory, reader):
            value = read_physical(memory, reader, address, length)
        return _Seen(value, replay.qemu.monitor.human("info registers"))

    span = narrow(place, look, before=before, resolution=resolution, progress=progress)
    registers = span.was.registers
    return LastWrite(
        span.after, span.by, span.was.value, span.value.value, _register(registers, "RIP"), _register(registers, "CR3"),
        _register(registers, "CPL"), span.replays,
    )  # fmt: skip


def _register(text: str, name: str) -> int:
    match = re.search(rf"\b{name}=([0-9a-f]{{1,16}})\b", text)
    return int(match[1], 16) if match else 0
