"""Upkeep of the case by the clock: pruning to each guest's retention, and checking all of it (`service.chores`).

Refuses to prune a guest without a retention, and by a clock that was just set forward.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from workbench.errors import WorkbenchError
from workbench.service.chores import Chores
from workbench.service.configuration import GuestConfiguration
from workbench.service.leap import Leap

__all__ = ["Upkeep", "UpkeepState"]

Note = Callable[[str, str, dict[str, Any]], None]


@dataclass(slots=True)
class UpkeepState:
    """What upkeep found last.

    Attributes
    ----------
    pruned_ns, checked_ns : int or None
        When it ended last.
    freed_bytes, dropped : int
        By all prunes since the service began.
    over_bytes : int
        What protected captures take beyond the limits.
    damaged_captures : tuple of str
        Captures that the last check found damaged.
    damage : int
        Damages that it found.
    error : str
        What the last prune and check failed of; empty where they did not.
    """

    pruned_ns: int | None = None
    checked_ns: int | None = None
    freed_bytes: int = 0
    dropped: int = 0
    over_bytes: int = 0
    damaged_captures: tuple[str, ...] = ()
    damage: int = 0
    error: str = ""


class Upkeep:
    """Prunes and checks by the clock.

    Parameters
    ----------
    chores : Chores
    guests : callable
        Gives the configurations that hold.
    prune_every_s, check_every_s : float
        Seconds between; no checks for 0.
    note : callable
        Hears what was done, its result, and facts.
    leap : Leap, optional
        Watches the clock by which captures are old.
    """

    def __init__(
        self,
        chores: Chores,
        guests: Callable[[], Iterable[GuestConfiguration]],
        *,
        prune_every_s: float,
        check_every_s: float,
        note: Note,
        leap: Leap | None = None,
    ) -> None:
        self.state = UpkeepState()
        self._chores, self._guests, self._note = chores, guests, note
        self._leap = leap or Leap()
        self._every = {"prune": prune_every_s, "check": check_every_s}
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._wrong: dict[str, str] = {}
        self._thread = threading.Thread(target=self._keep, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """End; a prune that is cut short is finished by the next one."""
        self._stop.set()
        self._chores.end()
        if self._thread.is_alive():
            self._thread.join(30)

    def count(self, dropped: int, freed: int) -> None:
        """Count what a prune dropped and freed, bytes; of those that somebody asked for too."""
        with self._counting:
            self.state.dropped += dropped
            self.state.freed_bytes += freed

    def _keep(self) -> None:
        due = {what: time.monotonic() + every for what, every in self._every.items() if every}
        while due and not self._stop.wait(max(0.0, min(due.values()) - time.monotonic())):
            what = min(due, key=lambda each: due[each])
            self._prune() if what == "prune" else self._check()
            due[what] = time.monotonic() + self._every[what]

    def _prune(self) -> None:
        leapt = self._leap.seconds()
        if leapt:
            self._said("prune", f"the host's clock was set forward by {leapt:.0f} s: nothing is pruned by it for a day")
            return
        over, wrong = 0, ""
        for each in self._guests():
            if not each.retention.tiers or self._stop.is_set():
                continue
            try:
                told = self._chores.run("prune", guest=each.guest, retention=each.retention.plain())
            except WorkbenchError as error:
                wrong = error.message
                continue
            over += told["over"]
            self.count(told["dropped"], told["freed"])
            if told["dropped"]:
                self._note("prune", "done", {"guest": each.guest, "dropped": told["dropped"], "freed": told["freed"]})
        self.state.over_bytes = over
        self.state.pruned_ns = time.time_ns()
        self._said("prune", wrong)

    def _check(self) -> None:
        try:
            told = self._chores.run("check")
        except WorkbenchError as error:
            self._said("check", error.message)
            return
        self._said("check", "")
        self.state.damage, self.state.damaged_captures = told["damage"], tuple(told["captures"])
        self.state.checked_ns = time.time_ns()
        self._note("check", "damage" if told["damage"] else "whole", {"damage": told["damage"]})

    def _said(self, what: str, wrong: str) -> None:
        self._wrong[what] = wrong
        self.state.error = "; ".join(each for each in self._wrong.values() if each)
