"""Upkeep of the case: pruning to each guest's retention, and checking all of it; each in a niced process of its own.

So a long check cannot hold up an answer or a capture, and what goes wrong in it stays there. Refuses to prune a guest
without a retention.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.case import Case
from workbench.errors import WorkbenchError
from workbench.service.configuration import GuestConfiguration
from workbench.timeline.retention import Retention

__all__ = ["Upkeep", "UpkeepState", "main"]

_NICE = 15
_LISTED = 20
_LONGEST_S = 6 * 3_600.0
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
        What the last upkeep failed of; empty where it did not.
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
    case : Path
    guests : callable
        Gives the configurations that hold.
    prune_every_s, check_every_s : float
        Seconds between; no checks for 0.
    note : callable
        Hears what was done, its result, and facts.
    """

    def __init__(
        self,
        case: Path,
        guests: Callable[[], Iterable[GuestConfiguration]],
        *,
        prune_every_s: float,
        check_every_s: float,
        note: Note,
    ) -> None:
        self.state = UpkeepState()
        self._case, self._guests, self._note = case, guests, note
        self._every = {"prune": prune_every_s, "check": check_every_s}
        self._stop = threading.Event()
        self._running: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """End; a prune that is cut short is finished by the next one."""
        self._stop.set()
        process = self._running
        if process is not None:
            process.terminate()
        if self._thread.is_alive():
            self._thread.join(30)

    def _keep(self) -> None:
        due = {what: time.monotonic() + every for what, every in self._every.items() if every}
        while due and not self._stop.wait(max(0.0, min(due.values()) - time.monotonic())):
            what = min(due, key=lambda each: due[each])
            try:
                self._prune() if what == "prune" else self._check()
            except WorkbenchError as error:
                self.state.error = error.message
            due[what] = time.monotonic() + self._every[what]

    def _prune(self) -> None:
        over = 0
        for each in self._guests():
            if not each.retention.tiers or self._stop.is_set():
                continue
            told = self._run({"do": "prune", "guest": each.guest, "retention": each.retention.plain()})
            if told is None:
                continue
            over += told["over"]
            self.state.freed_bytes += told["freed"]
            self.state.dropped += told["dropped"]
            if told["dropped"]:
                self._note("prune", "done", {"guest": each.guest, "dropped": told["dropped"], "freed": told["freed"]})
        self.state.over_bytes = over
        self.state.pruned_ns = time.time_ns()

    def _check(self) -> None:
        told = self._run({"do": "check"})
        if told is None:
            return
        self.state.damage, self.state.damaged_captures = told["damage"], tuple(told["captures"])
        self.state.checked_ns = time.time_ns()
        self._note("check", "damage" if told["damage"] else "whole", {"damage": told["damage"]})

    def _run(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """Run one piece of upkeep; None where it failed, which the state then says."""
        words = [sys.executable, "-m", "workbench.service.upkeep"]
        self._running = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            said, _ = self._running.communicate(json.dumps({**order, "case": str(self._case)}), _LONGEST_S)
            told: dict[str, Any] = json.loads(said)
        except (ValueError, subprocess.TimeoutExpired):
            self._running.kill()
            self._running.wait()
            told = {"error": f"{order['do']} ended without a result"}
        finally:
            self._running = None
        self.state.error = str(told.get("error", ""))
        return None if "error" in told else told


def main() -> None:
    """Do one piece of upkeep, as standard input says; the result goes to standard output."""
    os.nice(_NICE)
    order = json.load(sys.stdin)
    try:
        with Case(Path(order["case"])) as case:
            told = _prune(case, order) if order["do"] == "prune" else _check(case)
    except WorkbenchError as error:
        told = {"error": str(error)}
    json.dump(told, sys.stdout)


def _prune(case: Case, order: dict[str, Any]) -> dict[str, Any]:
    if not any(order["guest"] in (each.id, each.name) for each in case.guests()):
        return {"dropped": 0, "freed": 0, "over": 0}
    retention = Retention.of(order["retention"]["tiers"], order["retention"]["max_bytes"])
    over = int(case.retained(retention, order["guest"]).attrs["over"])
    plan = case.plan_prune(retention, order["guest"])
    if not plan.drop:
        return {"dropped": 0, "freed": 0, "over": over}
    done = asdict(plan.execute())
    return {"dropped": done["dropped"], "freed": done["freed"], "over": over}


def _check(case: Case) -> dict[str, Any]:
    found = case.check()
    captures = sorted({capture for each in found for capture in each.captures})
    return {"damage": len(found), "captures": captures[:_LISTED]}


if __name__ == "__main__":
    main()
