"""`workbench cat`: a file of the guest as it was, to standard output, byte for byte."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Any

from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples
from workbench.errors import UsageError

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "cat",
        parents=[common],
        help="a file of the guest as it was at a moment",
        description="Write a file of the guest as it was at a moment to standard output, byte for byte; on a terminal\n"
        "only with --raw, since a guest's bytes may act there.",
        epilog=examples("workbench cat before:alert-7 /var/log/auth.log > auth.log"),
    )
    parser.add_argument("moment", metavar="MOMENT", help=WHEN)
    parser.add_argument("path", metavar="PATH", help="the guest's absolute path")
    parser.add_argument("--raw", action="store_true", help="also to a terminal")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Write the file."""
    from workbench.remote import open_case

    if output.as_json:
        raise UsageError("a file is bytes, not JSON", cure="Leave --json out.")
    if sys.stdout.isatty() and not arguments.raw:
        raise UsageError("a guest's bytes may act on a terminal", cure="Redirect them, or give --raw.")
    with (
        open_case(arguments.case, uri=arguments.connect) as case,
        case.moment(arguments.moment, arguments.guest).open_file(arguments.path) as file,
    ):
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
    return 0
