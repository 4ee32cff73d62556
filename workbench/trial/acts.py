"""What was done in trials: lines of the case's audit log, and marks of its timeline.

`CASE/audit.jsonl`, to which the process that tries, the watchman and whoever commits add. Refuses to let going back
fail because it cannot be noted: only a trial that cannot be noted is not begun.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.model import Mark
from workbench.store import CaseStore
from workbench.store.auditlog import AuditLog
from workbench.trial.state import TrialStatus

__all__ = ["TRIAL", "WATCHMAN", "audit_act", "audit_log", "mark_act", "note_act", "user"]

TRIAL = "trial"
"""Kind of the marks, and what lines of the audit log are about."""
WATCHMAN = "watchman"


def user() -> str:
    """Return who this process acts for, as a service calls a user of the machine."""
    return f"uid:{os.geteuid()}"


def audit_log(case: Path) -> AuditLog:
    """Return the audit log of a case."""
    return AuditLog(case / "audit.jsonl")


def audit_act(case: Path, status: TrialStatus, act: str, who: str, why: str = "") -> None:
    """Add a line to the case's audit log.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    facts = {"trial": status.id, "guest": status.guest, "name": status.guest_name, "target": status.target}
    audit_log(case).add(who, TRIAL, act, **facts, safety=status.safety, why=why or None)


def note_act(store: CaseStore, status: TrialStatus, act: str, who: str, why: str = "") -> None:
    """Note an act in the audit log and as a mark, as far as that can be done."""
    with contextlib.suppress(WorkbenchError):
        audit_act(store.path, status, act, who, why)
    mark_act(store, status, act, why)


def mark_act(store: CaseStore, status: TrialStatus, act: str, why: str = "") -> None:
    """Note an act as a mark of the timeline, as far as that can be done."""
    with contextlib.suppress(WorkbenchError):
        store.add_mark(Mark(f"trial-{status.id[:8]}-{act}", status.guest, time.time_ns(), None, TRIAL, why[:500]))
