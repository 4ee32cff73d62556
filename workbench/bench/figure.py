"""A measured figure and its peers. Refuses to print."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.errors import WorkbenchError

__all__ = ["Figure", "Peer", "measured", "percentile"]


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least `percent` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another tool doing the same on the same guest.

    Attributes
    ----------
    samples : tuple of float
        In the figure's unit; empty where it could not run.
    why : str
        How it was measured, or why it could not run.
    """

    name: str
    samples: tuple[float, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes
    ----------
    name : str
    unit : str
        "ms", "s", "kB", "%", "MB".
    reach : float
        What the median should not exceed, in `unit`.
    samples : tuple of float
    peers : tuple of Peer
    note : str
    reach_p95 : float or None
        What the 95th percentile should not exceed, where that is asked.
    """

    name: str
    unit: str
    reach: float
    samples: tuple[float, ...]
    peers: tuple[Peer, ...] = ()
    note: str = ""
    reach_p95: float | None = field(default=None)

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
        """Whether the reach was met."""
        return self.median <= self.reach and (self.reach_p95 is None or self.p95 <= self.reach_p95)

    def to_json(self) -> dict[str, Any]:
        """Return it with what was derived from the samples."""
        return {**asdict(self), "median": self.median, "p95": self.p95, "met": self.met}


def measured(name: str, why: str, measure: Callable[[], Sequence[float]]) -> Peer:
    """Measure a peer; one that cannot run is told with its reason, never left out."""
    try:
        return Peer(name, tuple(measure()), why)
    except (WorkbenchError, OSError) as error:
        return Peer(name, (), f"could not run: {error}")
