"""`workbench show`: one moment: its facts, where its pause went, its regions."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.case import Case
from workbench.cli.output import Output, inert

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("show", parents=[common], help="one moment in full")
    parser.add_argument("when", metavar="WHEN", nargs="?", default="latest", help="a time, -30s, an id, a mark, latest")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the moment."""
    with Case(arguments.case, uri=arguments.connect) as case:
        moment = case.moment(arguments.when, arguments.guest)
        regions = moment.regions()
    record = moment.record
    head = {
        "id": record.id,
        "guest": moment.guest.name,
        "time": moment.time.isoformat(),
        "mode": str(record.mode),
        "reason": record.reason,
        "branch": record.branch,
        "depth": record.depth,
        "parent": record.parent,
    }
    if output.as_json:
        output.document({**head, "facts": moment.facts, "regions": regions.to_dict("records")})
        return 0
    for name, value in head.items():
        output.say(f"{name:<10} {inert(value)}")
    parts = moment.facts.get("pause_parts_ns", {})
    output.say("pause      " + ", ".join(f"{inert(part)} {ns / 1e6:.1f} ms" for part, ns in parts.items()))
    for name, value in sorted(moment.facts.items()):
        if name not in ("pause_parts_ns", "versions"):
            output.say(f"{inert(name):<18} {inert(value)}")
    output.say("")
    output.table(list(regions.columns), regions.itertuples(index=False), numbers=("bytes",))
    return 0
