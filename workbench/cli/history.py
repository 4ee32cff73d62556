"""`workbench history`: every version of a file over the timeline."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples

__all__ = ["add"]

_SHOWN = ("first_seen", "last_seen", "captures", "present", "size", "sha256", "modified", "note")


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "history",
        parents=[common],
        help="every version of a file over the timeline",
        description="List the versions of a file with the time each was there. Where it is gone, the row before says\n"
        "until when it was there: `workbench cat` gives it back.",
        epilog=examples("workbench history /var/log/auth.log", "workbench history /etc/passwd --since -1h --json"),
    )
    parser.add_argument("path", metavar="PATH", help="the guest's absolute path")
    parser.add_argument("--since", metavar="MOMENT", help=f"from there on: {WHEN}")
    parser.add_argument("--until", metavar="MOMENT", help="up to there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the versions."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        frame = case.history(arguments.path, arguments.since, arguments.until, arguments.guest)
    show_frame(output, frame, without=[name for name in frame.columns if name not in _SHOWN])
    return 0
