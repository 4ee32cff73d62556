"""`workbench doctor`: what this host offers and lacks, in plain words."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import inert
from workbench.cli.words import examples

if TYPE_CHECKING:
    from workbench.case import Finding

__all__ = ["add"]

_SIGN = {"good": "ok", "limited": "note", "missing": "LACK"}
_NEEDED = ("libvirt", "reading memory")
_NOTHING_WORKS = 3


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "doctor",
        parents=[common],
        help="what this host offers and what it lacks",
        description="Examine this host and the guests that run on it: what works, what follows from what does not,\n"
        "and what to do about it. The exit code is 3 if nothing can be captured here.",
        epilog=examples("workbench doctor", "workbench doctor --connect qemu:///system"),
    )
    default = os.environ.get("WORKBENCH_CASE")
    parser.add_argument(
        "--case",
        dest="place",
        type=Path,
        metavar="DIR",
        default=Path(default) if default else None,
        help="where the case is or will be: its free space is told (default: $WORKBENCH_CASE, else here)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Examine the host and print the findings."""
    from workbench.case import doctor

    findings = doctor(arguments.connect, arguments.place)
    if output.as_json:
        output.document([asdict(finding) for finding in findings])
    else:
        rows = [(_SIGN.get(each.status, "?"), each.topic, inert(_told(each), 1000)) for each in findings]
        output.table((Column(""), Column("topic"), Column("finding", wraps=True)), rows, longest=2000)
    hopeless = any(each.status == "missing" and each.topic in _NEEDED for each in findings)
    return _NOTHING_WORKS if hopeless else 0


def _told(finding: Finding) -> str:
    """Return a finding in sentences; what follows and what to do only where something is not as it should be."""
    parts = [finding.what] if finding.status == "good" else [finding.what, finding.consequence, finding.cure]
    return ". ".join(part.rstrip(".") for part in parts if part) + "."
