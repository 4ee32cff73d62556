"""Trials of guests: begun, committed and undone by callers, as jobs of the service.

The recorder makes way first: while a guest is on trial nobody records it, since whoever takes it back needs all of it;
afterwards the series goes on. Refuses probes that would have the service's host connect to where its settings do not
say: those of HTTP and TCP are named there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.case import Case, CommandProbe, HttpProbe, RewindPlan, TcpProbe, Trial
from workbench.errors import GuestNotFoundError, UsageError
from workbench.progress import Progress
from workbench.service.access import names_of, require_confirmed
from workbench.service.acts import Acts
from workbench.service.identity import Caller, Role
from workbench.service.jobs import Job

__all__ = ["TrialAsked", "Trials"]

_TOLD = (
    *("id", "guest", "guest_name", "target", "safety", "state", "why", "begun_ns", "commit_within", "seconds_left"),
    *("who", "ended_by", "probed", "failed"),
)


@dataclass(frozen=True, slots=True)
class TrialAsked:
    """What a caller asks for.

    Attributes
    ----------
    script : str
        The change, for the guest's `sh`; "" for none.
    files : mapping of str to bytes
        The change, by paths in the guest; not beside a script.
    commit_within, every, timeout : float
        Seconds.
    failures : int
    probe : str
        One of the settings; "" for none.
    probe_command : str
        A script for the guest's `sh`; "" for none.
    """

    script: str
    files: Mapping[str, bytes]
    commit_within: float
    probe: str
    probe_command: str
    every: float
    failures: int
    timeout: float


class Trials(Acts):
    """The part of the service that has guests on trial."""

    def trials(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the trials that the caller sees, oldest first."""
        with self.case() as case:
            return [_told(each) for each in case.trials() if caller.sees(each.status.guest, each.status.guest_name)]

    def trial(self, caller: Caller, name: str) -> dict[str, Any]:
        """Return how a trial is.

        Raises
        ------
        GuestNotFoundError
            If there is none, or it is not for the caller.
        """
        with self.case() as case:
            return _told(self._trial(case, caller, name))

    def begin_trial(
        self, caller: Caller, guest: str, when: str, asked: TrialAsked, *, confirm: str
    ) -> tuple[RewindPlan, Job]:
        """Begin to take a guest to a moment on trial.

        Raises
        ------
        Forbidden, ConfirmationError, MomentNotFoundError, UsageError
            Nothing was done.
        """
        self._require(caller, Role.OPERATOR, guest)
        plan = self.plan(caller, guest, when, "production")
        require_confirmed("a trial", confirm, plan.guest_name)
        probe = self._probe(asked)
        identity, target = plan.target.guest, plan.target.id
        with self.case() as case:
            if any(each.status.guest == identity and not each.status.ended for each in case.trials()):
                raise UsageError(f"a trial of {plan.guest_name} is under way", cure="End it first: see GET /trials.")

        def deed(progress: Progress) -> dict[str, Any]:
            with self._aside(identity), self.case() as case:
                trial = case.trial(
                    f"id:{target}",
                    asked.script or asked.files or None,
                    commit_within=asked.commit_within,
                    confirm=confirm,
                    probe=probe,
                    every=asked.every,
                    failures=asked.failures,
                    timeout=asked.timeout,
                    detached=True,
                    who=caller.name,
                    guest=identity,
                    progress=progress,
                )
                return {"trial": trial.id, "state": trial.status.state}

        return plan, self._job(caller, "trial", identity, deed, target=target, commit_within=asked.commit_within)

    def commit_trial(self, caller: Caller, name: str, *, confirm: str) -> dict[str, Any]:
        """Keep the guest as it is.

        Raises
        ------
        Forbidden, GuestNotFoundError, ConfirmationError
        UsageError
            If it is not open, or no more.
        """
        self._require(caller, Role.OPERATOR)
        with self.case() as case:
            trial = self._trial(case, caller, name)
            status = trial.status
            require_confirmed("a trial", confirm, status.guest_name)
            self._note(caller, "trial commit", "asked", guest=status.guest, trial=status.id)
            try:
                trial.commit(who=caller.name)
            except UsageError as error:
                self._note(caller, "trial commit", "failed", guest=status.guest, trial=status.id, told=error.message)
                raise
            self._note(caller, "trial commit", "done", guest=status.guest, trial=status.id)
            return _told(trial)

    def undo_trial(self, caller: Caller, name: str, *, why: str, confirm: str) -> Job:
        """Begin to take the guest back.

        Raises
        ------
        Forbidden, GuestNotFoundError, ConfirmationError
        UsageError
            If it has ended.
        """
        self._require(caller, Role.OPERATOR)
        with self.case() as case:
            status = self._trial(case, caller, name).status
        require_confirmed("a trial", confirm, status.guest_name)
        if status.ended:
            raise UsageError(f"the trial of {status.guest_name} is {status.state}", cure="See GET /trials.")

        def deed(_progress: Progress) -> dict[str, Any]:
            with self._aside(status.guest), self.case() as case:
                trial = self._trial(case, caller, status.id)
                return {"trial": status.id, "state": trial.undo(why, who=caller.name).state}

        return self._job(caller, "trial undo", status.guest, deed, trial=status.id)

    def _on_trial(self, guest: str) -> str:
        """Say that a guest is on trial, as long as somebody watches it: nothing else may hold up its recording."""
        with self.case() as case:
            for each in case.trials():
                status = each.status
                if status.guest == guest and not status.ended and each.watched:
                    return f"on trial ({status.id[:8]}): it is {status.state}"
        return ""

    def _aside(self, guest: str) -> contextlib.AbstractContextManager[None]:
        keeper = next((each for each in self._all() if guest in names_of(each)), None)
        return contextlib.nullcontext() if keeper is None else keeper.aside()

    @staticmethod
    def _trial(case: Case, caller: Caller, name: str) -> Trial:
        found = next((each for each in case.trials() if each.id == name), None)
        if found is None or not caller.sees(found.status.guest, found.status.guest_name):
            raise GuestNotFoundError(f"no trial {name[:80]!r}", cure="See GET /trials.")
        return found

    def _probe(self, asked: TrialAsked) -> HttpProbe | TcpProbe | CommandProbe | None:
        if asked.probe_command:
            return CommandProbe(asked.probe_command)
        if not asked.probe:
            return None
        found = self.settings.probes.get(asked.probe)
        if found is None:
            known = ", ".join(sorted(self.settings.probes)) or "none"
            raise UsageError(f"no probe {asked.probe[:80]!r}", known=known, cure="Have it named in the settings.")
        return found.probe()


def _told(trial: Trial) -> dict[str, Any]:
    status = trial.status
    return {**{name: getattr(status, name) for name in _TOLD}, "watched": trial.watched}
