"""`workbench lifelines`: when each process, module, socket ... was first and last seen."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples

__all__ = ["add"]

_NOT_SHOWN = (
    "address",
    "Sock Offset",
    "Offset",
    "NetNS",
    "first_capture",
    "last_capture",
    "start_ns",
    "unknown",
    "Load Arguments",
    "File Output",
    "Filter",
)


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "lifelines",
        parents=[common],
        help="when each process, module, socket was first and last seen",
        description="Ask every capture of a span and follow each thing through it. KIND is processes, modules,\n"
        "sockets, mounts, files, threads, addresses, 'cached files', bpf, or a plugin's name.",
        epilog=examples(
            "workbench lifelines processes",
            "workbench lifelines sockets --since -10m --came",
            "workbench lifelines modules --json",
        ),
    )
    parser.add_argument("kind", metavar="KIND")
    parser.add_argument("--since", metavar="MOMENT", help=f"from there on: {WHEN}")
    parser.add_argument("--until", metavar="MOMENT", help="up to there")
    parser.add_argument("--came", action="store_true", help="only what was not there at the beginning")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Ask, and print; the exit code is 8 if a capture could not be asked."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        found = case.lifelines(arguments.kind, arguments.since, arguments.until, arguments.guest, progress=progress)
    if arguments.came:
        found = found[~found["since_start"]]
    show_frame(output, found, without=_NOT_SHOWN)
    failed = found.attrs["failed"]
    for capture, why in list(failed.items())[:5]:
        output.note(f"capture {capture[:12]} could not be asked: {why}")
    return 8 if failed else 0
