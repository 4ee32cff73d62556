"""`workbench record`: run a machine of one's own under exact recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.cli.output import Output
from workbench.cli.text import inert
from workbench.cli.words import examples

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "record",
        parents=[common],
        help="boot a machine and record every instruction",
        description="Boot a machine under TCG with one CPU and no network, and record it so that `workbench replay`\n"
        "runs the same instructions again. A guest that runs already is recorded with `workbench watch`.",
        epilog=examples(
            "workbench record --kernel vmlinuz --initrd initrd.gz --disk root.qcow2 --until 'login:'",
            "workbench record --after 5a0e --seconds 20",
        ),
    )
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="the kernel; copied")
    parser.add_argument("--initrd", type=Path, metavar="FILE", help="its initial RAM disk; copied")
    disk = parser.add_mutually_exclusive_group()
    disk.add_argument("--disk", type=Path, metavar="FILE", help="a disk image; copied")
    disk.add_argument("--disk-of", metavar="WHEN", help="the first disk of a moment of the case")
    parser.add_argument("--format", choices=("qcow2", "raw"), default="qcow2", help="of the image (default: qcow2)")
    parser.add_argument("--after", metavar="ID", help="go on where this recording ended")
    parser.add_argument("--append", metavar="TEXT", help="kernel command line")
    parser.add_argument("--memory", type=int, default=128, metavar="MIB", help="memory (default: 128)")
    parser.add_argument("--name", default="exact", help="what it is called (default: exact)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long (default: 60)")
    parser.add_argument("--until", metavar="PATTERN", help="end when the console shows this, within --seconds")
    parser.add_argument("--type", dest="typed", default="", metavar="TEXT", help="type this on the console then")
    parser.add_argument("arguments", nargs="*", metavar="QEMU", help="further arguments of QEMU, after --")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Record, and say where the recording is."""
    from workbench.case import Case, Machine

    line = {} if arguments.append is None else {"kernel_line": arguments.append}
    machine = Machine(
        name=arguments.name, memory_mib=arguments.memory, arguments=tuple(arguments.arguments), **line
    )  # fmt: skip
    with Case.open_or_create(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        moment = case.moment(arguments.disk_of, arguments.guest) if arguments.disk_of else None
        found = case.boot_exactly(
            machine,
            seconds=arguments.seconds,
            until=arguments.until,
            typed=arguments.typed,
            progress=progress,
            kernel=arguments.kernel,
            initrd=arguments.initrd,
            disk=arguments.disk or moment,
            disk_format=arguments.format,
            after=case.exact_recording(arguments.after) if arguments.after else None,
        )
    if output.as_json:
        output.document({"id": found.id, "instructions": found.icount, "ram_digest": found.description.ram_digest})
        return 0
    output.say(f"{inert(arguments.name)} is recorded: {found.id}, {found.icount} instructions.")
    output.say(f"Replay it: workbench replay {found.id[:8]}")
    return 0
