"""The service: keepers, configuration, jobs, tokens and the audit log, under one door for whoever speaks HTTP.

Every act is noted in the audit log before it is done and after; where it cannot be noted it is not done. Refuses acts
whose caller has not the role, or does not see the guest: a guest that is not for a caller does not exist for it.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as OutOfTimeError
from pathlib import Path
from typing import Any, Literal

from workbench.capture.triggers.alerts import SEVERITIES, read_alert
from workbench.capture.triggers.event import Event
from workbench.capture.triggers.gate import Gate, GateRules, Verdict
from workbench.case import Case, Clone, Moment, RewindPlan
from workbench.errors import (
    ConfirmationError,
    GuestNotFoundError,
    MomentNotFoundError,
    OutcomeUnknownError,
    UsageError,
    WorkbenchError,
)
from workbench.model import CaptureRecord, GuestId, Mark
from workbench.progress import Progress
from workbench.service.auditlog import AuditLog
from workbench.service.configuration import Configuration, ConfigurationBook, GuestConfiguration
from workbench.service.files import private_directory
from workbench.service.identity import Caller, Role, Tokens
from workbench.service.jobs import Job, Jobs
from workbench.service.keeper import Keeper
from workbench.service.running import Running
from workbench.service.settings import Settings
from workbench.service.status import GuestStatus
from workbench.service.upkeep import Upkeep

__all__ = ["Forbidden", "Service"]

_CAPTURE_S = 120.0
_REWIND_S = 900.0


class Forbidden(UsageError):  # noqa: N818  (what it is called where it is raised: a refusal, not a fault)
    """The caller's role does not allow it; nothing was done."""


class Service:
    """Everything that the service does, for a caller.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        state = private_directory(settings.state)
        self.tokens = Tokens(state / "tokens.json")
        self.audit = AuditLog(state / "audit.jsonl")
        self.book = ConfigurationBook(state / "configuration")
        self.jobs = Jobs()
        self.running = Running(settings.connect)
        self.began_ns = time.time_ns()
        self._lock = threading.RLock()
        self._keepers: dict[str, Keeper] = {}
        self._gates: dict[str, Gate] = {}
        Case.open_or_create(settings.case, uri=settings.connect).close()
        self.upkeep = Upkeep(
            Path(settings.case),
            lambda: self.book.current().guests,
            prune_every_s=settings.prune_every_s,
            check_every_s=settings.check_every_s,
            note=lambda what, result, facts: self.audit.add("upkeep", what, result, **facts),
        )

    def start(self) -> None:
        """Keep every guest that the current configuration names.

        Raises
        ------
        DamagedError
            If the configuration cannot be read.
        """
        self._apply(self.book.current())
        self.upkeep.start()

    def close(self) -> None:
        """Let every recorder finish and detach, and wait for jobs."""
        self.upkeep.end()
        with self._lock:
            keepers = list(self._keepers.values())
        enders = [threading.Thread(target=keeper.end) for keeper in keepers]
        for each in enders:
            each.start()
        for each in enders:
            each.join()
        self.jobs.close()

    def case(self) -> Case:
        """Open the case; close it after use."""
        return Case(self.settings.case, uri=self.settings.connect)

    # Looking.

    def status(self, caller: Caller) -> list[GuestStatus]:
        """Return how every guest is that the caller sees."""
        with self._lock:
            keepers = list(self._keepers.values())
        return [each.status() for each in keepers if caller.sees(*_names(each))]

    def configuration(self, caller: Caller) -> tuple[int, Configuration]:
        """Return the current configuration and its number."""
        version, current = self.book.version, self.book.current()
        return version, Configuration(guests=tuple(each for each in current.guests if caller.sees(each.guest)))

    # Configuration.

    def configure(self, caller: Caller, changed: GuestConfiguration) -> int:
        """Make a guest's configuration the current one; returns the new version's number.

        Raises
        ------
        Forbidden, StoreError
            The one before holds.
        """
        self._require(caller, Role.ADMIN, changed.guest)
        with self._lock:
            self._note(caller, "capture-config", "asked", guest=changed.guest)
            wanted = self.book.current().with_guest(changed)
            version = self.book.put(wanted, caller.name, time.time_ns())
            self._apply(wanted)
        self._note(caller, "capture-config", "done", guest=changed.guest, version=version)
        return version

    def _apply(self, wanted: Configuration) -> None:
        with self._lock:
            for each in wanted.guests:
                keeper = self._keepers.get(each.guest)
                if keeper is None:
                    self._keepers[each.guest] = self._begin(each)
                elif keeper.configuration != each:
                    keeper.configure(each)
                gate = each.triggers.gate
                self._gates[each.guest] = Gate(GateRules(gate.debounce_s, gate.cool_down_s, gate.budget_per_hour))
            gone = [name for name in self._keepers if wanted.of(name) is None]
            for name in gone:
                self._keepers.pop(name).end()

    def _begin(self, wanted: GuestConfiguration) -> Keeper:
        settings = self.settings
        keeper = Keeper(
            wanted,
            case=Path(settings.case),
            connect=settings.connect,
            find=self.running.find,
            free_bytes=settings.limits.free_bytes,
            saw=self._triggered,
        )
        keeper.start()
        return keeper

    # Captures and events.

    def capture(self, caller: Caller, guest: str, reason: str, mark: str | None) -> dict[str, Any]:
        """Take a capture now and return its id and time.

        Raises
        ------
        Forbidden, GuestError, CaptureError, StoreError
        """
        keeper = self._keeper(caller, Role.OPERATOR, guest)
        if "manual" not in keeper.configuration.modes:
            raise UsageError("manual captures are switched off", guest=guest, cure="See its configuration.")
        self._note(caller, "capture", "asked", guest=guest, reason=reason, mark=mark)
        answer = self._wait(
            keeper.ask(do="capture", mode="manual", reason=reason, mark=mark), _CAPTURE_S, caller, "capture", guest
        )
        return {"capture": answer["capture"], "time_ns": answer["time_ns"]}

    def event(self, caller: Caller, guest: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take an alert or event of others, and a capture where the guest's gate lets it pass.

        Raises
        ------
        Forbidden, UsageError, GuestError
        """
        keeper = self._keeper(caller, Role.OPERATOR, guest)
        event, severity = read_alert(body, time.time_ns())
        rules = keeper.configuration
        least = rules.triggers.alerts.least
        if "event" not in rules.modes or SEVERITIES.index(severity) < SEVERITIES.index(least):
            return {"taken": False, "why": f"below {least}" if "event" in rules.modes else "event captures are off"}
        keeper.require_recording()  # an event that cannot be captured must not make its gate close
        verdict = self._decide(keeper, event)
        if not verdict.passes:
            return {"taken": False, "why": verdict.why, "folded": verdict.folded}
        self._note(caller, "event", "asked", guest=guest, name=event.name, reason=event.reason)
        answer = self._wait(self._send(keeper, event), _CAPTURE_S, caller, "event", guest)
        return {"taken": True, "capture": answer["capture"], "time_ns": answer["time_ns"], "folded": verdict.folded}

    def _triggered(self, keeper: Keeper, event: Event) -> None:
        """Take what a trigger source of a guest saw, in its keeper's thread; nobody waits for what comes of it."""
        if "event" not in keeper.configuration.modes or not self._decide(keeper, event).passes:
            return
        guest = keeper.configuration.guest
        self.audit.add(f"trigger:{event.source}", "event", "asked", guest=guest, name=event.name, reason=event.reason)
        self._send(keeper, event)

    def _decide(self, keeper: Keeper, event: Event) -> Verdict:
        with self._lock:
            gate = self._gates[keeper.configuration.guest]
            verdict = gate.decide(event, time.monotonic_ns())
            keeper.tally.gates(gate.held_back)
        return verdict

    @staticmethod
    def _send(keeper: Keeper, event: Event) -> Any:
        return keeper.ask(do="event", source=event.source, name=event.name, reason=event.reason, time_ns=event.time_ns)

    # Marks.

    def mark(self, caller: Caller, guest: str, when: str, name: str, *, kind: str, note: str) -> Mark:
        """Name a moment.

        Raises
        ------
        Forbidden, MomentNotFoundError, AmbiguousMomentError, UsageError, StoreError
        """
        self._require(caller, Role.OPERATOR, guest)
        with self.case() as case:
            moment = self._moment(case, when, guest)
            self._note(caller, "mark", "asked", guest=moment.guest.id, capture=moment.id, name=name, kind=kind)
            made = case.mark(name, moment, kind=kind, note=note)
        self._note(caller, "mark", "done", guest=made.guest, capture=made.capture)
        return made

    def release(self, caller: Caller, guest: str, when: str) -> list[Mark]:
        """End the holds of a moment, and return them.

        Raises
        ------
        Forbidden, MomentNotFoundError, AmbiguousMomentError, UsageError, StoreError
        """
        self._require(caller, Role.OPERATOR, guest)
        with self.case() as case:
            moment = self._moment(case, when, guest)
            self._note(caller, "release", "asked", guest=moment.guest.id, capture=moment.id)
            ended = case.release(moment)
        self._note(caller, "release", "done", guest=moment.guest.id, capture=moment.id)
        return ended

    # Going back.

    def plan(self, caller: Caller, guest: str, when: str, mode: Literal["test", "production"]) -> RewindPlan:
        """Return the plan of a rewind.

        Raises
        ------
        Forbidden, MomentNotFoundError, AmbiguousMomentError
        """
        self._require(caller, Role.VIEWER, guest)
        with self.case() as case:
            return case.plan_rewind(self._moment(case, when, guest), mode)

    def rewind(
        self,
        caller: Caller,
        guest: str,
        when: str,
        mode: Literal["test", "production"],
        *,
        confirm: str = "",
        network: bool = False,
    ) -> Job:
        """Begin a rewind: a clone in test mode, the guest itself in production.

        Raises
        ------
        Forbidden, ConfirmationError, MomentNotFoundError, GuestError
            Nothing was done.
        """
        self._require(caller, Role.OPERATOR, guest)
        plan = self.plan(caller, guest, when, mode)
        if mode == "production" and confirm != plan.guest_name:
            raise ConfirmationError(
                "a production rewind changes the guest itself",
                expected=plan.guest_name,
                cure="Send `confirm` with the guest's name.",
            )
        target, identity = plan.target.id, plan.target.guest
        if mode == "test":
            return self._job(
                caller, "clone", identity, lambda progress: self._clone(identity, target, network, progress)
            )
        return self._job(caller, "rewind", identity, lambda progress: self._rewind(identity, target, confirm, progress))

    def clone(self, caller: Caller, guest: str, when: str, network: bool) -> Job:
        """Begin to start a clone.

        Raises
        ------
        Forbidden, MomentNotFoundError
        """
        self._require(caller, Role.OPERATOR, guest)
        with self.case() as case:
            moment = self._moment(case, when, guest)
        identity, target = moment.record.guest, moment.id
        return self._job(caller, "clone", identity, lambda progress: self._clone(identity, target, network, progress))

    def remove_clone(self, caller: Caller, name: str) -> None:
        """Destroy a clone.

        Raises
        ------
        Forbidden, UsageError
        """
        self._require(caller, Role.OPERATOR)
        with self.case() as case:
            found = next((each for each in self._clones(case, caller) if name in (each.name, each.record.uuid)), None)
            if found is None:
                raise GuestNotFoundError(f"no clone {name[:80]!r} in this case", cure="See GET /clones.")
            self._note(caller, "remove clone", "asked", clone=found.name)
            case.remove_clone(found.record.uuid)
        self._note(caller, "remove clone", "done", clone=found.name)

    def clones(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the clones that the caller sees."""
        names = ("name", "uuid", "capture", "started_ns", "seconds")
        with self.case() as case:
            return [{name: getattr(each.record, name) for name in names} for each in self._clones(case, caller)]

    @staticmethod
    def _clones(case: Case, caller: Caller) -> list[Clone]:
        owners = {each.id: each.name for each in case.guests()}
        found = []
        for clone in case.clones():
            guest = case.store.record(clone.record.capture).guest
            if caller.sees(guest, owners.get(guest, guest)):
                found.append(clone)
        return found

    def _clone(self, guest: str, capture: str, network: bool, progress: Progress) -> dict[str, Any]:
        with self.case() as case:
            clone = case.moment(f"id:{capture}", guest).clone(network=network, progress=progress)
            return {"clone": clone.name, "uuid": clone.record.uuid, "seconds": clone.record.seconds}

    def _rewind(self, guest: str, capture: str, confirm: str, progress: Progress) -> dict[str, Any]:
        keeper = next((each for each in self._all() if guest in _names(each)), None)
        if keeper is not None and keeper.status().state == "recording":
            answer = keeper.ask(do="rewind", to=capture, confirm=confirm).result(_REWIND_S)
            return dict(answer["rewound"])
        with self.case() as case:
            done = case.rewind(
                case.plan_rewind(f"id:{capture}", "production", guest), confirm=confirm, progress=progress
            )
            assert not isinstance(done, Clone)
            return {
                "how": done.how,
                "target": done.target.id,
                "safety": done.safety.id,
                "downtime_ns": done.downtime_ns,
            }

    # Common.

    def guests(self, caller: Caller) -> list[dict[str, Any]]:
        """Return every guest that runs, is configured or has captures, and that the caller sees."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.running.frame().to_dict("records"):
            found[row["uuid"]] = {"name": row["name"], "uuid": row["uuid"], "running": True}
        with self.case() as case:
            for guest in case.guests():
                told = found.setdefault(guest.id, {"name": guest.name, "uuid": guest.id, "running": False})
                told["captures"] = len(case.store.captures(guest.id))
        configured = self.book.current()
        for each in configured.guests:
            if not any(each.guest in (told["name"], told["uuid"]) for told in found.values()):
                found[each.guest] = {"name": each.guest, "uuid": "", "running": False}
        return [
            {"captures": 0, **told, "configured": configured.of(told["name"], told["uuid"]) is not None}
            for told in sorted(found.values(), key=lambda told: (told["name"], told["uuid"]))
            if caller.sees(told["name"], told["uuid"])
        ]

    def timeline(self, caller: Caller, guest: str, since_ns: int, limit: int) -> dict[str, Any]:
        """Return captures of a guest from an instant on, oldest first, and the marks among them.

        Raises
        ------
        Forbidden, GuestNotFoundError
        """
        self._require(caller, Role.VIEWER, guest)
        with self.case() as case:
            identity = self._known(case, guest)
            refs = case.store.captures(identity)
            first = bisect.bisect_left(refs, since_ns, key=lambda ref: ref.time_ns)
            shown = refs[first : first + limit]
            last = shown[-1].time_ns if len(refs) > first + limit else 2**63
            marks = [each for each in case.marks(identity) if since_ns <= each.time_ns <= last]
        names = ("name", "kind", "note", "time_ns", "capture")
        return {
            "guest": identity,
            "captures": [{"id": ref.id, "time_ns": ref.time_ns} for ref in shown],
            "marks": [{name: getattr(each, name) for name in names} for each in marks],
            "more": len(refs) > first + limit,
        }

    def capture_record(self, caller: Caller, capture: str) -> CaptureRecord:
        """Return one capture by its id or the beginning of one, of a guest that the caller sees.

        Raises
        ------
        MomentNotFoundError, AmbiguousMomentError, UsageError
        """
        with self.case() as case:
            for guest in case.guests():
                if caller.sees(guest.id, guest.name):
                    with contextlib.suppress(MomentNotFoundError):
                        return case.moment(f"id:{capture}", guest.id).record
        raise MomentNotFoundError(f"no capture {capture[:80]!r}", cure="See GET /timeline.")

    def job(self, caller: Caller, job: str) -> Job:
        """Return a job, of a guest that the caller sees.

        Raises
        ------
        MomentNotFoundError
            If there is none of that id, or it is not for the caller.
        """
        try:
            found = self.jobs.get(job)
        except UsageError as error:
            raise GuestNotFoundError(error.message, cure=error.cure) from error
        if not caller.sees(found.guest, *self._aliases(found.guest)):
            raise GuestNotFoundError("no such job", job=job[:80])
        return found

    def audit_lines(self, caller: Caller, limit: int) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the newest lines of the audit log, and what is wrong with it.

        Raises
        ------
        Forbidden
        """
        self._require(caller, Role.ADMIN)
        return list(deque(self.audit.lines(), maxlen=limit)), self.audit.verify()

    def _all(self) -> Iterable[Keeper]:
        with self._lock:
            return list(self._keepers.values())

    def _keeper(self, caller: Caller, role: Role, guest: str) -> Keeper:
        self._require(caller, role, guest)
        found = next((each for each in self._all() if guest in _names(each) and caller.sees(*_names(each))), None)
        if found is None:
            raise GuestNotFoundError(f"no guest {guest[:80]!r} is configured", cure="See GET /guests.")
        return found

    @staticmethod
    def _known(case: Case, guest: str) -> GuestId:
        try:
            return case.guest(guest).id
        except UsageError as error:
            raise GuestNotFoundError(error.message, cure="See GET /guests.") from error

    @classmethod
    def _moment(cls, case: Case, when: str, guest: str) -> Moment:
        """Return a moment of this guest; a link says its guest itself, and that may be one not for the caller."""
        known = cls._known(case, guest)
        found = case.moment(when, known)
        if found.record.guest != known:
            raise MomentNotFoundError("the moment is of another guest", cure="Name the guest that it is of.")
        return found

    def _require(self, caller: Caller, role: Role, guest: str | None = None) -> None:
        if caller.role < role:
            raise Forbidden(
                f"this takes the role {role.name.lower()}", caller=caller.name, role=caller.role.name.lower()
            )
        if guest is not None and caller.guests and not caller.sees(guest, *self._aliases(guest)):
            raise GuestNotFoundError(f"no guest {guest[:80]!r}", cure="See GET /guests.")

    def _aliases(self, guest: str) -> set[str]:
        """Return all names of a guest: a caller may be allowed one and ask by another."""
        found = {guest}
        for keeper in self._all():
            if guest in _names(keeper):
                found |= set(_names(keeper))
        with self.case() as case:
            for each in case.guests():
                if found & {each.id, each.name}:
                    found |= {each.id, each.name}
        return found

    def _note(self, caller: Caller, what: str, result: str, **facts: object) -> None:
        self.audit.add(caller.name, what, result, **facts)

    def _job(self, caller: Caller, what: str, guest: str, deed: Callable[[Progress], dict[str, Any]]) -> Job:
        self._note(caller, what, "asked", guest=guest)

        def ended(job: Job) -> None:
            told = (job.error or {}).get("message") or job.result
            self.audit.add(job.who, what, job.state, guest=guest, job=job.id, told=told)

        return self.jobs.start(what, caller.name, deed, guest=guest, ended=ended)

    def _wait(self, future: Any, patience: float, caller: Caller, what: str, guest: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = future.result(patience)
        except OutOfTimeError:
            self._note(caller, what, "unknown", guest=guest)
            raise OutcomeUnknownError("the recorder did not answer in time", cure="Look at the timeline.") from None
        except WorkbenchError as error:
            self._note(caller, what, "failed", guest=guest, told=error.message)
            raise
        self._note(caller, what, "done", guest=guest, capture=answer.get("capture"))
        return answer


def _names(keeper: Keeper) -> tuple[str, ...]:
    return (keeper.configuration.guest, *(keeper.identity or ()))
