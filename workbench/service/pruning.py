"""Pruning that somebody asks for: a plan first, then exactly what was planned, as a job.

Refuses to drop what no plan told of. A plan is named by a secret of its own, kept for a while, and judged again when it
is carried out: what was marked, held or cloned meanwhile stays, and then nothing is done at all.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from workbench.errors import ConfirmationError, StoreBusyError, UsageError
from workbench.service.access import names_of
from workbench.service.acts import Acts
from workbench.service.chores import Chores
from workbench.service.configuration import RetentionSettings
from workbench.service.identity import Caller, Role
from workbench.service.jobs import Job
from workbench.service.upkeep import Upkeep

__all__ = ["PrunePlans", "Pruning"]

_PLAN_S = 300.0
_KEPT = 8


@dataclass(frozen=True, slots=True)
class _Planned:
    """What a plan was made of: 32 bytes for each capture that goes."""

    guest: str
    retention: dict[str, Any]
    as_of_ns: int
    drop: bytes


class PrunePlans:
    """The newest plans, by the word that confirms each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plans: OrderedDict[str, _Planned] = OrderedDict()

    def keep(self, guest: str, retention: dict[str, Any], told: dict[str, Any]) -> str:
        """Keep a plan as the chore told it, and return its word."""
        word = secrets.token_urlsafe(12)
        planned = _Planned(guest, retention, int(told["as_of_ns"]), bytes.fromhex("".join(told["drop"])))
        with self._lock:
            self._plans[word] = planned
            while len(self._plans) > _KEPT:
                self._plans.popitem(last=False)
        return word

    def take(self, word: str, guest: str) -> _Planned:
        """Return a plan of a guest, and forget it: it is carried out once.

        Raises
        ------
        ConfirmationError
            If there is none of that word for this guest.
        """
        with self._lock:
            found = self._plans.get(word)
            if found is not None and found.guest == guest:
                return self._plans.pop(word)
        raise ConfirmationError(
            "no such plan of a prune of this guest",
            cure="Ask with `dry_run` for the plan, and send the word that it gives as `confirm`.",
        )


class Pruning(Acts):
    """The part of the service that drops captures when asked."""

    chores: Chores
    plans: PrunePlans
    upkeep: Upkeep
    _planning: threading.Lock

    def plan_prune(self, caller: Caller, guest: str, retention: RetentionSettings | None) -> tuple[dict[str, Any], str]:
        """Return what a prune to a retention would do, and the word that confirms it. Nothing is written.

        Parameters
        ----------
        retention : RetentionSettings or None
            None for the guest's own.

        Raises
        ------
        Forbidden, GuestNotFoundError, UsageError
        StoreBusyError
            If another is being planned.
        """
        self._require(caller, Role.OPERATOR, guest)
        identity, name = self._named(guest)
        rules = self._retention(retention, guest, identity, name)
        if not self._planning.acquire(blocking=False):
            raise StoreBusyError("another prune is being planned", cure="Ask again in a moment.")
        try:
            told = self.chores.run("plan", _PLAN_S, guest=identity, retention=rules)
        finally:
            self._planning.release()
        word = self.plans.keep(identity, rules, told)
        return {**{name: told[name] for name in told if name != "drop"}, "guest": name}, word

    def prune(self, caller: Caller, guest: str, confirm: str) -> Job:
        """Begin to carry out a plan, which is named by its word.

        Raises
        ------
        Forbidden, GuestNotFoundError, ConfirmationError
            Nothing was done.
        """
        self._require(caller, Role.ADMIN, guest)
        identity, _ = self._named(guest)
        plan = self.plans.take(confirm, identity)

        def deed(_progress: object) -> dict[str, Any]:
            drop = [plan.drop[at : at + 32].hex() for at in range(0, len(plan.drop), 32)]
            done = self.chores.run("drop", guest=identity, retention=plan.retention, as_of_ns=plan.as_of_ns, drop=drop)
            self.upkeep.count(done["dropped"], done["freed"])
            return done

        return self._job(caller, "prune", identity, deed)

    def _named(self, guest: str) -> tuple[str, str]:
        """Return the UUID and the name of a guest of the case."""
        with self.case() as case:
            known = case.guest(self._known(case, guest))
        return known.id, known.name

    def _retention(self, asked: RetentionSettings | None, *names: str) -> dict[str, Any]:
        """Return what was asked for, or the retention of the guest's configuration."""
        found = asked
        if found is None:
            configured = next((each for each in self._all() if set(names) & set(names_of(each))), None)
            found = configured.configuration.retention if configured is not None else RetentionSettings()
        if not found.tiers:
            raise UsageError("no tier says what to keep", guest=names[0][:80], cure="Send `retention` with tiers.")
        return found.plain()
