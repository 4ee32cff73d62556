"""What a detector says: findings as rows, the same columns from every detector, and what it could not look at.

Refuses to drop what could not be read: that travels beside the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

__all__ = ["COLUMNS", "Finding", "Report", "as_hex"]

COLUMNS = {
    "finding": "string",
    "pid": "Int64",
    "process": "string",
    "address": "UInt64",
    "subject": "string",
    "reason": "string",
    "evidence": "string",
}
"""Columns of every detector's frame, with their dtypes."""
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be.

    Attributes
    ----------
    finding : str
        Its kind: "hidden_process", "syscall_hook" ...
    subject : str
        What it is about: a process's name, a module, a table's entry, a path.
    reason : str
        In plain words: what was expected, and what was found.
    evidence : str
        The values that were read.
    address : int, optional
        Virtual, canonical: of the task, module or pointer.
    pid : int, optional
    process : str, optional
        The task's name.
    """

    finding: str
    subject: str
    reason: str
    evidence: str
    address: int | None = None
    pid: int | None = None
    process: str | None = None


@dataclass(slots=True)
class Report:
    """Findings, and what could not be looked at.

    Attributes
    ----------
    findings : list of Finding
    unseen : list of str
        Each a sentence; empty where everything was looked at.
    """

    findings: list[Finding] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take over what another report says."""
        self.findings += other.findings
        self.unseen += other.unseen

    def frame(self) -> pd.DataFrame:
        """Return the findings.

        Returns
        -------
        DataFrame
            finding (string), pid (Int64), process (string), address (UInt64), subject (string), reason (string),
            evidence (string). `attrs["error"]` says what could not be looked at, and is absent otherwise.
        """
        columns = {
            name: pd.Series([getattr(each, name) for each in self.findings], dtype=kind)
            for name, kind in COLUMNS.items()
        }
        frame = pd.DataFrame(columns)
        if self.unseen:
            frame.attrs["error"] = _told(self.unseen)
        return frame


def _told(unseen: Sequence[str]) -> str:
    more = len(unseen) - _MOST_TOLD
    return "; ".join(unseen[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")


def as_hex(address: int) -> str:
    """Return an address as it is written everywhere."""
    return f"{address:#018x}"
