"""What stays of a case and what goes: holds, retention, prune, check.

Refuses to drop what was not planned first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd

from workbench.case.clone import Clone
from workbench.case.moment import Moment
from workbench.errors import UsageError
from workbench.model import Damage, GuestRecord, Mark
from workbench.progress import Progress, silent
from workbench.store import CaseStore, PrunePlan, plan_prune
from workbench.timeline import Timeline
from workbench.timeline.retention import HOLD, Retention, choose, dropped

__all__ = ["KeepingOfCase"]


class KeepingOfCase:
    """What stays of a case and what goes."""

    store: CaseStore

    def guest(self, name: str | None = None) -> GuestRecord:
        """Return the guest with this name or UUID."""
        raise NotImplementedError

    def moment(self, when: str = "latest", guest: str | None = None) -> Moment:
        """Return the moment that `when` names."""
        raise NotImplementedError

    def mark(
        self,
        name: str,
        moment: str | Moment = "latest",
        *,
        note: str = "",
        kind: str = "note",
        guest: str | None = None,
    ) -> Mark:
        """Name a moment."""
        raise NotImplementedError

    def clones(self) -> Sequence[Clone]:
        """Return the clones of this case."""
        raise NotImplementedError

    def hold(self, moment: str | Moment = "latest", note: str = "", guest: str | None = None) -> Mark:
        """Keep a moment whatever the retention says, until it is released."""
        found = moment if isinstance(moment, Moment) else self.moment(moment, guest)
        return self.mark(f"hold-{found.id[:12]}", found, note=note, kind=HOLD)

    def release(self, moment: str | Moment, guest: str | None = None) -> list[Mark]:
        """End the holds of a moment; return them.

        Raises
        ------
        UsageError
            If it is not held.
        """
        found = moment if isinstance(moment, Moment) else self.moment(moment, guest)
        holds = [each for each in self.store.marks(found.guest.id) if (each.kind, each.capture) == (HOLD, found.id)]
        if not holds:
            raise UsageError("the moment is not held", capture=found.id, cure="See the marks of the timeline.")
        for each in holds:
            self.store.remove_mark(each)
        return holds

    def retained(
        self, retention: Retention | str, guest: str | None = None, *, now_ns: int | None = None
    ) -> pd.DataFrame:
        """Return which captures a retention keeps, and why; columns as `choose` documents."""
        rules = retention if isinstance(retention, Retention) else Retention.parse(retention)
        timeline = Timeline(self.store, self.guest(guest).id)
        cloned = {clone.record.capture: f"the clone {clone.name} runs from it" for clone in self.clones()}
        now = time.time_ns() if now_ns is None else now_ns
        return choose(rules, timeline.records(), timeline.marks(), cloned, now)

    def plan_prune(
        self,
        retention: Retention | str,
        guest: str | None = None,
        *,
        now_ns: int | None = None,
        progress: Progress = silent,
    ) -> PrunePlan:
        """Return the plan of dropping what a retention does not keep; print it, then `plan.execute()`.

        Parameters
        ----------
        retention : Retention or str
            `all for 10m, 1m for 1d, 1h for 30d, at most 50 GB`.

        Raises
        ------
        UsageError, DamagedError
        """
        chosen = self.retained(retention, guest, now_ns=now_ns)
        return plan_prune(self.store, self.guest(guest).id, dropped(chosen), progress)

    def check(self, *, progress: Progress = silent) -> list[Damage]:
        """Read everything and return every damage; empty where the case is whole."""
        return self.store.check(progress=progress)
