"""`workbench check`: read all of a case and name every damage."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from workbench.case import Case
from workbench.cli.output import Output, inert

__all__ = ["add"]

_DAMAGED = 5


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("check", parents=[common], help="read everything and name every damage")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Check the case; the exit code is 5 where something is wrong."""
    with Case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        damages = case.check(progress=progress)
    if output.as_json:
        output.document([asdict(damage) for damage in damages])
    elif damages:
        for damage in damages:
            output.say(f"{inert(damage.path)}: {inert(damage.what, 500)}")
            touched = ", ".join(capture[:12] for capture in damage.captures[:5])
            more = f" and {len(damage.captures) - 5} more" if len(damage.captures) > 5 else ""
            output.say(f"    captures it touches: {touched or 'none'}{more}")
    else:
        output.say("The case is whole.")
    return _DAMAGED if damages else 0
