"""The service: keepers, configuration, jobs, tokens and the audit log, under one door for whoever speaks HTTP.

Refuses to begin where its state or its configuration cannot be read.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from workbench.capture.triggers.gate import Gate, GateRules
from workbench.case import Case
from workbench.service.access import Forbidden
from workbench.service.budget import Budget, BudgetState
from workbench.service.chores import Chores
from workbench.service.configuration import Configuration, ConfigurationBook, GuestConfiguration
from workbench.service.files import private_directory
from workbench.service.findings import Findings
from workbench.service.identity import Caller, Role, Tokens
from workbench.service.jobs import Jobs
from workbench.service.keeper import Keeper
from workbench.service.pruning import PrunePlans, Pruning
from workbench.service.rules import check
from workbench.service.running import Running
from workbench.service.settings import Settings
from workbench.service.trials import Trials
from workbench.service.trialwatch import TrialWatch
from workbench.service.upkeep import Upkeep
from workbench.store.auditlog import AuditLog
from workbench.trial.acts import audit_log

__all__ = ["Forbidden", "Service"]


class Service(Findings, Pruning, Trials):
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
        self.jobs, self._closing = Jobs(), threading.Event()
        self.running = Running(settings.connect)
        self.budget = Budget(settings.budget.cpu, settings.budget.bandwidth)
        self.began_ns = time.time_ns()
        self._lock = threading.RLock()
        self._keepers: dict[str, Keeper] = {}
        self._gates: dict[str, Gate] = {}
        Case.open_or_create(settings.case, uri=settings.connect).close()
        self.trialwatch = TrialWatch(self.case, audit_log(settings.case).path, self.audit)
        self.chores, self.plans, self._planning = Chores(Path(settings.case)), PrunePlans(), threading.Lock()
        self.upkeep = Upkeep(
            self.chores,
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
        self._settle(self._closing)
        self.upkeep.start()
        self.trialwatch.start()

    def close(self) -> None:
        """Let every recorder finish and detach, and wait for jobs."""
        self._closing.set()
        self.upkeep.end()
        with self._lock:
            keepers = list(self._keepers.values())
        enders = [threading.Thread(target=keeper.end) for keeper in keepers]
        for each in enders:
            each.start()
        for each in enders:
            each.join()
        self.jobs.close()
        self.trialwatch.end()

    def budgeted(self, caller: Caller) -> BudgetState | None:
        """Return what captures of all guests may take, and took of late; None for who must not know of the others."""
        return None if caller.guests else self.budget.state(time.monotonic())

    def configure(self, caller: Caller, changed: GuestConfiguration) -> int:
        """Make a guest's configuration the current one; returns the new version's number.

        Raises
        ------
        Forbidden, StoreError
            The one before holds.
        UsageError
            If its rules do not compile: says where.
        """
        self._require(caller, Role.ADMIN, changed.guest)
        check(changed.triggers.increments, self.settings.rules)
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
                before = None if keeper is None else keeper.configuration
                if before is None or before.triggers.gate != each.triggers.gate:  # else it goes on with what it counts
                    gate = each.triggers.gate
                    self._gates[each.guest] = Gate(GateRules(gate.debounce_s, gate.cool_down_s, gate.budget_per_hour))
                if keeper is None:
                    self._keepers[each.guest] = self._begin(each)
                elif before != each:
                    keeper.configure(each)
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
            why_off=self.running.why_off,
            busy=self._on_trial,
            silent_s=settings.limits.silent_s,
            free_bytes=settings.limits.free_bytes,
            saw=self._triggered,
            found=self._examined,
            rules=settings.rules,
            budget=self.budget,
            audit_every=settings.audit_every,
        )
        keeper.start()
        return keeper
