"""What the tests of the command line share: what a run gave, and a small case."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.model import CaptureRecord, GuestId

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
NASTY = "web\x1b]0;owned\x07[red]1\u202e"
START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class SmallCase:
    path: Path
    records: list[CaptureRecord]


Command = Callable[..., Done]
