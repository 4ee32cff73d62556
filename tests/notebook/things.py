"""Results of every room as the one door would give them, with words of a hostile guest in them; nothing is run."""

from __future__ import annotations

import time
from typing import Any

from small import NOON

from workbench.capture.quiesce import Quiesce
from workbench.capture.schedule import Tick
from workbench.case import (
    Case,
    CommandProbe,
    ExactRecording,
    Finding,
    Machine,
    Predicate,
    Ran,
    Retention,
    Rewound,
    Segment,
    Trial,
)
from workbench.errors import UsageError
from workbench.replay.drive import Played, Replay
from workbench.replay.exact.description import Description
from workbench.replay.exact.replaying import ReplayOutcome
from workbench.replay.exact.search import LastWrite
from workbench.replay.inputs import Input
from workbench.replay.refine import Refinement
from workbench.rewind.network_hub import HEADER, RECORD
from workbench.trial.state import TrialFile

__all__ = ["results_of"]

RECORDING = "0b4405ed-8a44-46c5-bbae-ee867c0a3ab1"


def results_of(case: Case, name: str) -> dict[str, Any]:
    """By what they are; `name` is what the guest, or a stranger's case, says."""
    first, last = case.moment("2 captures ago"), case.moment()
    said = name.encode("utf-8", "surrogatepass")
    refinement = Refinement(2.0, 2.0, (0.5, 1.0), first, last)
    played = [Played(Input(NOON, "serial", name), 1.0, 1.1, name)]
    return {
        "command": Ran(1, said, said * 2, 0.5, "agent"),
        "driven again": Replay(first, last, last, 2.0, played),
        "refinement": refinement,
        "exact": exact(case, name),
        "replay": ReplayOutcome(1000, True, name, said, "", 1.5),
        "last write": LastWrite(999, 1000, b"old", said[:4096], 0xFFFFFFFF81000000, 0x1000, 0, 5),
        "segment": segment(case, name),
        "trial": trial(case, name),
        "machine": Machine(name=name, kernel_line=name),
        "quiesce": Quiesce(),
        "finding": Finding("kernel", "limited", name, name, name),
        "rewound": Rewound(last.record, first.record, "in place", 10**6, 5, 1, {name: 1}, name),
        "tick": Tick(None, UsageError(name)),
        "probe": CommandProbe(name),
        "predicate": Predicate(name, lambda moment: True),
        "retention": Retention.parse("all for 10m"),
    }


def exact(case: Case, name: str) -> ExactRecording:
    """A recording whose console printed what the guest says; its description is a stranger's."""
    place = case.path / "recordings" / RECORDING
    place.mkdir(parents=True, exist_ok=True)
    (place / "console").write_bytes(name.encode("utf-8", "surrogatepass"))
    told = Description(RECORDING, NOON, 10**9, 0, Machine(name=name), "beginning", "ab" * 32, name, {}, "")
    return ExactRecording(case, place, told)


def segment(case: Case, name: str) -> Segment:
    """A segment on which one frame was sent, with the guest's words in it; its status is a stranger's."""
    found = Segment(case.path, "lab")
    found.path.mkdir(parents=True, exist_ok=True)
    frame = bytes(12) + b"\x08\x06" + name.encode("utf-8", "surrogatepass")[:1000]
    found.pcap.write_bytes(HEADER + RECORD.pack(NOON // 10**9, 0, len(frame), len(frame)) + frame)
    return found


def trial(case: Case, name: str) -> Trial:
    """A trial that has been committed; the one that the case has already, where it has one."""
    if case.trials():
        return case.trials()[0]
    known: dict[str, Any] = {"guest": case.guests()[0].id, "guest_name": name, "uri": "qemu:///session"}
    known |= {"target": case.moment().id, "commit_within": 10.0, "owner": 1, "detached": False, "probe": {name: name}}
    file = TrialFile.create(case.path, **known, every=1.0, failures=3)
    file.step("applying", until=time.monotonic() + 100)
    file.step("open")
    file.step("committed", why=name)
    return Trial(case.store, file)
