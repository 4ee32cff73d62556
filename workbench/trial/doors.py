"""What the one door gives its Case of this room: trials in production.

Refuses to load what works on guests before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from workbench.guest.connection import Hypervisor
from workbench.model import CaptureRecord
from workbench.progress import Progress, silent
from workbench.rewind.plan import RewindPlan
from workbench.store import CaseStore

if TYPE_CHECKING:
    from workbench.store.auditlog import AuditLog
    from workbench.trial.probes import Probe
    from workbench.trial.trial import Trial
    from workbench.trial.variant import Variant

__all__ = ["AMoment", "TrialsOfCase"]


class AMoment(Protocol):
    """A moment of a case."""

    @property
    def record(self) -> CaptureRecord:
        """Its capture."""


class TrialsOfCase:
    """Trials of a case's guests."""

    store: CaseStore

    @property
    def hypervisor(self) -> Hypervisor:
        """The connection to the guests."""
        raise NotImplementedError

    def moment(self, when: str = "latest", guest: str | None = None) -> Any:
        """Return the moment that `when` names."""
        raise NotImplementedError

    def trial(
        self,
        when: str | AMoment | RewindPlan,
        variant: Variant = None,
        *,
        commit_within: float,
        confirm: str,
        probe: Probe | None = None,
        every: float = 5.0,
        failures: int = 3,
        timeout: float = 60.0,
        detached: bool = False,
        who: str = "",
        guest: str | None = None,
        progress: Progress = silent,
    ) -> Trial:
        """Take the guest itself to a moment, apply a change in it, and keep that only if it is committed in time.

        Unless `trial.commit()` comes in time, and also where probes fail, the change cannot be applied, or this process
        ends, the guest goes back to the safety capture of the present: a process of its own sees to that.

        Parameters
        ----------
        when : str, Moment or RewindPlan
            Where to; `latest` to try a change on the present.
        variant : str, Path, mapping, callable or None
            A script for the guest's `sh`; a file of the host with one; paths in the guest and their content; a function
            that is given the guest's inside (`run`, `put`, `get`, `wait_for`).
        commit_within : float
            Seconds from when the guest is at the moment; what the change takes counts.
        confirm : str
            The guest's name.
        probe : HttpProbe, TcpProbe or CommandProbe, optional
            Asked at once and then `every` so many seconds; `failures` in a row end the trial.
        timeout : float
            Seconds for a script.
        detached : bool
            Once the change is applied, the trial does not end with this process.
        who : str
            On whose behalf, for the audit log; by default the user's.

        Raises
        ------
        ConfirmationError, UsageError, GuestBusyError
            Nothing was done.
        RewindError
            `guest_is` says what holds; where the change could not be applied, "as before".
        """
        from workbench.trial.trial import begin_trial

        if isinstance(when, RewindPlan):
            target = when.target.id
        else:
            target = (self.moment(when, guest) if isinstance(when, str) else when).record.id
        return begin_trial(
            self.hypervisor,
            self.store,
            target,
            variant,
            commit_within=commit_within,
            confirm=confirm,
            probe=probe,
            every=every,
            failures=failures,
            timeout=timeout,
            detached=detached,
            who=who,
            progress=progress,
        )

    @property
    def audit_log(self) -> AuditLog:
        """What was done to guests on trial, by whom, and what came of it: `lines()`, `verify()`, `last`."""
        from workbench.trial.acts import audit_log

        return audit_log(self.store.path)

    def trials(self) -> list[Trial]:
        """Return the trials of this case, oldest first, also those that other processes began."""
        from workbench.trial.trial import trials_of

        return trials_of(self.store)
