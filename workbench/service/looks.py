"""What callers look at: status, configuration, guests, timelines, captures, clones, jobs, the audit log.

Refuses to change anything.
"""

from __future__ import annotations

import bisect
import contextlib
from collections import deque
from typing import Any

from workbench.case import Case, Clone
from workbench.errors import GuestNotFoundError, MomentNotFoundError, UsageError
from workbench.model import CaptureRecord
from workbench.service.access import Access, names_of
from workbench.service.configuration import Configuration
from workbench.service.identity import Caller, Role
from workbench.service.jobs import Job
from workbench.service.status import GuestStatus

__all__ = ["Looks"]

_CLONE = (
    *("name", "uuid", "capture", "started_ns", "seconds", "memory"),
    *("network", "segment", "identity", "clock", "thaw"),
)
"""What is told of a clone; where its files lie is its host's own affair."""


class Looks(Access):
    """The looking half of the service."""

    def status(self, caller: Caller) -> list[GuestStatus]:
        """Return how every guest is that the caller sees."""
        with self._lock:
            keepers = list(self._keepers.values())
        return [each.status() for each in keepers if caller.sees(*names_of(each))]

    def configuration(self, caller: Caller) -> tuple[int, Configuration]:
        """Return the current configuration and its number."""
        version, current = self.book.version, self.book.current()
        return version, Configuration(guests=tuple(each for each in current.guests if caller.sees(each.guest)))

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

    def clones(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the clones that the caller sees."""
        with self.case() as case:
            return [{name: getattr(each.record, name) for name in _CLONE} for each in self._clones(case, caller)]

    @staticmethod
    def _clones(case: Case, caller: Caller) -> list[Clone]:
        owners = {each.id: each.name for each in case.guests()}
        found = []
        for clone in case.clones():
            guest = case.store.record(clone.record.capture).guest
            if caller.sees(guest, owners.get(guest, guest)):
                found.append(clone)
        return found

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
