"""`workbench guests`: the running guests of a hypervisor."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.case import running_guests
from workbench.cli.output import Output

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("guests", parents=[common], help="the guests that run")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the running guests."""
    frame = running_guests(arguments.connect)
    if output.as_json:
        output.document(frame.to_dict("records"))
    elif frame.empty:
        output.say(f"No guest runs on {arguments.connect}.")
    else:
        output.table(list(frame.columns), frame.itertuples(index=False), numbers=("memory_mib", "vcpus"))
    return 0
