"""`workbench diff`: what differs between two moments, region by region, or the blocks of one region."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.words import WHEN, examples

__all__ = ["add"]

_NUMBERS = ("block", "blocks", "offset", "bytes")


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "diff",
        parents=[common],
        help="what changed between two moments",
        description="Count what changed in each region, or list the changed blocks of one with their offsets in bytes.",
        epilog=examples("workbench diff -30s latest", "workbench diff clean latest --blocks disk:vda"),
    )
    parser.add_argument("a", metavar="A", help=f"the earlier moment: {WHEN}")
    parser.add_argument("b", metavar="B", nargs="?", default="latest", help="the later one (default: latest)")
    parser.add_argument("--blocks", metavar="REGION", help="list the changed blocks of a region (pc.ram, disk:vda)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the difference."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        diff = case.diff(arguments.a, arguments.b, arguments.guest)
        frame = diff.blocks(arguments.blocks) if arguments.blocks else diff.summary()
    if output.as_json:
        output.document({"a": diff.a.id, "b": diff.b.id, "changes": frame.to_dict("records")})
        return 0
    columns = [Column(name, right=name in _NUMBERS, wraps=name == "region") for name in frame.columns]
    output.table(columns, list(frame.itertuples(index=False, name=None)))
    return 0
