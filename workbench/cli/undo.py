"""`workbench undo`: take the guest back to the safety capture of its last rewind."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.case import Case
from workbench.cli.output import Output
from workbench.cli.rewind import carry_out

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("undo", parents=[common], help="undo the last production rewind")
    parser.add_argument("--plan", action="store_true", help="only show what would be done")
    parser.add_argument("--confirm", metavar="NAME", help="the guest's name")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Plan and execute."""
    with Case(arguments.case, uri=arguments.connect) as case:
        return carry_out(case, case.plan_undo(arguments.guest), arguments, output)
