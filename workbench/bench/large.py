"""A history of any size, made of nothing: what a case offers for a timeline, without a store.

Tests of the notebook use it too. Refuses to have content: its captures cannot be read.
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd

from workbench.model import CaptureId, CaptureMode, GuestId, GuestRecord, Mark

__all__ = ["Large"]

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
NOON = 1_714_566_600_000_000_000  # 2024-05-01T12:30:00Z
S = 10**9


class Large:
    """A history of any size that offers what a case offers, without a store; some branches, some marks."""

    def __init__(self, captures: int, branches: int = 4, guest: str = "web-1") -> None:
        self._guest = GuestRecord(GUEST, guest)
        rng = np.random.default_rng(7)
        ids = [hashlib.sha256(b"%d" % at).hexdigest() for at in range(captures)]
        per = max(1, captures // branches)
        branch = np.minimum(np.arange(captures) // per, branches - 1)
        first = np.r_[True, branch[1:] != branch[:-1]]
        parents = [None, *(ids[max(0, at - per // 2)] if first[at + 1] else ids[at] for at in range(captures - 1))]
        modes = np.array([each.value for each in CaptureMode])
        self.frame = pd.DataFrame(
            {
                "time": pd.to_datetime(NOON + np.arange(captures) * 2 * S + rng.integers(0, S, captures), utc=True),
                "id": ids,
                "branch": branch,
                "depth": np.arange(captures),
                "parent": pd.Series(parents, dtype="object"),
                "mode": modes[rng.choice(5, captures, p=[0.01, 0.95, 0.01, 0.02, 0.01])],
                "reason": "",
                "pause_ms": 9.5,
                "dirty_pages": pd.array(rng.integers(0, 9000, captures), dtype="Int64"),
                "dirty_clusters": pd.array(rng.integers(0, 50, captures), dtype="Int64"),
                "stored_bytes": pd.array(rng.integers(0, 10**6, captures), dtype="Int64"),
                "marks": "",
            }
        )
        kinds = ("note", "event", "alert", "yara", "rewind", "safety", "strange")
        self._marks = [
            Mark(
                f"{kinds[at % 7]}-{at}",
                GUEST,
                int(self.frame["time"].iloc[row].value),
                CaptureId(ids[row]),
                kinds[at % 7],
            )
            for at, row in enumerate(range(0, captures, max(1, captures // 20)))
        ]

    def guests(self) -> list[GuestRecord]:
        """Return its one guest."""
        return [self._guest]

    def timeline(self, guest: str | None = None, *, since: str | None = None) -> pd.DataFrame:
        """Return the captures after one, all without."""
        del guest  # it has but one
        begin = 0 if since is None else list(self.frame["id"]).index(since) + 1
        return self.frame.iloc[begin:]

    def moment(self, when: str, guest: str | None = None) -> SimpleNamespace:
        """Return what a timeline wants of a moment."""
        del guest  # it has but one
        return SimpleNamespace(id=when.removeprefix("id:"), link=f"wb://{GUEST}/{when.removeprefix('id:')}")

    def marks(self, guest: str | None = None) -> list[Mark]:
        """Return its marks."""
        del guest  # it has but one
        return self._marks
