"""What all that the service does stands on: who may, which guest is meant, what is noted, and the keepers.

Refuses acts whose caller has not the role, or does not see the guest: a guest that is not for a caller does not exist
for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from workbench.case import Case, Moment
from workbench.errors import ConfirmationError, GuestNotFoundError, MomentNotFoundError, UsageError
from workbench.model import GuestId
from workbench.service.configuration import ConfigurationBook
from workbench.service.identity import Caller, Role
from workbench.service.jobs import Jobs
from workbench.service.keeper import Keeper
from workbench.service.running import Running
from workbench.service.settings import Settings
from workbench.store.auditlog import AuditLog

__all__ = ["Access", "Forbidden", "names_of", "require_confirmed"]


class Forbidden(UsageError):  # noqa: N818  (what it is called where it is raised: a refusal, not a fault)
    """The caller's role does not allow it; nothing was done."""


class Access:
    """The common ground of `Looks` and `Acts`."""

    settings: Settings
    audit: AuditLog
    book: ConfigurationBook
    jobs: Jobs
    running: Running
    _lock: threading.RLock
    _keepers: dict[str, Keeper]

    def case(self) -> Case:
        """Open the case; close it after use."""
        return Case(self.settings.case, uri=self.settings.connect)

    def _all(self) -> Iterable[Keeper]:
        with self._lock:
            return list(self._keepers.values())

    def _keeper(self, caller: Caller, role: Role, guest: str) -> Keeper:
        self._require(caller, role, guest)
        found = next((each for each in self._all() if guest in names_of(each) and caller.sees(*names_of(each))), None)
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
        if guest is not None and not (caller.sees(guest) or caller.sees(*self._aliases(guest))):
            raise GuestNotFoundError(f"no guest {guest[:80]!r}", cure="See GET /guests.")

    def _aliases(self, guest: str) -> set[str]:
        """Return all names of a guest: a caller may be allowed one and ask by another."""
        found = {guest}
        for keeper in self._all():
            if guest in names_of(keeper):
                found |= set(names_of(keeper))
        with self.case() as case:
            for each in case.guests():
                if found & {each.id, each.name}:
                    found |= {each.id, each.name}
        return found

    def _note(self, caller: Caller, what: str, result: str, **facts: object) -> None:
        self.audit.add(caller.name, what, result, **facts)


def require_confirmed(what: str, confirm: str, name: str) -> None:
    """Make sure that an act on a guest itself was confirmed with its name.

    Raises
    ------
    ConfirmationError
    """
    if confirm != name:
        raise ConfirmationError(
            f"{what} changes the guest itself", expected=name, cure="Send `confirm` with the guest's name."
        )


def names_of(keeper: Keeper) -> tuple[str, ...]:
    """Return all names of a keeper's guest: as it is configured, its UUID, its name."""
    return (keeper.configuration.guest, *(keeper.identity or ()))
