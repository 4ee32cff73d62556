"""A trial in production: the guest itself taken to a moment, changed, and kept only if that is committed in time.

Preconditions: the guest runs and nobody else works on it; it has a way to run commands where the change or the probe
needs one. On success the guest runs at the moment with the change applied, and a watchman of its own process waits. On
failure at any point, and whatever kills us, the guest goes back to its safety capture, or was not touched. Refuses a
second trial of a guest, and anything without the guest's name confirmed.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Self

from workbench.errors import CommandError, ConfirmationError, GuestError, RewindError, UsageError, WorkbenchError
from workbench.guest.connection import Hypervisor
from workbench.inside.doors import Inside
from workbench.model import CaptureId
from workbench.progress import Progress, silent
from workbench.rewind.outcome import Rewound
from workbench.rewind.plan import RewindPlan, plan_rewind
from workbench.store import CaseStore
from workbench.trial.acts import WATCHMAN, audit_act, mark_act, note_act, user
from workbench.trial.going_back import go_back, hold, release
from workbench.trial.probes import Probe, words_of
from workbench.trial.state import TrialFile, TrialStatus, trial_files
from workbench.trial.variant import Variant, apply_variant, refuse_no_variant
from workbench.trial.watchman import start_watchman

__all__ = ["Trial", "begin_trial", "trials_of"]

_LONGEST = 7 * 86_400.0


class Trial:
    """A trial of a guest; as a context manager it goes back at the end, unless it was committed."""

    _look_s = 0.1

    def __init__(self, store: CaseStore, file: TrialFile) -> None:
        self._store, self._file = store, file

    @property
    def id(self) -> str:
        """What it is called."""
        return self._file.directory.name

    @property
    def status(self) -> TrialStatus:
        """How it is, now."""
        return self._file.read()

    @property
    def watched(self) -> bool:
        """Whether its watchman lives; where he does not, nobody but `undo` takes the guest back."""
        return _is_watchman(self.status.watchman, self.id)

    def commit(self, *, who: str = "") -> TrialStatus:
        """Keep the guest as it is; `who` is for the audit log, by default the user.

        Raises
        ------
        UsageError
            If it is not open, or no more.
        """
        status = self._file.step("committed", why="committed", ended_by=who or user())
        note_act(self._store, status, "committed", status.ended_by)
        release(self._store, status)
        return status

    def undo(self, why: str = "it was asked to", timeout: float = 300, *, who: str = "") -> TrialStatus:
        """Take the guest back, and wait until it is; `who` is for the audit log, by default the user.

        Raises
        ------
        UsageError
            If it was committed.
        RewindError
            If it did not work; `guest_is` says what holds.
        """
        if self.status.state != "undoing":
            self._file.step("undoing", why=why, ended_by=who or user())
        return self.wait(timeout)

    def wait(self, timeout: float | None = None) -> TrialStatus:
        """Wait until it has ended.

        Raises
        ------
        GuestError
            If it has not within `timeout` seconds.
        RewindError
            If it had to go back and that did not work.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not (status := self._looked_at()).ended:
            if until is not None and time.monotonic() >= until:
                raise GuestError(f"the trial of {status.guest_name} has not ended", state=status.state)
            time.sleep(self._look_s)
        if status.state == "failed":
            raise RewindError(
                f"the trial of {status.guest_name} failed: {status.why}",
                guest_is="unknown",
                cure=f"Look at it, or undo: workbench rewind {(status.safety or status.target)[:12]} --mode production",
            )
        return status

    def _looked_at(self) -> TrialStatus:
        """Return how it is; where it goes back and nobody is left to take it there, once that is done."""
        status = self.status
        if status.state == "undoing" and not self.watched:
            return go_back(self._store.path, self._file)
        return status

    def watch_again(self) -> bool:
        """Give it another watchman where the last one died; return whether that was needed.

        A trial whose owner died, too, before it was open, goes back.

        Raises
        ------
        StoreError
            If none comes up.
        """
        status = self.status
        if status.ended or self.watched:
            return False
        detached = status.state == "open" and status.detached
        owned = not detached and Path(f"/proc/{status.owner}").exists()
        if owned and not status.watchman:
            return False  # the first one is just coming up
        if not (detached or owned) and status.state != "undoing":
            with contextlib.suppress(UsageError):  # it has gone on meanwhile
                self._file.step("undoing", why="the process that tried it ended", ended_by=WATCHMAN)
        start_watchman(self._store.path, self._file, status.owner if owned else os.getpid())
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if not self.status.ended:
            self.undo("the program that tried it left it")

    def __repr__(self) -> str:
        status = self.status
        left = "" if status.seconds_left is None else f", {status.seconds_left:.0f} s left"
        return f"<Trial {self.id[:8]} of {status.guest_name!r}: {status.state}{left}>"


def trials_of(store: CaseStore) -> list[Trial]:
    """Return the trials of a case, oldest first."""
    return [Trial(store, file) for file in trial_files(store.path)]


def begin_trial(
    hypervisor: Hypervisor,
    store: CaseStore,
    target: CaptureId,
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
    progress: Progress = silent,
) -> Trial:
    """Begin a trial; see `TrialsOfCase.trial`."""
    plan = plan_rewind(store, target, "production")
    _refuse(store, plan, confirm, commit_within, every, failures)
    refuse_no_variant(variant)
    known = {
        "guest": plan.target.guest,
        "guest_name": plan.guest_name,
        "uri": hypervisor.uri,
        "target": target,
        "commit_within": commit_within,
        "owner": os.getpid(),
        "detached": detached,
        "probe": words_of(probe),
        "every": every,
        "failures": failures,
        "who": who or user(),
    }
    trial = Trial(store, file := TrialFile.create(store.path, **known))
    try:
        start_watchman(store.path, file, os.getpid())
        status = trial.status
        audit_act(store.path, status, "begun", status.who)
        mark_act(store, status, "begun", f"target={target}")
        done = plan.execute(hypervisor, store, confirm=confirm, progress=progress)
        assert isinstance(done, Rewound)
        until = time.monotonic() + commit_within
        status = file.step("applying", safety=done.safety.id, until=until)
        hold(store, status, done.safety.id)
        apply_variant(Inside(hypervisor.guest(status.guest)), variant, min(timeout, commit_within))
        note_act(store, file.step("open"), "applied", status.who)
    except BaseException as error:
        _went_wrong(trial, error)
        raise
    return trial


def _refuse(
    store: CaseStore, plan: RewindPlan, confirm: str, commit_within: float, every: float, failures: int
) -> None:
    if confirm != plan.guest_name:
        raise ConfirmationError(
            "a trial changes the guest itself", expected=plan.guest_name, cure="Confirm it with the guest's name"
        )
    if not 1 <= commit_within <= _LONGEST:
        raise UsageError("a trial is committed within a second to a week", found=commit_within)
    if not 0.1 <= every <= _LONGEST or not 1 <= failures <= 1000:
        raise UsageError("no sense in these probes", every=every, failures=failures)
    for other in trials_of(store):
        if other.status.guest == plan.target.guest and not other.status.ended:
            raise UsageError(
                f"a trial of {plan.guest_name} is {other.status.state} already", trial=other.id, cure="End it first"
            )


def _went_wrong(trial: Trial, error: BaseException) -> None:
    """Have the guest taken back after a failure.

    Raises
    ------
    RewindError
        If a change could not be applied: the guest is as before. Other errors are the caller's to raise.
    """
    said = error.message if isinstance(error, WorkbenchError) else repr(error)
    before = trial.status
    if not before.ended and before.state != "undoing":
        trial.undo(f"it could not be begun: {said}"[:500])
    else:
        trial.wait(300)
    if before.state in ("applying", "undoing", "undone") and isinstance(error, Exception):
        ran = error.ran if isinstance(error, CommandError) else None
        raise RewindError(f"the change could not be applied: {said}", guest_is="as before", ran=ran) from error


def _is_watchman(pid: int, name: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"workbench.trial.watchman" in words and name.encode() in words
