"""`RemoteCase`: a service's case, with the reading of any case and the acts of the service.

Moments, diffs and questions are worked out on this machine, from bytes that are checked by their digests as they are of
a local case; captures, marks, rewinds and clones are asked of the service, which knows who may. Refuses what it cannot
do from afar, and says what does instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pandas as pd

from workbench.case import Case, Clone, Moment, RewindPlan, Rewound
from workbench.errors import GuestNotFoundError, StoreError, UsageError
from workbench.inquiry.analysis import Analyst
from workbench.model import CaptureId, Damage, Mark
from workbench.progress import Progress, ProgressEvent, silent
from workbench.remote.answers import clone_of, making_sense, mark_of
from workbench.remote.clone import RemoteClone
from workbench.remote.jobs import finished
from workbench.remote.pruning import RemotePrunePlan, retention_told
from workbench.remote.recording import RemoteRecording
from workbench.remote.refusals import NotFromAfar
from workbench.remote.trials import RemoteTrial, change_told, probe_told, trial_of
from workbench.rewind.clone import CloneRecord
from workbench.rewind.identity import Clock, Identity
from workbench.rewind.network import Network, network_of
from workbench.rewind.plan import undo_target
from workbench.store.address import Access
from workbench.store.link import Link
from workbench.store.opening import open_remote
from workbench.store.remote import RemoteBackend
from workbench.timeline.retention import Retention, dropped
from workbench.trial.doors import AMoment
from workbench.trial.probes import Probe
from workbench.trial.variant import Variant

__all__ = ["RemoteCase"]

_STATUS = (
    "guest", "health", "why", "state", "modes", "interval_asked_s", "interval_held_s", "rpo_achieved_s",
    "last_capture", "last_capture_ns", "age_s", "pause_p50_ms", "pause_p95_ms", "captures", "failures",
    "missed_ticks", "bytes_stored", "lag_s", "tracker", "consistency", "consistency_why", "consistent_captures",
    "frozen_ms", "last_error", "last_error_ns", "free_bytes", "cpu_cores",
    "write_bytes_s", "held_back", "uuid",
)  # fmt: skip


class RemoteCase(NotFromAfar, Case):
    """A case that a service has.

    Parameters
    ----------
    link : Link

    Attributes
    ----------
    path : Path
        This machine's place for what is read and made of it; `location` is the service's address.

    Raises
    ------
    UsageError, FormatError, StoreError
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._begin(open_remote(link), link.address)

    @classmethod
    def connect(cls, address: str, *, token: str | None = None, ca: Path | str | None = None) -> RemoteCase:
        """Open the case of a service; see `workbench.connect`."""
        told = Access.of_environment()
        access = Access(told.token if token is None else token, told.ca if ca is None else str(ca))
        link = Link(address, access)
        try:
            return cls(link)
        except BaseException:
            link.close()
            raise

    @property
    def location(self) -> str:
        """The address of the service."""
        return self._link.address

    def close(self) -> None:
        """End the worker and close the connections."""
        super().close()
        self._link.close()

    def _new_analyst(self) -> Analyst:
        return Analyst(self.location, access=self._link.access, place=self.path)

    # The service.

    def status(self, guest: str | None = None) -> pd.DataFrame:
        """Return how every guest is that the service keeps, or one.

        Returns
        -------
        DataFrame
            guest, health, why, state (str), modes (list), interval_asked_s, interval_held_s, rpo_achieved_s, age_s,
            pause_p50_ms, pause_p95_ms, lag_s, cpu_cores, write_bytes_s (float64), last_capture (str), last_capture_ns
            (UTC), captures, failures, missed_ticks, bytes_stored, free_bytes (int64), tracker, last_error (str),
            consistency, consistency_why (str), consistent_captures (int64), frozen_ms (float64),
            held_back (dict), uuid (str).
            `attrs["upkeep"]` says what pruning and checking found last, `attrs["budget"]` what captures of all guests
            may take together, and take.

        Raises
        ------
        GuestNotFoundError
            If the service keeps no such guest, or it is not for the caller.
        StoreError
        """
        told = self._link.look("/capture-status")
        with making_sense("its guests"):
            rows = [each for each in told["guests"] if guest is None or guest in (each["guest"], each["uuid"])]
            frame = pd.DataFrame(rows, columns=list(_STATUS))
        if guest is not None and not rows:
            raise GuestNotFoundError(f"the service keeps no guest {guest[:80]!r}", cure="See `status()`.")
        frame.attrs |= {name: told.get(name) or {} for name in ("upkeep", "budget")}
        return frame

    def configuration(self) -> dict[str, Any]:
        """Return the current configuration: `version`, and `guests`, each as `configure` takes it."""
        return self._link.look("/capture-config")

    def configure(self, guest: str, **changes: Any) -> dict[str, Any]:
        """Change what the service does for a guest; what is not named stays as it is.

        Parameters
        ----------
        guest : str
            As the configuration names it; one that it does not name yet is added.
        **changes
            `enabled`, `interval_s`, `modes`, `triggers`, `retention`, `quiesce`, each whole.

        Returns
        -------
        dict
            The guest's configuration now.

        Raises
        ------
        UsageError
            If a field is wrong, or the caller may not: nothing was changed.
        StoreError
        """
        known = _of_guest(self.configuration(), guest)
        told, _ = self._link.act("POST", "/capture-config", {**known, **changes, "guest": guest})
        return _of_guest(told, guest)

    # Acts.

    def record(self, guest: str, **options: Any) -> RemoteRecording:  # type: ignore[override]
        """Return the guest's recording by the service, which goes on whatever becomes of it here.

        Raises
        ------
        GuestNotFoundError
            If the service does not keep it.
        UnsupportedError
            If it is to be recorded in another way: that is the service's configuration.
        """
        options.pop("progress", None)
        if asked := sorted(name for name, value in options.items() if value):
            self._refuse(f"the service chooses how it records: {', '.join(asked)}", "Leave these out.")
        self.status(guest)
        return RemoteRecording(self, guest)

    def captured(self, guest: str, reason: str, mark: str | None, *, quiesce: bool = False) -> dict[str, Any]:
        """Have a capture taken, with file systems frozen if asked for; return its id and time."""
        body = {"guest": guest, "reason": reason or "manual", "mark": mark, "quiesce": quiesce}
        return self._link.act("POST", "/captures", body)[0]

    def event(self, guest: str, name: str, reason: str) -> dict[str, Any]:
        """Tell the service of an event; return whether it was worth a capture, and why not."""
        told = {"name": name, "reason": reason or name, "severity": "warning"}
        return self._link.act("POST", "/events", {"guest": guest, "event": told})[0]

    @staticmethod
    def require_taken(told: Mapping[str, Any]) -> None:
        """Raise what held an event back.

        Raises
        ------
        UsageError
        """
        if not told.get("taken"):
            raise UsageError("the event was held back", why=str(told.get("why"))[:200], cure="Wait, or ask by hand.")

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
        found = moment if isinstance(moment, Moment) else self.moment(moment, guest)
        body = {"guest": found.guest.id, "target": f"id:{found.id}", "name": name, "kind": kind, "note": note}
        told, _ = self._link.act("POST", "/marks", body)
        return mark_of(told.get("guest"), told.get("mark") or {})

    def release(self, moment: str | Moment, guest: str | None = None) -> list[Mark]:
        """End the holds of a moment; return them.

        Raises
        ------
        UsageError
            If it is not held.
        """
        found = moment if isinstance(moment, Moment) else self.moment(moment, guest)
        told, _ = self._link.act("POST", "/marks/release", {"guest": found.guest.id, "target": f"id:{found.id}"})
        with making_sense("marks"):
            return [mark_of(told["guest"], each) for each in told["marks"]]

    def plan_rewind(
        self, when: str | Moment, mode: Literal["test", "production"] = "test", guest: str | None = None
    ) -> RewindPlan:
        """Return the plan of a rewind, as the service makes it; print it, then `case.rewind(plan)`."""
        moment = when if isinstance(when, Moment) else self.moment(when, guest)
        body = {"guest": moment.guest.id, "target": f"id:{moment.id}", "mode": mode, "dry_run": True}
        answer, _ = self._link.act("POST", "/rewind", body)
        with making_sense("a plan"):
            told = answer["plan"]
            present = self.store.record(CaptureId(str(told["present"])))
            counts = int(told["pages"]), int(told["clusters"])
            reshaped = tuple(str(each) for each in told["reshaped"])
            return RewindPlan(
                str(told["guest"]), mode, moment.record, present, *counts, reshaped, int(told["left_behind"])
            )

    def plan_undo(self, guest: str | None = None) -> RewindPlan:
        """Return the plan that undoes the guest's last rewind."""
        known = self.guest(guest)
        return self.plan_rewind(f"id:{undo_target(self.store, known)}", "production", known.id)

    def rewind(
        self, plan: RewindPlan, *, confirm: str | None = None, network: bool = False, progress: Progress = silent
    ) -> Rewound | Clone:
        """Have a plan executed: a clone in test mode, the guest itself in production (`confirm` is then its name).

        Raises
        ------
        ConfirmationError, RewindError, GuestError
        OutcomeUnknownError
            If the service is not heard of any more.
        """
        body = {
            "guest": plan.target.guest,
            "target": f"id:{plan.target.id}",
            "mode": plan.mode,
            "confirm": confirm or "",
            "options": {"network": network},
        }
        done = self._done("/rewind", body, progress)
        with making_sense("a rewind"):
            if plan.mode == "test":
                return self._clone(str(done["uuid"]))
            target, safety = (self.store.record(CaptureId(str(done[name]))) for name in ("target", "safety"))
            ends = target, safety, str(done["how"]), int(done["downtime_ns"])
            return Rewound(*ends, plan.pages, plan.clusters, {}, str(done.get("thaw", ""))[:500])

    def _done(self, path: str, body: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Begin a job and follow it to its end; return its result."""
        _, job = self._link.act("POST", path, body)
        if not job.startswith("/jobs/"):
            raise StoreError("the service tells of no job", service=self.location, cure="Ask who runs it.")
        return finished(self._link, job, progress)

    def start_clone(
        self,
        moment: Moment,
        *,
        name: str | None = None,
        network: bool | Network = "none",
        segment: str | None = None,
        identity: Identity | Literal["new"] | None = None,
        clock: Clock = "kept",
        run: bool = True,
        progress: Progress = silent,
    ) -> Clone:
        """Have a clone of a moment started; see `Moment.clone`."""
        if name is not None or not run:
            self._refuse("the service names clones itself, and lets them run", "Leave name and run out.")
        body: dict[str, Any] = {
            "guest": moment.guest.id,
            "target": f"id:{moment.id}",
            "network": network_of(network, segment),
            "segment": segment,
            "identity": self._asked(identity),
            "clock": clock,
        }
        done = self._done("/clones", body, progress)
        with making_sense("a clone"):
            return self._clone(str(done["uuid"]))

    def _asked(self, identity: Identity | Literal["new"] | None) -> dict[str, bool | str] | str | None:
        """Return an identity as the service takes it."""
        if not isinstance(identity, Identity):
            return identity
        if identity.login is not None:
            self._refuse("the service is told no passwords of guests", "Leave login out, or start it beside the case.")
        return {name: getattr(identity, name) for name in ("hostname", "mac", "machine_id", "address")}

    def clones(self) -> Sequence[RemoteClone]:
        """Return the clones of this case, oldest first."""
        answer = self._link.look("/clones")
        with making_sense("clones"):
            told = [clone_of(each, self.location) for each in answer["clones"]]
        return [RemoteClone(self, record) for record in sorted(told, key=lambda each: each.started_ns)]

    def remove_clone(self, name: str) -> CloneRecord:
        """Destroy a clone and its files; only clones of this case can be named."""
        found = self._clone(name).record
        self._link.act("DELETE", f"/clones/{quote(found.uuid, safe='')}")
        return found

    def _clone(self, name: str) -> RemoteClone:
        found = next((each for each in self.clones() if name in (each.name, each.record.uuid)), None)
        if found is None:
            raise GuestNotFoundError(f"no clone {name[:80]!r} in this case", cure="See `clones()`.")
        return found

    # Keeping.

    def check(self, *, progress: Progress = silent) -> list[Damage]:
        """Read everything anew from the service and return every damage; empty where the case is whole."""
        self._forget()
        return super().check(progress=progress)

    def _forget(self) -> None:
        """Drop everything that is kept of the case: the next look asks the service."""
        backend = self.store.backend
        assert isinstance(backend, RemoteBackend)
        backend.forget()
        self.store.packs.forget()
        self.store.forget()

    def plan_prune(  # type: ignore[override]  # what a service plans, it carries out
        self,
        retention: Retention | str,
        guest: str | None = None,
        *,
        now_ns: int | None = None,
        progress: Progress = silent,
    ) -> RemotePrunePlan:
        """Return the service's plan of dropping what a retention does not keep; print it, then `plan.execute()`.

        Raises
        ------
        UsageError, StoreError, UnsupportedError
        """
        if now_ns is not None:
            self._refuse("a service prunes by its own clock", "Leave now_ns out.")
        known = self.guest(guest).id
        rules = retention if isinstance(retention, Retention) else Retention.parse(retention)
        progress(ProgressEvent("the service plans"))
        answer, _ = self._link.act(
            "POST", "/prune", {"guest": known, "retention": retention_told(rules), "dry_run": True}
        )
        with making_sense("a plan"):
            chosen = self.retained(rules, known, now_ns=int(answer["plan"]["as_of_ns"]))
        gone = dropped(chosen)
        drop = tuple(each for each in self.store.captures(known) if each.id in gone)
        return RemotePrunePlan.told(self._link, known, drop, answer, self._forget)

    def trial(
        self,
        when: str | AMoment | RewindPlan,
        variant: Variant = None,
        *,
        commit_within: float,
        confirm: str,
        probe: Probe | str | None = None,
        every: float = 5.0,
        failures: int = 3,
        timeout: float = 60.0,
        detached: bool = True,
        who: str = "",
        guest: str | None = None,
        progress: Progress = silent,
    ) -> RemoteTrial:
        """Have the guest itself taken to a moment with a change, and back unless that is committed in time.

        As `TrialsOfCase.trial`, but the change is no function, `probe` is a command or the name of one of the service's
        own, the service knows who asks, and the trial never ends with this process.

        Raises
        ------
        ConfirmationError, UsageError, UnsupportedError
            Nothing was done.
        RewindError
            `guest_is` says what holds.
        OutcomeUnknownError
            If the service is not heard of any more.
        """
        if who or not detached:
            self._refuse("a service knows who asks, and goes on without them", "Leave `who` and `detached` out.")
        if isinstance(when, RewindPlan):
            target = when.target
        else:
            target = (self.moment(when, guest) if isinstance(when, str) else when).record
        numbers = {"commit_within": commit_within, "every": every, "failures": failures, "timeout": timeout}
        body = {"guest": target.guest, "target": f"id:{target.id}", "confirm": confirm, **numbers}
        done = self._done("/trials", {**body, **change_told(variant), **probe_told(probe)}, progress)
        with making_sense("a trial"):
            told = self._link.look(f"/trials/{quote(str(done['trial']), safe='')}")
            return RemoteTrial(self._link, trial_of(told["trial"], self.location))

    def trials(self) -> list[RemoteTrial]:  # type: ignore[override]
        """Return the trials of this case, oldest first."""
        answer = self._link.look("/trials")
        with making_sense("trials"):
            return [RemoteTrial(self._link, trial_of(each, self.location)) for each in answer["trials"]]


def _of_guest(told: Mapping[str, Any], guest: str) -> dict[str, Any]:
    """Return a guest's part of a configuration; empty where it has none."""
    with making_sense("its configuration"):
        return next((dict(each) for each in told["guests"] if each["guest"] == guest), {})
