"""What the tests of the command line share: what a run gave, and a small case."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
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


def on_a_terminal(*words: str | Path, columns: int = 80, typed: str = "") -> tuple[int, str]:
    """Run the command with a terminal for all three streams; return its code and what was drawn.

    `typed` is typed once the command asks for something.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    command = [sys.executable, "-m", "workbench.cli", *map(str, words)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = []

    def read() -> None:
        left = typed
        try:
            while data := os.read(ours, 65536):
                drawn.append(data)
                if left and b"Type the" in b"".join(drawn):
                    os.write(ours, left.encode())
                    left = ""
        except OSError:
            return  # the other end is gone

    reader = threading.Thread(target=read)
    reader.start()
    code = process.wait(120)
    reader.join(10)
    os.close(ours)
    return code, b"".join(drawn).decode(errors="replace")
