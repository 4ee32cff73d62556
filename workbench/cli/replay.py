"""`workbench replay`: run an exact recording again, look into it, and debug it backwards."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from workbench.cli.frames import show_frame
from workbench.cli.output import Output
from workbench.cli.text import inert, short
from workbench.cli.words import examples

if TYPE_CHECKING:
    from workbench.case import ExactRecording

__all__ = ["add"]

_HUNG = 4


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "replay",
        parents=[common],
        help="run an exact recording again",
        description="Run the same instructions again, to the end or to any count of them.",
        epilog=examples(
            "workbench replay",
            "workbench replay 5a0e --until 2000000000 --capture",
            "workbench replay 5a0e --last-write 0x7afa000",
            "workbench replay 5a0e --last-write-of /etc/passwd",
            "workbench replay 5a0e --until 2000000000 --gdb",
        ),
    )
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="the recording (default: the newest)")
    parser.add_argument("--until", type=int, metavar="N", help="stop after so many instructions (default: at its end)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds after which it is taken for hung")
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--list", action="store_true", help="the recordings of the case")
    act.add_argument("--capture", action="store_true", help="put that instant into the case")
    act.add_argument(
        "--last-write", type=lambda text: int(text, 0), metavar="ADDRESS", help="which instruction last changed it"
    )
    act.add_argument("--last-write-of", metavar="PATH", help="when this file of the disk was last written")
    act.add_argument("--gdb", action="store_true", help="let gdb in there; Enter ends it")
    parser.add_argument("--length", type=int, default=8, metavar="BYTES", help="with --last-write (default: 8)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Replay, and say how it went."""
    from workbench.case import Case

    with Case(arguments.case, uri=arguments.connect) as case:
        if arguments.list:
            show_frame(output, case.exact_recordings())
            return 0
        found = case.exact_recording(arguments.id)
        if arguments.capture:
            moment = found.capture(found.icount if arguments.until is None else arguments.until)
            output.say(f"Captured: {short(moment.id)}, of guest {found.id}.")
            return 0
        if arguments.last_write is not None:
            return _last_write(found, arguments, output)
        if arguments.last_write_of:
            return _last_write_of(found, arguments, output)
        if arguments.gdb:
            return _debug(found, arguments, output)
        return _replay(found, arguments, output)


def _replay(found: ExactRecording, arguments: argparse.Namespace, output: Output) -> int:
    outcome = found.replay(arguments.until, timeout=arguments.timeout)
    same = outcome.icount == found.icount and outcome.ram_digest == found.description.ram_digest
    if output.as_json:
        told = {**asdict(outcome), "console": outcome.console.decode(errors="replace"), "same": same}
        output.document(told)
    elif outcome.hung:
        output.say(f"It hung at instruction {outcome.icount}: {outcome.why}")
    else:
        words = ", memory as it was recorded" if same else ""
        output.say(f"Replayed to instruction {outcome.icount} in {outcome.seconds:.1f} s{words}.")
    return _HUNG if outcome.hung else 0


def _last_write(found: ExactRecording, arguments: argparse.Namespace, output: Output) -> int:
    with output.progress() as progress:
        write = found.last_write(
            arguments.last_write, arguments.length, before=arguments.until, progress=progress
        )  # fmt: skip
    if output.as_json:
        output.document({**asdict(write), "before": write.before.hex(), "value": write.value.hex()})
        return 0
    output.say(f"{write.before.hex()} became {write.value.hex()} after instruction {write.after}, by {write.by}.")
    output.say(f"rip {write.rip:#x}, cr3 {write.cr3:#x}, {'user' if write.cpl == 3 else 'kernel'}")
    return 0


def _last_write_of(found: ExactRecording, arguments: argparse.Namespace, output: Output) -> int:
    with output.progress() as progress:
        write = found.last_write_of_file(arguments.last_write_of, before=arguments.until, progress=progress)
    if output.as_json:
        output.document(asdict(write))
        return 0
    before, now = (f"{each.size} bytes" if each.exists else "no such file" for each in (write.before, write.value))
    output.say(f"{inert(write.path)}: {before} after instruction {write.after}, {now} by {write.by}.")
    output.say(f"Look between: workbench replay {found.id[:8]} --until {write.after} --capture")
    return 0


def _debug(found: ExactRecording, arguments: argparse.Namespace, output: Output) -> int:
    with found.gdb(found.icount if arguments.until is None else arguments.until) as debugger:
        output.say(f"In another terminal: {debugger.command}")
        output.say("reverse-stepi and reverse-continue work. Enter ends the replay.")
        input()
    return 0
