"""Narrow down, by replays, where something took the value it has at the end.

One pass is one replay that stops at many places and looks; the last stop with another value and the one after it are
what the next pass lies between. So a span of 2**24 instructions takes four or five passes, where halving takes a dozen
replays, each from a saved state. Between two stops a value may change and change back unseen. Refuses to know what is
looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from workbench.errors import MonitorError, UsageError
from workbench.progress import Progress, ProgressEvent
from workbench.replay.exact.description import Description
from workbench.replay.exact.replaying import Replay

__all__ = ["Span", "narrow"]

_STOPS = 64
_WORTH = 20_000_000
"""Instructions from which on a waypoint is quicker than replaying them again."""

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Span(Generic[Seen]):
    """What was narrowed down to: after `after` instructions it was `was`, after `by` it is `value`."""

    after: int
    by: int
    was: Seen
    value: Seen
    replays: int


def narrow(
    place: Path,
    look: Callable[[Replay], Seen | None],
    *,
    before: int | None,
    resolution: int,
    progress: Progress,
) -> Span[Seen]:
    """Return the last span in which something took the value it has at the end, or after `before` instructions.

    Parameters
    ----------
    look : callable
        Takes a replay that stands, and returns what it sees; None where nothing can be seen, and nothing narrows there.
    resolution : int
        Instructions: a span of so many is narrow enough. Where nothing can be seen it stays wider.

    Raises
    ------
    UsageError
        If the value is the same from the beginning on, or `before` is no instruction of the recording, or none at which
        something can be seen.
    HungError, GuestError, StoreError
    """
    found = Description.read(place)
    high = found.icount if before is None else before
    if resolution < 1 or not found.begins < high <= found.icount:
        raise UsageError("no such span", begins=found.begins, ends=found.icount, before=high, resolution=resolution)
    span = _one_pass(place, look, found.begins, high, progress, verified=False)
    if span is None:
        raise UsageError(
            "it is the same from the beginning of the recording on",
            cure="Ask for something else, or in the recording that this one goes on from, if any.",
        )
    for replays in range(2, 64):
        if span.by - span.after <= resolution:
            break
        narrower = _one_pass(place, look, span.after, span.by, progress, verified=True)
        if narrower is None or narrower.by - narrower.after >= span.by - span.after:
            break
        span = Span(narrower.after, narrower.by, narrower.was, narrower.value, replays)
    return span


def _one_pass(
    place: Path, look: Callable[[Replay], Seen | None], low: int, high: int, progress: Progress, *, verified: bool
) -> Span[Seen] | None:
    stops = sorted({low + (high - low) * each // _STOPS for each in range(_STOPS + 1)})
    seen: list[tuple[int, Seen]] = []
    with Replay(place, near=low, verified=verified) as replay:
        began = replay.icount
        replay.to(low)
        if low - began > _WORTH:
            _try_waypoint(replay)
        for each in stops:
            replay.to(each)
            if (value := look(replay)) is not None:
                seen.append((each, value))
            progress(ProgressEvent(f"looking at {high - low} instructions", each - low, high - low, "instructions"))
    if not seen or seen[-1][0] != high:
        raise UsageError("nothing can be seen at this instruction", before=high, cure="Ask for one a little later.")
    for (after, was), (by, value) in zip(seen[-2::-1], seen[:0:-1], strict=True):
        if was != seen[-1][1]:
            return Span(after, by, was, value, 1)
    return None


def _try_waypoint(replay: Replay) -> None:
    try:
        replay.keep_waypoint()
    except MonitorError:  # events are under way here: only time is lost
        return
