"""Pruning by a service, from afar: planned there, and exactly what was planned is carried out there.

Refuses a retention that the service's settings could not say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import UsageError
from workbench.model import CaptureRef, GuestId
from workbench.progress import Progress, silent
from workbench.remote.answers import making_sense
from workbench.remote.jobs import finished
from workbench.store.link import Link
from workbench.store.prune import COUNTS, Pruned, PruneSummary
from workbench.timeline.retention import Retention

__all__ = ["RemotePrunePlan", "retention_told"]

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_NS = 10**9


@dataclass(frozen=True, eq=False)
class RemotePrunePlan(PruneSummary):
    """What a prune by a service would do; print it, then `execute`. The service keeps a plan for a while."""

    _word: str = field(repr=False)
    _link: Link = field(repr=False)
    _done: Callable[[], None] = field(repr=False)

    @classmethod
    def told(
        cls,
        link: Link,
        guest: GuestId,
        drop: tuple[CaptureRef, ...],
        answer: Mapping[str, Any],
        done: Callable[[], None],
    ) -> RemotePrunePlan:
        """Return a plan as a service told it; `done` is called whenever some of it may be done.

        Raises
        ------
        StoreError
            If that makes no sense.
        """
        with making_sense("a plan"):
            plan = answer["plan"]
            if int(plan["dropped"]) != len(drop):
                raise ValueError("another number of captures than its rules give")
            kept, rebase, remove, rewrite, moving, frees = (int(plan[name]) for name in COUNTS)
            return cls(guest, drop, kept, rebase, remove, rewrite, moving, frees, str(answer["confirm"]), link, done)

    def execute(self, progress: Progress = silent) -> Pruned:
        """Have it done; captures may be read and taken meanwhile.

        Raises
        ------
        UsageError
            If the case was pruned, or a capture to be dropped was marked, since the plan was made. Nothing was done.
        ConfirmationError
            If the service has forgotten the plan.
        StoreError
            Every kept capture is readable; the next prune goes on.
        OutcomeUnknownError
            If the service is not heard of any more.
        """
        _, job = self._link.act("POST", "/prune", {"guest": self.guest, "confirm": self._word})
        try:
            done = finished(self._link, job, progress)
        finally:
            self._done()
        with making_sense("a prune"):
            names = ("dropped", "rebased", "moved", "packs", "freed")
            dropped, rebased, moved, packs, freed = (int(done[name]) for name in names)
            return Pruned(dropped, rebased, moved, packs, freed, complete=bool(done["complete"]))


def retention_told(retention: Retention) -> dict[str, Any]:
    """Return a retention as a service takes it.

    Raises
    ------
    UsageError
        If it has a span that is no whole number of seconds.
    """
    tiers = [
        {"every": _span(each.every_ns) if each.every_ns else "all", "for": _span(each.for_ns)}
        for each in retention.tiers
    ]
    return {"tiers": tiers, "max_bytes": retention.max_bytes}


def _span(span_ns: int) -> str:
    seconds, rest = divmod(span_ns, _NS)
    if rest:
        raise UsageError("a span of whole seconds is needed", found=f"{span_ns} ns")
    unit, size = next(each for each in _UNITS if seconds % each[1] == 0)
    return f"{seconds // size}{unit}"
