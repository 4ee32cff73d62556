"""`workbench export`: a disk of a moment as an image, files of a moment into a folder, or everything as a timeline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.words import WHEN, examples

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "export",
        help="disks, files and timelines out of a case",
        description="Take something out of a case for other tools.",
        epilog=examples(
            "workbench export disk latest vda vda.qcow2",
            "workbench export files before:alert-7 /etc evidence/",
            "workbench export timeline -10m latest timeline.csv --format timesketch-csv",
        ),
    )
    acts = parser.add_subparsers(dest="act", metavar="ACT", required=True)
    disk = acts.add_parser("disk", parents=[common], help="a disk as qcow2 or raw, sparse")
    disk.add_argument("moment", metavar="MOMENT", help=WHEN)
    disk.add_argument("disk", metavar="DISK", help="vda")
    disk.add_argument("target", metavar="FILE", type=Path, help="new; .qcow2, .raw or .img")
    disk.add_argument("--format", choices=("qcow2", "raw"), help="where the name does not say it")
    disk.set_defaults(run=_disk)
    files = acts.add_parser("files", parents=[common], help="a file, or a directory with what is in it")
    files.add_argument("moment", metavar="MOMENT", help=WHEN)
    files.add_argument("path", metavar="PATH", help="the guest's absolute path")
    files.add_argument("into", metavar="FOLDER", type=Path, help="nothing is written outside of it")
    files.set_defaults(run=_files)
    timeline = acts.add_parser("timeline", parents=[common], help="everything between two moments, in order of time")
    timeline.add_argument("a", metavar="A", help="the earlier moment")
    timeline.add_argument("b", metavar="B", help="the later one")
    timeline.add_argument("target", metavar="FILE", type=Path, help="new")
    timeline.add_argument(
        "--format",
        default="csv",
        choices=("csv", "json", "parquet", "timesketch-csv", "timesketch-jsonl"),
        help="default: csv",
    )
    timeline.set_defaults(run=_timeline)


def _disk(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        disk = case.moment(arguments.moment, arguments.guest).disk(arguments.disk)
        made = disk.export(arguments.target, arguments.format, progress)
    return _told(output, made)


def _files(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        manifest = case.moment(arguments.moment, arguments.guest).extract(arguments.path, arguments.into)
    show_frame(output, manifest, without=("target", "kind"))
    return 0


def _timeline(arguments: argparse.Namespace, output: Output) -> int:
    from workbench.case import export_frame
    from workbench.remote import open_case

    with open_case(arguments.case, uri=arguments.connect) as case:
        frame = case.diff(arguments.a, arguments.b, arguments.guest).everything()
        made = export_frame(frame, arguments.target, arguments.format)
    for part, why in frame.attrs["failed"].items():
        output.note(f"{part} could not be asked: {why}")
    return _told(output, made) or (8 if frame.attrs["failed"] else 0)


def _told(output: Output, made: Path) -> int:
    if output.as_json:
        output.document({"file": str(made)})
    else:
        output.say(str(made))
    return 0
