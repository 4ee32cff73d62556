"""`workbench yara`: rules over the pages that changed in each capture, and whose they are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples

__all__ = ["add"]

_NOT_SHOWN = (
    "capture",
    "namespace",
    "region",
    "offset",
    "length",
    "tags",
    "mapping_start",
    "mapping_end",
    "virtual",
    "shared",
    "file_offset",
    "mappings",
    "detail",
)


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "yara",
        parents=[common],
        help="scan what changed in each capture with YARA rules",
        description="Scan the memory that changed in each capture (of the first one, all) with YARA-X rules, say\n"
        "whose a page with a hit is, and mark the first capture in which each rule hit.",
        epilog=examples("workbench yara rules/ --since -10m", "workbench yara implant.yar --no-marks --json"),
    )
    parser.add_argument("rules", metavar="RULES", type=Path, help="a file, or a directory of .yar files")
    parser.add_argument("--since", metavar="MOMENT", help=f"from there on: {WHEN}")
    parser.add_argument("--until", metavar="MOMENT", help="up to there")
    parser.add_argument("--no-marks", action="store_true", help="do not mark the timeline")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Scan, and print; the exit code is 8 if a capture could not be scanned to its end."""
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        found = case.yara(
            arguments.rules,
            arguments.since,
            arguments.until,
            arguments.guest,
            mark=not arguments.no_marks,
            progress=progress,
        )
    show_frame(output, found, without=_NOT_SHOWN)
    failed = found.attrs["failed"]
    for capture, why in list(failed.items())[:5]:
        output.note(f"capture {capture[:12]} was not scanned to its end: {why}")
    return 8 if failed else 0
