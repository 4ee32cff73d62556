"""Chores on the case, each in a niced process of its own: saying what a prune would do, pruning, checking.

So a long one cannot hold up an answer or a capture, and what goes wrong in it stays there. Refuses to drop anything
else than what a retention drops: of what is named, each capture is judged again right before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.case import Case
from workbench.errors import StoreError, UsageError, WorkbenchError
from workbench.service.wire import tell_error
from workbench.store import plan_prune
from workbench.store.told import as_error
from workbench.timeline.retention import Retention, dropped

__all__ = ["Chores", "main"]

_NICE = 15
_LISTED = 20
_LONGEST_S = 6 * 3_600.0


class Chores:
    """Runs chores on one case; from any thread.

    Parameters
    ----------
    case : Path
    """

    def __init__(self, case: Path) -> None:
        self._case = case
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def run(self, do: str, patience_s: float = _LONGEST_S, **order: Any) -> dict[str, Any]:
        """Run one to its end and return what it tells.

        Raises
        ------
        WorkbenchError
            What it failed of; `StoreError` where it was cut short.
        """
        with self._begin(do) as process:
            try:
                said, _ = process.communicate(json.dumps({"do": do, "case": str(self._case), **order}), patience_s)
                told: dict[str, Any] = json.loads(said)
            except (ValueError, subprocess.TimeoutExpired) as error:
                cure = "What is kept is whole; a prune that was cut short is finished by the next."
                raise StoreError(f"{do} ended without a result", cure=cure) from error
            finally:
                process.kill()
                with self._lock:
                    self._running.discard(process)
        if "error" in told:
            raise as_error(told["error"])
        return told

    def end(self) -> None:
        """Cut short what runs, and begin nothing more."""
        with self._lock:
            self._ended = True
            for each in self._running:
                each.terminate()

    def _begin(self, do: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "workbench.service.chores"]
        with self._lock:
            if self._ended:
                raise StoreError(f"no {do}: the service ends")
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._running.add(process)
        return process


def main() -> None:
    """Do one chore, as standard input says; the result goes to standard output."""
    os.nice(_NICE)
    order = json.load(sys.stdin)
    try:
        with Case(Path(order["case"])) as case:
            told = _CHORES[order["do"]](case, order)
    except WorkbenchError as error:
        told = {"error": tell_error(error)}
    json.dump(told, sys.stdout)


def _retention(order: dict[str, Any]) -> Retention:
    return Retention.of(order["retention"]["tiers"], order["retention"]["max_bytes"])


def _prune(case: Case, order: dict[str, Any]) -> dict[str, Any]:
    """Prune a guest to its retention; one of which there is nothing yet is none that fails."""
    if not any(order["guest"] in (each.id, each.name) for each in case.guests()):
        return {"dropped": 0, "freed": 0, "over": 0}
    chosen = case.retained(_retention(order), order["guest"])
    over = int(chosen.attrs["over"])
    plan = plan_prune(case.store, case.guest(order["guest"]).id, dropped(chosen))
    if not plan.drop:
        return {"dropped": 0, "freed": 0, "over": over}
    done = plan.execute()
    return {"dropped": done.dropped, "freed": done.freed, "over": over}


def _plan(case: Case, order: dict[str, Any]) -> dict[str, Any]:
    """Say what a prune would do now. Nothing is written."""
    now = time.time_ns()
    chosen = case.retained(_retention(order), order["guest"], now_ns=now)
    drop = dropped(chosen)
    plan = plan_prune(case.store, order["guest"], drop)
    counts = chosen.loc[chosen["keep"], "reason"].value_counts()
    return {
        "drop": sorted(drop),
        "as_of_ns": now,
        "dropped": len(plan.drop),
        "oldest_ns": plan.drop[0].time_ns if plan.drop else None,
        "newest_ns": plan.drop[-1].time_ns if plan.drop else None,
        **plan.counts(),
        "over": int(chosen.attrs["over"]),
        "reasons": {str(reason)[:200]: int(count) for reason, count in list(counts.items())[:_LISTED]},
        "text": str(plan),
    }


def _drop(case: Case, order: dict[str, Any]) -> dict[str, Any]:
    """Drop what was planned; nothing where one of it is gone, or is protected by now."""
    chosen = case.retained(_retention(order), order["guest"], now_ns=order["as_of_ns"])
    drop = set(order["drop"])
    held = drop - dropped(chosen)
    if held:
        raise UsageError(
            "what was planned does not hold any more: captures of it are gone, or marked, or needed",
            captures=len(held),
            cure="Plan again.",
        )
    return asdict(plan_prune(case.store, order["guest"], drop).execute())


def _check(case: Case, _order: dict[str, Any]) -> dict[str, Any]:
    found = case.check()
    captures = sorted({capture for each in found for capture in each.captures})
    return {"damage": len(found), "captures": captures[:_LISTED]}


_CHORES = {"prune": _prune, "plan": _plan, "drop": _drop, "check": _check}


if __name__ == "__main__":
    main()
