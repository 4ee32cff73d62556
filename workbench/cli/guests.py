"""`workbench guests`: the running guests of a hypervisor."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.cli.output import Output
from workbench.cli.table import Column
from workbench.cli.text import inert
from workbench.cli.words import examples

__all__ = ["add"]

_COLUMNS = (
    Column("name", wraps=True),
    Column("uuid"),
    Column("MiB", right=True),
    Column("vcpus", right=True),
    Column("state"),
)


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "guests",
        parents=[common],
        help="the guests that run",
        description="List the guests that run and can be captured.",
        epilog=examples("workbench guests --connect qemu:///system"),
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the running guests."""
    from workbench.case import running_guests

    frame = running_guests(arguments.connect)
    if output.as_json:
        output.document(frame.to_dict("records"))
    elif frame.empty:
        output.say(f"No guest runs on {inert(arguments.connect)}.")
    else:
        output.table(_COLUMNS, list(frame.itertuples(index=False, name=None)))
    return 0
