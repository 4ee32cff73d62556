"""Follows the trials of the case: what its audit log gets is said in the service's, and each has a watchman.

Whoever acts (a caller, the watchman when the time is over, a command on the host) adds to the case's log; its lines are
taken over in order, each once, also those of the time when no service ran: the service's own log says which were. A
trial whose watchman died, as he does with the service's unit, gets another. Refuses to decide about a trial.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.case import Case
from workbench.errors import WorkbenchError
from workbench.store.auditlog import AuditLog

__all__ = ["TrialWatch"]

_LOOK_S = 0.5
_WATCH_EVERY = 4
"""Looks at the log for one at the watchmen."""
_FACTS = ("trial", "guest", "name", "target", "safety", "why")
_LINE = "case_line"
_LONGEST = 1 << 16


class TrialWatch:
    """Follows one case for one service.

    Parameters
    ----------
    case : callable
        Opens the case.
    log : Path
        The case's audit log.
    audit : AuditLog
        The service's.
    """

    def __init__(self, case: Callable[[], Case], log: Path, audit: AuditLog) -> None:
        self._case, self._log, self._audit = case, log, audit
        self._lines, self._place, self._told = 0, 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trials", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._told = max((_number(line) for line in self._audit.lines()), default=0)
        self._thread.start()

    def end(self) -> None:
        """Take over what is there, and end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def _run(self) -> None:
        for turn in itertools.count():
            ended = self._ended.wait(_LOOK_S)
            with contextlib.suppress(WorkbenchError, OSError):  # of a full disk, say: taken over later
                self._take_over()
            if ended:
                return
            if turn % _WATCH_EVERY == 0:
                with contextlib.suppress(WorkbenchError, OSError):
                    self._watch()

    def _watch(self) -> None:
        with self._case() as case:
            for trial in case.trials():
                if trial.watch_again():
                    status = trial.status
                    self._audit.add("service", "trial", "watched again", trial=status.id, guest=status.guest)

    def _take_over(self) -> None:
        if not self._log.exists() or self._log.stat().st_size <= self._place:
            return
        with self._log.open("rb") as file:
            file.seek(self._place)
            while (line := file.readline(_LONGEST)).endswith(b"\n") or len(line) == _LONGEST:
                if line.endswith(b"\n"):
                    self._take(line, self._lines + 1)
                    self._lines += 1
                self._place += len(line)

    def _take(self, line: bytes, number: int) -> None:
        if number <= self._told:
            return
        try:
            said = json.loads(line)
            who, what, result = (str(said[name])[:100] for name in ("who", "what", "result"))
            facts = {name: said["facts"].get(name) for name in _FACTS}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            who, what, result, facts = "case", "audit", "unreadable", {}
        self._audit.add(who, what, result, **facts, **{_LINE: number})
        self._told = number


def _number(line: dict[str, Any]) -> int:
    facts = line.get("facts")
    told = facts.get(_LINE) if isinstance(facts, dict) else None
    return int(told) if isinstance(told, str) and told.isdecimal() and len(told) < 16 else 0
