"""The one door: `Case`, `Moment`, `Diff`, `Clone`, `Recording`, for notebooks, service and command line.

A case is the journal of one or more guests. Moments of it are read, compared, cloned and rewound to; a recording writes
it. Refuses to print, and to do anything destructive that was not planned first.
"""

from __future__ import annotations

from workbench.capture.quiesce import Quiesce
from workbench.capture.schedule import Tick
from workbench.case.case import Case
from workbench.case.clone import Clone
from workbench.case.diff import Diff
from workbench.case.host import build_symbols, doctor, guest_off, require_guest, running_guests
from workbench.case.moment import Moment
from workbench.case.recording import Recording
from workbench.disk.exports import export as export_frame
from workbench.evidence.pdf import print_pdf
from workbench.experiment.result import Experiment
from workbench.guest.doctor import Finding
from workbench.inquiry.answer import absences
from workbench.inside.ran import Ran
from workbench.replay.bisect import Bisection
from workbench.replay.exact.doors import ExactRecording
from workbench.replay.exact.machine import Machine
from workbench.replay.predicates import Predicate, file_exists, plugin_reports, process_runs
from workbench.rewind.identity import Identity
from workbench.rewind.in_place import Rewound
from workbench.rewind.network_segment import Segment
from workbench.rewind.plan import RewindPlan
from workbench.store import PrunePlan
from workbench.timeline.retention import Retention
from workbench.trial.probes import CommandProbe, HttpProbe, TcpProbe
from workbench.trial.trial import Trial

__all__ = [
    "Bisection",
    "Case",
    "Clone",
    "CommandProbe",
    "Diff",
    "ExactRecording",
    "Experiment",
    "Finding",
    "HttpProbe",
    "Identity",
    "Machine",
    "Moment",
    "Predicate",
    "PrunePlan",
    "Quiesce",
    "Ran",
    "Recording",
    "Retention",
    "RewindPlan",
    "Rewound",
    "Segment",
    "TcpProbe",
    "Tick",
    "Trial",
    "absences",
    "build_symbols",
    "doctor",
    "export_frame",
    "file_exists",
    "guest_off",
    "plugin_reports",
    "print_pdf",
    "process_runs",
    "require_guest",
    "running_guests",
]
