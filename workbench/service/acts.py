"""What callers have done: captures, events, marks, rewinds, clones.

Every act is noted in the audit log before it is done and after. Refuses what cannot be noted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as OutOfTimeError
from functools import partial
from typing import Any, Literal

from workbench.capture.triggers.alerts import SEVERITIES, read_alert
from workbench.capture.triggers.event import Event
from workbench.capture.triggers.gate import Gate, Verdict
from workbench.case import Clone, RewindPlan, running_guests
from workbench.errors import (
    GuestNotFoundError,
    OutcomeUnknownError,
    UsageError,
    WorkbenchError,
)
from workbench.model import Mark
from workbench.progress import Progress
from workbench.service.access import names_of, require_confirmed
from workbench.service.identity import Caller, Role
from workbench.service.jobs import Job
from workbench.service.keeper import Keeper
from workbench.service.looks import Looks
from workbench.service.settling import Begun, settle, unfinished

__all__ = ["Acts"]

_CAPTURE_S = 120.0
_REWIND_S = 900.0


class Acts(Looks):
    """The acting half of the service, over what can be looked at."""

    _gates: dict[str, Gate]

    def capture(
        self, caller: Caller, guest: str, reason: str, mark: str | None, *, quiesce: bool = False
    ) -> dict[str, Any]:
        """Take a capture now and return its id, time and consistency; `quiesce` freezes file systems for this one.

        Raises
        ------
        Forbidden, GuestError, CaptureError, StoreError
        """
        keeper = self._keeper(caller, Role.OPERATOR, guest)
        if "manual" not in keeper.configuration.modes:
            raise UsageError("manual captures are switched off", guest=guest, cure="See its configuration.")
        self._note(caller, "capture", "asked", guest=guest, reason=reason, mark=mark)
        asked = keeper.ask(do="capture", mode="manual", reason=reason, mark=mark, quiesce=quiesce)
        answer = self._wait(asked, _CAPTURE_S, caller, "capture", guest)
        return {name: answer[name] for name in ("capture", "time_ns", "consistency", "consistency_why")}

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
            keeper.let_go(event)
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
        told = {"source": event.source, "name": event.name, "reason": event.reason, "time_ns": event.time_ns}
        return keeper.ask(do="event", held=bool(event.facts.get("held")), **told)

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
        Forbidden, ConfirmationError, MomentNotFoundError, GuestError, UnsupportedError
            Nothing was done.
        """
        if mode == "test":
            return self.clone(caller, guest, when, {"network": network})
        self._require(caller, Role.OPERATOR, guest)
        plan = self.plan(caller, guest, when, mode)
        require_confirmed("a production rewind", confirm, plan.guest_name)
        target, identity = plan.target.id, plan.target.guest
        return self._job(
            caller,
            "rewind",
            identity,
            lambda progress: self._rewind(identity, target, confirm, progress),
            target=target,
        )

    def clone(self, caller: Caller, guest: str, when: str, options: Mapping[str, Any]) -> Job:
        """Begin to start a clone.

        Parameters
        ----------
        options : mapping
            Network, segment, identity and clock, as `Moment.clone` takes them.

        Raises
        ------
        Forbidden, MomentNotFoundError, UsageError, UnsupportedError
            Nothing was started.
        """
        self._require(caller, Role.OPERATOR, guest)
        with self.case() as case:
            moment = self._moment(case, when, guest)
            moment.check_clone(**options)
        identity, target = moment.record.guest, moment.id
        return self._job(caller, "clone", identity, lambda progress: self._clone(identity, target, options, progress))

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

    def _clone(self, guest: str, capture: str, options: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        with self.case() as case:
            clone = case.moment(f"id:{capture}", guest).clone(**options, progress=progress)
            record = clone.record
            return {"clone": clone.name, "uuid": record.uuid, "seconds": record.seconds, "thaw": record.thaw}

    def _rewind(self, guest: str, capture: str, confirm: str, progress: Progress) -> dict[str, Any]:
        keeper = next((each for each in self._all() if guest in names_of(each)), None)
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
                "thaw": done.thaw,
            }

    def _job(
        self, caller: Caller, what: str, guest: str, deed: Callable[[Progress], dict[str, Any]], **facts: object
    ) -> Job:
        number = self.jobs.number()
        self._note(caller, what, "asked", guest=guest, job=number, **facts)
        return self.jobs.start(what, caller.name, deed, guest=guest, number=number, ended=self._ended)

    def _ended(self, job: Job) -> None:
        told = (job.error or {}).get("message") or job.result
        self.audit.add(job.who, job.what, job.state, guest=job.guest, job=job.id, told=told)

    def _settle(self, stop: threading.Event) -> None:
        """Begin to settle what a service before this one had begun: jobs of the same ids, until `stop`."""
        for begun in unfinished(self.audit.lines()):
            self.jobs.start(
                begun.what,
                begun.who,
                partial(self._settled, begun, stop),
                guest=begun.guest,
                number=begun.job,
                ended=self._ended,
            )

    def _settled(self, begun: Begun, stop: threading.Event, _progress: Progress) -> dict[str, Any]:
        def recorded() -> bool:
            return any(each.status().state == "recording" for each in self._all() if begun.guest in names_of(each))

        def runs() -> bool:
            return begun.guest in set(running_guests(self.settings.connect)["uuid"])  # now, not a second ago

        with self.case() as case:
            settle(begun, case.store, recorded=recorded, runs=runs, stop=stop)

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
