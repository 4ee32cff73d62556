"""`workbench diff`: what differs between two moments, region by region, or the blocks of one region."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.case import Case
from workbench.cli.output import Output

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("diff", parents=[common], help="what changed between two moments")
    parser.add_argument("a", metavar="A", help="the earlier moment")
    parser.add_argument("b", metavar="B", nargs="?", default="latest", help="the later one (default: latest)")
    parser.add_argument("--blocks", metavar="REGION", help="list the changed blocks of a region (pc.ram, disk:vda)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the difference."""
    with Case(arguments.case, uri=arguments.connect) as case:
        diff = case.diff(arguments.a, arguments.b, arguments.guest)
        frame = diff.blocks(arguments.blocks) if arguments.blocks else diff.summary()
    if output.as_json:
        output.document({"a": diff.a.id, "b": diff.b.id, "changes": frame.to_dict("records")})
        return 0
    output.table(list(frame.columns), frame.itertuples(index=False), numbers=("block", "blocks", "offset", "bytes"))
    return 0
