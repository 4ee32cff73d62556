"""`workbench undo`: take the guest back to the safety capture of its last rewind."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.cli.output import Output
from workbench.cli.rewind import add_words, carry_out
from workbench.cli.words import examples
from workbench.errors import UsageError

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "undo",
        parents=[common],
        help="undo the last production rewind",
        description="Take the guest itself back to where it was when it was last rewound.",
        epilog=examples("workbench undo --plan", "workbench undo --confirm web1"),
    )
    parser.add_argument("name", metavar="GUEST", nargs="?", help="which guest; needless where the case has one")
    add_words(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan and execute."""
    from workbench.remote import open_case

    if arguments.name and arguments.guest not in (None, arguments.name):
        raise UsageError("two guests are named", guests=[arguments.name, arguments.guest], cure="Name one.")
    with open_case(arguments.case, uri=arguments.connect) as case:
        return carry_out(case, case.plan_undo(arguments.name or arguments.guest), arguments, output)
