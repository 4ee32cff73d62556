"""`workbench check`: read all of a case and name every damage."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from workbench.cli.output import Output
from workbench.cli.text import inert, short
from workbench.cli.words import examples

__all__ = ["add"]

_DAMAGED = 5
_LISTED = 5


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "check",
        parents=[common],
        help="read everything and name every damage",
        description="Read the whole case, of every guest, and name every damage. The exit code is 5 if there is any.",
        epilog=examples("workbench check --case /var/lib/cases/web1"),
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Check the case; the exit code is 5 where something is wrong."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        damages = case.check(progress=progress)
    if output.as_json:
        output.document([asdict(damage) for damage in damages])
        return _DAMAGED if damages else 0
    for damage in damages:
        output.say(f"{inert(damage.path)}: {inert(damage.what, 1000)}")
        touched = ", ".join(short(capture) for capture in damage.captures[:_LISTED])
        more = f" and {len(damage.captures) - _LISTED} more" if len(damage.captures) > _LISTED else ""
        output.say(f"    captures it touches: {touched or 'none'}{more}")
    if not damages:
        output.say("The case is whole.")
        return 0
    output.note(f"{len(damages)} damages. Captures that none of them touches are whole.")
    return _DAMAGED
