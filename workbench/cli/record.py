"""`workbench record`: run a machine of one's own, or a captured moment, under exact recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import Output
from workbench.cli.text import inert
from workbench.cli.words import examples

if TYPE_CHECKING:
    from workbench.case import Machine

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "record",
        parents=[common],
        help="run a machine, or a moment of the past, and record every instruction",
        description="Boot a machine under TCG with one CPU and no network, or go on from a captured moment of such a\n"
        "guest, and record it so that `workbench replay` runs the same instructions again. A guest that runs already\n"
        "is captured with `workbench watch`.",
        epilog=examples(
            "workbench record --kernel vmlinuz --initrd initrd.gz --disk root.qcow2 --until 'login:'",
            "workbench record --from 14:03 --seconds 20",
            "workbench record --after 5a0e --seconds 20",
        ),
    )
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="the kernel; copied")
    parser.add_argument("--initrd", type=Path, metavar="FILE", help="its initial RAM disk; copied")
    disk = parser.add_mutually_exclusive_group()
    disk.add_argument("--disk", type=Path, metavar="FILE", help="a disk image; copied")
    disk.add_argument("--disk-of", metavar="WHEN", help="the first disk of a moment of the case")
    parser.add_argument("--format", choices=("qcow2", "raw"), default="qcow2", help="of the image (default: qcow2)")
    begins = parser.add_mutually_exclusive_group()
    begins.add_argument("--after", metavar="ID", help="go on where this recording ended")
    begins.add_argument("--from", dest="moment", metavar="WHEN", help="go on from a moment of the case: memory and all")
    parser.add_argument("--append", metavar="TEXT", help="kernel command line")
    parser.add_argument("--memory", type=int, metavar="MIB", help="memory (default: 128)")
    parser.add_argument("--name", help="what it is called (default: exact)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long (default: 60)")
    parser.add_argument("--until", metavar="PATTERN", help="end when the console shows this, within --seconds")
    parser.add_argument("--type", dest="typed", default="", metavar="TEXT", help="type this on the console then")
    parser.add_argument("arguments", nargs="*", metavar="QEMU", help="further arguments of QEMU, after --")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Record, and say where the recording is."""
    from workbench.case import Case

    with Case.open_or_create(arguments.case, uri=arguments.connect) as case, output.progress() as progress:
        disk_of, moment = (
            case.moment(each, arguments.guest) if each else None for each in (arguments.disk_of, arguments.moment)
        )
        found = case.boot_exactly(
            _machine(arguments),
            seconds=arguments.seconds,
            until=arguments.until,
            typed=arguments.typed,
            progress=progress,
            kernel=arguments.kernel,
            initrd=arguments.initrd,
            disk=arguments.disk or disk_of,
            disk_format=arguments.format,
            after=case.exact_recording(arguments.after) if arguments.after else None,
            moment=moment,
        )
    if output.as_json:
        output.document({"id": found.id, "instructions": found.icount, "ram_digest": found.description.ram_digest})
        return 0
    output.say(f"{inert(found.description.machine.name)} is recorded: {found.id}, {found.icount} instructions.")
    output.say(f"Replay it: workbench replay {found.id[:8]}")
    return 0


def _machine(arguments: argparse.Namespace) -> Machine | None:
    """Return the machine that was asked for; None where nothing was said of it: a moment has its own."""
    from workbench.case import Machine

    wanted = {
        "name": arguments.name, "memory_mib": arguments.memory, "kernel_line": arguments.append,
        "arguments": tuple(arguments.arguments) or None,
    }  # fmt: skip
    said = {name: value for name, value in wanted.items() if value is not None}
    return Machine(**said) if said else None
