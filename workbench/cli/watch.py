"""`workbench watch`: capture continuously until Ctrl-C, a count, a time, or the guest's end."""

from __future__ import annotations

import argparse
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.cli import recording
from workbench.cli.output import Output
from workbench.cli.text import inert, millis, number, short, thousands, when
from workbench.cli.words import examples
from workbench.errors import GuestGoneError, UsageError

if TYPE_CHECKING:
    from workbench.case import Recording, Tick

__all__ = ["add"]

_ALL_FAILED, _INTERRUPTED = 6, 130
_HEADER = (
    f"{'time (UTC)':<23}  {'capture':<12}  {'pause ms':>8}  {'pages':>7}  {'clusters':>8}  {'kB':>9}  {'late s':>6}"
)


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "watch",
        parents=[common],
        help="capture a running guest continuously",
        description="Capture every so many seconds and say each: one line, with --json one JSON document a line.\n"
        "Ctrl-C ends it after the capture under way and leaves nothing in the guest; a second one breaks that off.",
        epilog=examples("workbench watch web1 --interval 2", "workbench watch web1 --interval 0.5 --for 60 --json"),
    )
    recording.add_words(parser)
    parser.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between captures (default 2)")
    parser.add_argument("--count", type=int, metavar="N", help="end after N captures")
    parser.add_argument("--for", dest="seconds", type=float, metavar="S", help="end after so many seconds")
    parser.set_defaults(run=run)


@dataclass
class _Watch:
    """Prints every turn and ends the watch when enough was seen."""

    output: Output
    running: Recording
    count: int | None
    captures: int = 0
    failures: int = 0
    skipped: int = 0
    interrupted: bool = False
    why: str = ""

    def __call__(self, tick: Tick) -> None:
        self.skipped += tick.skipped
        self.captures += tick.record is not None
        self.failures += tick.record is None
        self._tell(tick)
        if self.interrupted or (self.count is not None and self.captures >= self.count):
            self.running.end()

    def interrupt(self) -> None:
        """End after the capture under way; called by a signal."""
        self.interrupted = True
        self.output.note("ending after the capture under way; again to break it off")
        self.running.end()

    def _tell(self, tick: Tick) -> None:
        if self.output.as_json:
            told = recording.brief(tick.record) if tick.record is not None else _failed(tick)
            self.output.document({**told, "late_s": tick.late_s, "skipped": tick.skipped})
            return
        if tick.skipped:
            self.output.note(f"the interval is not held: {tick.skipped} skipped, the capture before took too long")
        if tick.record is not None:
            if self.captures == 1:
                self.output.say(_HEADER)
            self.output.say(_line(tick))
            self._tell_consistency(str(tick.record.facts.get("consistency_why", "")))
        else:
            self.output.note(f"capture failed, number {self.failures}: {inert(tick.error, 1000)}")

    def _tell_consistency(self, why: str) -> None:
        """Say why captures are only crash-consistent though more was asked for, when that changes."""
        if why != self.why:
            self.output.note(f"only crash-consistent: {inert(why, 1000)}" if why else "application-consistent again")
        self.why = why

    def summary(self) -> str:
        """Return what came of it."""
        return f"{self.captures} captures, {self.failures} failed, {self.skipped} skipped."


def _failed(tick: Tick) -> dict[str, Any]:
    error = tick.error
    return {"error": type(error).__name__, "message": str(error)}


def _line(tick: Tick) -> str:
    assert tick.record is not None
    facts = tick.record.facts
    pages, clusters = (number(facts.get(name)) for name in ("dirty_pages", "dirty_clusters"))
    return (
        f"{when(tick.record.time_ns)}  {short(tick.record.id)}  {millis(facts.get('pause_ns')):>8}  {pages:>7}  "
        f"{clusters:>8}  {thousands(facts.get('stored_bytes')):>9}  {tick.late_s:>6.2f}"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Watch the guest."""
    for name, value in (("--count", arguments.count), ("--for", arguments.seconds)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} must be more than 0", found=value, cure="Leave it out to watch until Ctrl-C.")
    with recording.opened(arguments, output, recording.wish(arguments)) as running:
        watch = _Watch(output, running, arguments.count)
        with arguments.interrupts.gently(watch.interrupt):
            _until_the_end(watch, arguments)
    output.note(watch.summary())
    if watch.interrupted:
        return _INTERRUPTED
    return 0 if watch.captures or not watch.failures else _ALL_FAILED


def _until_the_end(watch: _Watch, arguments: argparse.Namespace) -> None:
    """Let the loop run; the end of the guest is an end like any other once something was captured."""
    timer = threading.Timer(arguments.seconds or 0, watch.running.end)
    timer.daemon = True
    if arguments.seconds is not None:
        timer.start()
    try:
        watch.running.watch(arguments.interval, watch)
    except GuestGoneError as error:
        if not watch.captures:
            raise
        watch.failures -= 1  # the turn in which it was seen is the end, not a capture that failed
        watch.output.note(f"the guest ended: {inert(error.message)}")
    finally:
        timer.cancel()
