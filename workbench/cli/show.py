"""`workbench show`: one moment: its facts, where its pause went, its regions."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import ABSENT, inert, millis, short
from workbench.cli.words import WHEN, examples

if TYPE_CHECKING:
    from workbench.case import Moment

__all__ = ["add"]

_COLUMNS = (Column("region", wraps=True), Column("kind"), Column("bytes", right=True), Column("digest"))
_ELSEWHERE = ("pause_ns", "pause_parts_ns")
_WIDTH = 16


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "show",
        parents=[common],
        help="one moment in full",
        description="Show one moment: what was recorded of its taking, where its pause went, its regions.",
        epilog=examples("workbench show latest", "workbench show '2 captures ago'", "workbench show before:alert-7"),
    )
    parser.add_argument("when", metavar="WHEN", nargs="?", default="latest", help=f"{WHEN} (default)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the moment."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        moment = case.moment(arguments.when, arguments.guest)
        marks = [mark.name for mark in case.marks(moment.guest.id) if mark.capture == moment.id]
    regions = moment.regions()
    head = {**_head(moment), "marks": marks}
    if output.as_json:
        output.document({**head, "facts": moment.facts, "regions": regions.to_dict("records")})
        return 0
    _pairs(output, {**head, "marks": ", ".join(marks)})
    output.say("")
    _pairs(output, {"pause": _pause(moment.facts)})
    _pairs(output, {name: value for name, value in sorted(moment.facts.items()) if name not in _ELSEWHERE})
    output.say("")
    rows = regions.itertuples(index=False, name=None)
    output.table(_COLUMNS, [(name, kind, size, short(digest)) for name, kind, size, digest in rows])
    return 0


def _head(moment: Moment) -> dict[str, Any]:
    record = moment.record
    return {
        "id": record.id,
        "guest": moment.guest.name,
        "time": moment.time.isoformat(),
        "mode": str(record.mode),
        "reason": record.reason,
        "branch": record.branch,
        "depth": record.depth,
        "parent": record.parent,
    }


def _pairs(output: Output, pairs: Mapping[str, Any]) -> None:
    for name, value in pairs.items():
        told = value
        if isinstance(value, Mapping):
            told = ", ".join(f"{key} {each}" for key, each in value.items())
        elif value is None or value == "":
            told = ABSENT
        output.say(f"{inert(name):<{_WIDTH}} {inert(told, 500)}")


def _pause(facts: Mapping[str, Any]) -> str:
    """Return the pause and its parts; facts are data, and a stranger's case may hold anything."""
    parts = facts.get("pause_parts_ns")
    known = parts.items() if isinstance(parts, Mapping) else ()
    told = ", ".join(f"{part} {millis(ns)}" for part, ns in known)
    return f"{millis(facts.get('pause_ns'))} ms" + (f": {told}" if told else "")
