"""`workbench doctor`: what this host offers and lacks, in plain words."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from workbench.case import doctor
from workbench.cli.output import Output, inert

__all__ = ["add"]

_SIGN = {"good": "ok  ", "limited": "note", "missing": "LACK"}


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("doctor", parents=[common], help="what this host offers and what it lacks")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Examine the host and print the findings."""
    findings = doctor(arguments.connect)
    if output.as_json:
        output.document([asdict(finding) for finding in findings])
        return 0
    for finding in findings:
        output.say(f"{_SIGN.get(finding.status, '?   ')}  {inert(finding.topic)}: {inert(finding.what, 500)}")
        for text in (finding.consequence, finding.cure):
            if text and finding.status != "good":
                output.say(f"        {inert(text, 500)}")
    return 0
