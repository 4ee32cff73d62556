"""`workbench capture`: one capture of a running guest, with a reason."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.cli import recording
from workbench.cli.output import Output
from workbench.cli.text import inert, millis, number, short, thousands, when
from workbench.cli.words import examples

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "capture",
        parents=[common],
        help="take one capture of a running guest",
        description="Take one capture: memory, devices and every disk of one instant. The case is made if need be.",
        epilog=examples('workbench capture web1 --reason "before the update" --mark clean'),
    )
    recording.add_words(parser)
    parser.add_argument("--reason", default="", help="why it is taken")
    parser.add_argument("--mark", metavar="NAME", help="name it in the timeline")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Take the capture."""
    with recording.opened(arguments, output) as running:
        record = running.capture(arguments.reason, mark=arguments.mark, quiesce=recording.wish(arguments)).record
    if output.as_json:
        output.document(recording.brief(record))
        return 0
    facts = record.facts
    output.say(f"{short(record.id)}  {when(record.time_ns)} UTC, the guest stood still for {_pause(facts)}.")
    output.say(
        f"{number(facts.get('dirty_pages'))} pages and {number(facts.get('dirty_clusters'))} disk clusters were "
        f"written, {thousands(facts.get('stored_bytes'))} kB stored."
    )
    if facts.get("consistency") == "application":
        output.say(f"Application-consistent: its file systems were frozen for {millis(facts.get('frozen_ns'))} ms.")
    elif facts.get("consistency_why"):
        output.note(f"only crash-consistent: {inert(facts['consistency_why'], 1000)}")
    return 0


def _pause(facts: Any) -> str:
    return f"{millis(facts.get('pause_ns'))} ms"
