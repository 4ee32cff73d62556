"""The demonstration: record a guest while it is broken into, look at the past, go back.

Each chapter is a function that does one thing with the public API and returns what it found. Refuses to leave anything
running: the caller's context managers hold the guest, the recording and the clone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from workbench.case import Case, Moment, Recording, Rewound
from workbench.demo.evidence import examine
from workbench.demo.guest import DemoGuest
from workbench.demo.intrusion import STEPS, Step, play
from workbench.demo.supervisor import Supervisor
from workbench.errors import GuestError
from workbench.model import CaptureMode

__all__ = ["BEFORE", "CloneReport", "figures", "go_back", "look_back", "record_intrusion"]

BEFORE = "before:alert-break_in"
"""The moment just before the intruder came, as a user asks for it."""


@dataclass(frozen=True, slots=True)
class CloneReport:
    """What a clone of the moment before the intrusion showed.

    Attributes
    ----------
    moment : Moment
    in_guest, in_clone : dict of str to bool
        Whether each trace is there.
    seconds : float
        From asking for the clone to its first answer.
    """

    moment: Moment
    in_guest: dict[str, bool]
    in_clone: dict[str, bool]
    seconds: float


def record_intrusion(guest: DemoGuest, recording: Recording, interval: float, tell: Callable[[str], None]) -> None:
    """Capture every `interval` seconds while the intrusion is played; each step is captured under its own mark."""
    guest.load("shell")
    recording.capture("the demonstration begins", mark="start")
    recording.start(interval)
    time.sleep(3 * interval)

    def on_step(step: Step, _truth: dict[str, object]) -> None:
        recording.request(step.summary, mark=f"alert-{step.name}", mode=CaptureMode.EVENT)
        tell(f"{step.name}: {step.summary}")
        time.sleep(interval)

    play(guest, on_step, STEPS)
    time.sleep(2 * interval)
    recording.stop()
    guest.load("off")


def look_back(case: Case, guest: DemoGuest) -> CloneReport:
    """Start a clone at the moment before the intrusion and ask both machines for its traces.

    Raises
    ------
    GuestError
        If a trace is in the clone, or one is missing in the guest.
    """
    moment = case.moment(BEFORE)
    began = time.monotonic()
    with moment.clone() as clone, Supervisor(clone.socket("supervisor.sock")) as copy:
        copy.ping()
        seconds = time.monotonic() - began
        report = CloneReport(moment, examine(guest), examine(copy), seconds)
    if any(report.in_clone.values()) or not all(report.in_guest.values()):
        raise GuestError("guest and clone do not show what was planted", guest=report.in_guest, clone=report.in_clone)
    return report


def go_back(
    case: Case, recording: Recording, guest: DemoGuest, tell: Callable[[str], None]
) -> tuple[Rewound, dict[str, bool]]:
    """Rewind the guest itself to before the intrusion, in place, and ask it for the traces.

    Raises
    ------
    GuestError
        If a trace is still there or the guest is not well.
    """
    plan = case.plan_rewind(BEFORE, mode="production")
    tell(str(plan))
    rewound = recording.rewind(plan, confirm=guest.name)
    traces, health = examine(guest), guest.health()
    if any(traces.values()) or not health.ok:
        raise GuestError("the guest is not as before the intrusion", traces=traces, problems=health.problems)
    return rewound, traces


def figures(case: Case, clone: CloneReport, rewound: Rewound) -> list[tuple[str, str]]:
    """Return what it all took: (figure, value) in words."""
    frame = case.timeline()
    incremental = frame[frame["parent"].notna() & frame["pause_ms"].notna()]
    pause, stored = incremental["pause_ms"].astype(float), incremental["stored_bytes"].astype(float)
    return [
        ("captures", f"{len(frame)}"),
        ("pause of a capture, median", f"{pause.median():.1f} ms"),
        ("pause of a capture, longest", f"{pause.max():.1f} ms"),
        ("changed pages per capture, median", f"{incremental['dirty_pages'].astype(float).median():.0f}"),
        ("stored for the first capture", f"{float(frame['stored_bytes'].iloc[0]) / 1e6:.1f} MB"),
        ("stored per capture after it, median", f"{stored.median() / 1e3:.0f} kB"),
        ("clone of the past answering after", f"{clone.seconds:.2f} s"),
        ("rewind of the guest itself, standing still", f"{rewound.downtime_ns / 1e6:.0f} ms"),
        ("pages and disk clusters put back", f"{rewound.pages} and {rewound.clusters}"),
    ]
