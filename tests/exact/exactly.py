"""What the tests of exact recordings share: typing into one, a copy of one to damage, and the QEMUs that live."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from workbench.case import Case, ExactRecording
from workbench.replay.exact.description import file_digest
from workbench.replay.exact.handlers import at_handler
from workbench.replay.exact.recording import Recorder

PLANTED, BEFORE, AFTER = "/root/planted", "one-written", "One-written"
"""A file of the guest, and what is written into it; the second time only its first byte."""


def type_and_wait(recorder: Recorder, command: str, word: str) -> None:
    """Type a command; wait for a word that only its end prints, which what is typed does not hold."""
    since = len(recorder.console)
    recorder.enter(f"{command}; echo {word[:2]}''{word[2:]}\n")
    recorder.wait_for(word, 400, since=since)


def stop_at_handler(recorder: Recorder) -> None:
    """Stop and go on until it stands where an interrupt came and nothing was run since."""
    for _ in range(20_000):
        recorder.qemu.monitor.execute("stop")
        if at_handler(recorder.qemu):
            return
        recorder.qemu.monitor.execute("cont")
    raise AssertionError("it never stands at a handler")


def qemus_of(place: Path | str) -> list[int]:
    """Return the processes that name a place in their arguments."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if str(place).encode() in (each / "cmdline").read_bytes() and int(each.name) != os.getpid():
                found.append(int(each.name))
        except OSError:
            continue
    return found


class Linked:
    """A recording whose files are links to those of another, and whose description can be anything."""

    def __init__(self, recording: ExactRecording, path: Path) -> None:
        Case.create(path).close()
        self.path, self.id = path, recording.id
        self.place = path / "recordings" / recording.id
        self.place.mkdir(parents=True)
        for name in recording.description.files:
            os.link(recording.place / name, self.place / name)
        self._description = json.loads((recording.place / "description.json").read_text())
        self.describe()

    def describe(self, **other: Any) -> None:
        """Write the description with some values changed."""
        (self.place / "description.json").write_text(json.dumps({**self._description, **other}))

    def put(self, name: str, content: bytes) -> None:
        """Put another file in the place of one, and its digest into the description."""
        (self.place / name).unlink()
        (self.place / name).write_bytes(content)
        self.describe(files={**self._description["files"], name: file_digest(self.place / name)})

    def machine(self, **other: Any) -> None:
        """Write the description with another machine."""
        self.describe(machine={**self._description["machine"], **other})

    def open(self) -> ExactRecording:
        """Return the recording as a case has it."""
        return Case(self.path).exact_recording(self.id)
