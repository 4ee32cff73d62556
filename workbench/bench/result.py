"""A measured figure and its peers. Refuses to measure and to print."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.errors import WorkbenchError
from workbench.guest import virt

__all__ = ["Peer", "Result", "measured", "medians", "percentile", "uncertainty"]


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return the smallest sample that at least `percent` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def medians(parts: Sequence[dict[str, int]]) -> str:
    """Describe where time went: the median of each part, in ms, of `parts` in ns; parts of next to nothing left out."""
    names = {name: None for each in parts for name in each}
    found = {name: statistics.median(each.get(name, 0) for each in parts) / 1e6 for name in names}
    return ", ".join(f"{name} {ms:.1f}" for name, ms in found.items() if ms >= 0.05)


def uncertainty(samples: Sequence[float]) -> float:
    """Return how far the median may be off: the interquartile range over the square root of the number of samples."""
    return (percentile(samples, 75) - percentile(samples, 25)) / math.sqrt(len(samples))


@dataclass(frozen=True, slots=True)
class Peer:
    """Another tool doing the same on the same guest.

    Attributes
    ----------
    samples : tuple of float
        In the result's unit; empty where it could not run.
    how : str
        How it was measured, or why it could not run.
    """

    name: str
    samples: tuple[float, ...]
    how: str

    @property
    def median(self) -> float | None:
        """The median sample; None where it could not run."""
        return statistics.median(self.samples) if self.samples else None

    def to_json(self) -> dict[str, Any]:
        """Return it with what was derived from the samples."""
        return {**asdict(self), "median": self.median}


@dataclass(frozen=True, slots=True)
class Result:
    """One measured figure.

    Attributes
    ----------
    name : str
    unit : str
        "ms", "s", "kB", "%", "MB" or "x", a ratio.
    reach : float
        What the median should not exceed, in `unit`.
    samples : tuple of float
        At least one.
    how : str
        How it was measured.
    peers : tuple of Peer
    note : str
        What this run showed besides: parts of a pause, a cross-check.
    reach_p95 : float or None
        What the 95th percentile should not exceed, where that is asked.
    settled : bool
        Whether the samples agree well enough to say that the reach was met or missed.
    """

    name: str
    unit: str
    reach: float
    samples: tuple[float, ...]
    how: str
    peers: tuple[Peer, ...] = ()
    note: str = ""
    reach_p95: float | None = None
    settled: bool = True

    @property
    def median(self) -> float:
        """The median sample."""
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return percentile(self.samples, 95)

    @property
    def met(self) -> bool:
        """Whether the reach was met; says little where it is not settled."""
        return self.median <= self.reach and (self.reach_p95 is None or self.p95 <= self.reach_p95)

    def to_json(self) -> dict[str, Any]:
        """Return it with what was derived from the samples."""
        peers = [peer.to_json() for peer in self.peers]
        return {**asdict(self), "peers": peers, "median": self.median, "p95": self.p95, "met": self.met}


def measured(name: str, how: str, measure: Callable[[], Sequence[float]]) -> Peer:
    """Measure a peer; one that cannot run is told with its reason, never left out."""
    try:
        return Peer(name, tuple(measure()), how)
    except (WorkbenchError, OSError, virt.libvirtError) as error:
        return Peer(name, (), f"could not run: {error}")
