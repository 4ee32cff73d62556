"""`workbench timeline`: every capture of a guest."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.case import Case
from workbench.cli.output import Output

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("timeline", parents=[common], help="what was captured, and when")
    parser.add_argument("--last", type=int, metavar="N", help="only the newest N")
    parser.add_argument("--branch", type=int, metavar="B", help="only one branch of history")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the timeline."""
    with Case(arguments.case, uri=arguments.connect) as case:
        frame = case.timeline(arguments.guest)
    if arguments.branch is not None:
        frame = frame[frame["branch"] == arguments.branch]
    if arguments.last is not None:
        frame = frame.tail(max(0, arguments.last))
    rows = frame.to_dict("records")
    if output.as_json:
        output.document(rows)
        return 0
    cells = [
        (
            row["time"].strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            row["short"],
            row["branch"],
            row["mode"],
            f"{row['pause_ms']:.1f}",
            row["dirty_pages"],
            row["dirty_clusters"],
            f"{(row['stored_bytes'] or 0) / 1e3:.0f}",
            row["marks"] or row["reason"],
        )
        for row in rows
    ]
    numbers = ("branch", "pause ms", "pages", "clusters", "kB")
    output.table(("time (UTC)", "capture", "branch", "mode", *numbers[1:], "marks or reason"), cells, numbers=numbers)
    return 0
