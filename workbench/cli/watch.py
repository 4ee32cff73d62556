"""`workbench watch`: capture continuously until Ctrl-C, a count, a time, or the guest's end."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

from workbench.case import Case, Recording, Tick
from workbench.cli import recording
from workbench.cli.output import Output, inert
from workbench.errors import GuestGoneError, UsageError

__all__ = ["add"]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser("watch", parents=[common], help="capture a running guest continuously")
    recording.add_words(parser)
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between captures (default 2)")
    parser.add_argument("--count", type=int, metavar="N", help="end after N captures")
    parser.add_argument("--for", dest="seconds", type=float, metavar="S", help="end after so many seconds")
    parser.set_defaults(run=run)


@dataclass
class _Listener:
    """Prints every turn and ends the watch when enough was seen."""

    output: Output
    running: Recording
    count: int | None
    until: float | None
    captures: int = 0
    failures: int = 0
    skipped: int = field(default=0)

    def __call__(self, tick: Tick) -> None:
        self.skipped += tick.skipped
        if tick.record is not None:
            self.captures += 1
        else:
            self.failures += 1
        self._tell(tick)
        enough = self.count is not None and self.captures >= self.count
        if enough or (self.until is not None and time.monotonic() >= self.until):
            self.running.end()

    def _tell(self, tick: Tick) -> None:
        if self.output.as_json:
            told = recording.brief(tick.record) if tick.record else {"error": str(tick.error)}
            self.output.document({**told, "late_s": tick.late_s, "skipped": tick.skipped})
            return
        if tick.skipped:
            self.output.note(f"the interval was not held: {tick.skipped} captures skipped, {tick.late_s:.1f} s late")
        if tick.record is not None:
            self.output.say(recording.line(tick.record))
        else:
            self.output.note(f"capture failed: {inert(tick.error, 500)}")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Watch the guest."""
    if arguments.count is not None and arguments.count < 1:
        raise UsageError("--count must be at least 1", found=arguments.count)
    until = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    with (
        Case.open_or_create(arguments.case, uri=arguments.connect) as case,
        output.progress() as progress,
        case.record(arguments.name, progress=progress, **recording.options(arguments)) as running,
    ):
        listener = _Listener(output, running, arguments.count, until)
        try:
            running.watch(arguments.interval, listener)
        except GuestGoneError as error:
            output.note(f"the guest ended: {inert(error.message)}")
        except KeyboardInterrupt:
            output.note("")
    if not output.as_json:
        output.note(f"{listener.captures} captures, {listener.failures} failed, {listener.skipped} skipped.")
    return 0 if listener.captures or not listener.failures else 6
