"""What the tests of the notebook share: a case with a fork and hostile names, a large history, and what is inert."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from workbench.model import CaptureId, CaptureMode, GuestId, GuestRecord, Mark, RegionKind, RegionSpec
from workbench.store import CaseStore

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
NOON = 1_714_566_600_000_000_000  # 2024-05-01T12:30:00Z
S = 10**9
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
CONTROL = "web\x1b]0;owned\x07\x00\r\n\u2028"
BACKWARDS = "\u202egnp.exe\u2066 \u05d0\u05d1\u05d2"
LONG = "A" * 10_000
HOSTILE = (MARKUP, CONTROL, BACKWARDS, LONG, "&lt;b&gt; ' \" ` ${1} ]]>")
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 16 * 4096, 4096)
LAYOUT = RegionSpec("state:layout", RegionKind.STATE, 0, 4096)
DISK = RegionSpec(f"disk:{MARKUP}", RegionKind.DISK, 8 * 65536, 65536)


@dataclass
class Forked:
    """Line 0 at 0, 2, 4, 6, 8 s; a rewind to 4 s opens line 1 at 20, 22, 24 s; a mark at each end."""

    path: Path
    ids: dict[int, CaptureId] = field(default_factory=dict)

    def build(self, name: str = "demo") -> Forked:
        store = CaseStore.create(self.path)
        store.add_guest(GUEST, name)
        with store.writer(GUEST) as writer:
            for second in (0, 2, 4, 6, 8, 20, 22, 24):
                if second == 20:
                    writer.move_to(self.ids[4])
                self.take(writer, second, 1 if second == 20 else None, name)
        store.add_mark(Mark(name[:100], GUEST, NOON, self.ids[0], "event", name))
        store.add_mark(Mark("alert-7", GUEST, NOON + 22 * S, self.ids[22], "alert", "planted"))
        return self

    def take(self, writer: Any, second: int, branch: int | None = None, reason: str = "") -> None:
        with writer.begin([RAM, DISK, LAYOUT], branch=branch) as transaction:
            transaction.put_stream(LAYOUT.name, b"{}")
            transaction.put(RAM.name, np.array([second % 16]), np.full((1, 4096), second + 1, np.uint8))
            transaction.put(DISK.name, np.array([second % 8]), np.full((1, 65536), second + 1, np.uint8))
            mode = CaptureMode.EVENT if second == 22 else CaptureMode.CONTINUOUS
            facts = {"pause_ns": second * 10**6, "dirty_pages": second, "dirty_clusters": 1, "note": reason}
            record = transaction.commit(time_ns=NOON + second * S, mode=mode, reason=reason[:200], facts=facts)
        self.ids[second] = record.id

    def append(self, second: int) -> None:
        store = CaseStore.open(self.path)
        with store.writer(GUEST) as writer:
            writer.move_to(self.ids[max(self.ids)])
            self.take(writer, second)


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
        return [self._guest]

    def timeline(self, guest: str | None = None, *, since: str | None = None) -> pd.DataFrame:
        begin = 0 if since is None else list(self.frame["id"]).index(since) + 1
        return self.frame.iloc[begin:]

    def moment(self, when: str, guest: str | None = None) -> Any:
        return SimpleNamespace(id=when.removeprefix("id:"), link=f"wb://{GUEST}/{when.removeprefix('id:')}")

    def marks(self, guest: str | None = None) -> list[Mark]:
        return self._marks


def inert(text: str) -> bool:
    """Say whether a text on a page can do nothing: no control or direction characters, and short."""
    return not any(char in text for char in "\x1b\x07\x00\r\u202e\u2066\u2028") and "A" * 1000 not in text
