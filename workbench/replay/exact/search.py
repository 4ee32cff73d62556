"""Find the instruction that last changed bytes of physical memory, by replays.

What is looked for is the last time that the bytes took the value they have at the end (or at `before`). Waypoints cut
the recording into pieces; from the end backwards the first whose beginning has another value is searched by halving.
Between two places that are looked at a value may change and change back unseen: inside the piece the *narrowest* span
is one at which the final value came about, not proven to be the last one.
A write of the value that was there already changes nothing and is not seen. Refuses addresses that are not RAM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.errors import MonitorError, UsageError
from workbench.progress import Progress, ProgressEvent, silent
from workbench.replay.exact.content import open_memory, read_physical
from workbench.replay.exact.description import Description
from workbench.replay.exact.replaying import Replay
from workbench.replay.exact.waypoints import kept_waypoints

__all__ = ["LastWrite", "find_last_write", "make_waypoints"]

_PIECES = 8
_WORTH = 20_000_000
"""Instructions from which on a waypoint is quicker than replaying them again."""
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


def make_waypoints(place: Path, pieces: int = _PIECES, *, progress: Progress = silent) -> list[int]:
    """Keep waypoints that cut a recording into pieces; return the instruction counts of all that are kept.

    Raises
    ------
    HungError, GuestError, StoreError
    """
    found = Description.read(place)
    wanted = np.linspace(found.begins, found.icount, pieces + 1, dtype=np.int64)[1:-1].tolist()
    known = {each.icount for each in kept_waypoints(place) if each.whole}
    if not set(wanted) <= known:
        with Replay(place) as replay:
            for each in wanted:
                progress(ProgressEvent("waypoints of the recording", each, found.icount, "instructions"))
                _keep_near(replay, each)
    return [each.icount for each in kept_waypoints(place)]


def _keep_near(replay: Replay, icount: int) -> None:
    """Keep a waypoint here or a little later: QEMU refuses while events of the log are under way."""
    for step in range(10):
        replay.to(min(icount + step * 1000, replay.description.icount))
        try:
            replay.keep_waypoint()
        except MonitorError:
            continue
        return


class _Search:
    """One question: the bytes, and a replay that is kept while the next place to look at lies ahead of it."""

    def __init__(self, place: Path, address: int, length: int) -> None:
        self.place, self.address, self.length = place, address, length
        self.replays = 0
        self._replay: Replay | None = None

    def at(self, icount: int) -> Replay:
        """Return a replay that stands at an instruction."""
        if self._replay is not None and self._replay.icount > icount:
            self.close()
        if self._replay is None:
            self._replay = Replay(self.place, near=icount, verified=self.replays > 0)
            self.replays += 1
        self._replay.to(icount)
        return self._replay

    def value(self, icount: int) -> bytes:
        """Return the bytes at an instruction."""
        with open_memory(self.at(icount).qemu) as (memory, reader):
            return read_physical(memory, reader, self.address, self.length)

    def close(self) -> None:
        """End the replay."""
        if self._replay is not None:
            self._replay.close()
            self._replay = None


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
    if not 0 < length <= _MOST_BYTES or resolution < 1:
        raise UsageError("length or resolution out of range", length=length, resolution=resolution)
    found = Description.read(place)
    high = found.icount if before is None else before
    points = [each for each in make_waypoints(place, progress=progress) if found.begins < each < high]
    search = _Search(place, address, length)
    try:
        value = search.value(high)
        low, high, was = _piece(search, [found.begins, *points], high, value)
        return _halve(search, low, high, was, value, resolution, progress)
    finally:
        search.close()


def _piece(search: _Search, points: list[int], high: int, value: bytes) -> tuple[int, int, bytes]:
    """Return the last piece at whose beginning the bytes have another value."""
    for point in reversed(points):
        if (was := search.value(point)) != value:
            return point, high, was
        high = point
    raise UsageError(
        "the bytes have this value from the beginning of the recording on", address=hex(search.address),
        cure="Ask for another address, or replay a recording that begins earlier.",
    )  # fmt: skip


def _halve(
    search: _Search, low: int, high: int, was: bytes, value: bytes, resolution: int, progress: Progress
) -> LastWrite:
    span = high - low
    while high - low > resolution:
        progress(ProgressEvent("looking for the last write", span - (high - low), span, "instructions"))
        middle = (low + high) // 2
        if (seen := search.value(middle)) == value:
            high = middle
        else:
            low, was = middle, seen
            if high - low > _WORTH:
                _try_waypoint(search.at(low))
    registers = search.at(low).qemu.monitor.human("info registers")
    return LastWrite(
        low, high, was, value, _register(registers, "RIP"), _register(registers, "CR3"), _register(registers, "CPL"),
        search.replays,
    )  # fmt: skip


def _try_waypoint(replay: Replay) -> None:
    try:
        replay.keep_waypoint()
    except MonitorError:  # events are under way here: only time is lost
        return


def _register(text: str, name: str) -> int:
    match = re.search(rf"\b{name}=([0-9a-f]{{1,16}})\b", text)
    return int(match[1], 16) if match else 0
