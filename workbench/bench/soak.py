"""`make soak`: two guests recorded by the service for as long as it takes to trust it, and what must hold at the end.

Two guests that write are captured every 2 s through `workbench serve`, one in three captures audited, with fifty
clients asking for status through the middle third. Before and after, a plain watch records the same guests: the
engine's own pauses. Prints a table; exit code 1 if one of it does not hold, 2 if it could not be run to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from workbench.bench.polling import polling
from workbench.bench.processes import Sample, children, command, leaked, rise, sample
from workbench.bench.result import percentile
from workbench.bench.served import Served, pauses, serving
from workbench.bench.status import status_in_memory
from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.demo.daemon import ensure_daemon
from workbench.errors import GuestError, WorkbenchError
from workbench.guest.connection import Hypervisor

__all__ = ["Outcome", "main", "soak"]

AUDIT_EVERY = 3
CLIENTS = 50
_LOOK_S = 2.0
_FLAT_BYTES = 8 << 20
"""What memory may rise by over the second half, and a fiftieth of what there is: allocators keep what they had."""
_EQUAL, _EQUAL_MS = 1.25, 1.0
"""How near the service's pauses must be to the engine's own: two runs of the engine differ by as much."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that must hold.

    Attributes
    ----------
    name, found, wanted : str
    holds : bool
    """

    name: str
    found: str
    wanted: str
    holds: bool


@dataclass(slots=True)
class Seen:
    """What was looked at while it ran."""

    interval_s: float
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    recorders: set[int] = field(default_factory=set)
    polled: list[float] = field(default_factory=list)
    status: dict[str, dict[str, Any]] = field(default_factory=dict)
    own: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def _guests(place: Path, uri: str, memory_mib: int) -> Iterator[list[DemoGuest]]:
    with ExitStack() as stack:
        booted = []
        for number, load in enumerate(("memory", "disk"), 1):
            spec = DemoSpec(f"soak{number}-{os.getpid()}", memory_mib=memory_mib)
            guest = stack.enter_context(DemoGuest.boot(spec, uri, place / spec.name))
            guest.load("shell")
            guest.load(load, 8)
            booted.append(guest)
        yield booted


def _watch(place: Path, uri: str, guests: Sequence[DemoGuest], interval_s: float, seconds: float) -> list[float]:
    """Record the guests by the command line alone, and return the pauses, ms."""
    with Case.create(place, uri=uri):
        pass
    common = ["--connect", uri, "--case", str(place), "--interval", str(interval_s), "--for", str(seconds)]
    words = [sys.executable, "-m", "workbench.cli", "watch"]
    running = [
        subprocess.Popen([*words, guest.name, *common], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for guest in guests
    ]
    said = [each.communicate(timeout=seconds + 300)[1] for each in running]
    for each, words_said in zip(running, said, strict=True):
        if each.returncode:
            raise GuestError("a plain watch failed", code=each.returncode, told=words_said[-300:])
    return [pause for guest in guests for pause in pauses(place, guest.name)]


def _recorders(served: Served) -> list[int]:
    return sorted(pid for pid in children(served.process.pid) if "workbench.service.recorder" in command(pid))


def _look(served: Served, qemus: dict[str, int], seen: Seen) -> None:
    now = time.monotonic()
    recorders = _recorders(served)
    seen.recorders |= set(recorders)
    looked = {"service": (served.process.pid, False)}
    looked |= {f"recorder {number}": (pid, True) for number, pid in enumerate(recorders, 1)}
    looked |= {f"QEMU {number}": (pid, False) for number, pid in enumerate(qemus.values(), 1)}
    for name, (pid, family) in looked.items():
        memory = pid not in qemus.values()
        seen.samples.setdefault(name, []).append(sample(pid, now, family=family, memory=memory))
    seen.load.append(os.getloadavg()[0])


def _record(served: Served, guests: Sequence[DemoGuest], uri: str, seconds: float, seen: Seen) -> None:
    """Have the service record the guests for so long, and look at it all the while."""
    names = [guest.name for guest in guests]
    for name in names:
        served.configure(name, interval_s=seen.interval_s)
    served.captured(names, 3)
    with Hypervisor(uri) as hypervisor:
        qemus = {name: hypervisor.guest(name).pid for name in names}
    began = time.monotonic()
    seen.seconds = seconds
    with ExitStack() as clients:
        asking = False
        while (passed := time.monotonic() - began) < seconds:
            if not asking and passed > seconds / 3:
                asking = True
                seen.polled = clients.enter_context(polling(served.socket, CLIENTS, 1.0, seconds / 3))
            _look(served, qemus, seen)
            time.sleep(_LOOK_S)
    seen.status = served.status()


def _judge(seen: Seen, case: Path, guests: Sequence[DemoGuest]) -> list[Outcome]:
    served = [pause for guest in guests for pause in pauses(case, guest.name)]
    return [
        *_captures(seen, case, guests),
        *_processes(seen),
        _pauses(served, seen.own),
        Outcome("status under 50 clients, p95", f"{percentile(seen.polled, 95):.1f} ms", "told", True),
        _health(guests),
        Outcome(
            "load of the host, median and most", f"{percentile(seen.load, 50):.1f}, {max(seen.load):.1f}", "told", True
        ),
    ]


def _captures(seen: Seen, case: Path, guests: Sequence[DemoGuest]) -> list[Outcome]:
    with Case(case) as opened:
        each_one = [opened.store.captures(opened.guest(guest.name).id) for guest in guests]
        refs = [ref for of_one in each_one for ref in of_one]
        audited = sum("audit" in opened.store.record(ref.id).facts["pause_parts_ns"] for ref in refs)
        damage = opened.check()
    failures = sum(each["failures"] for each in seen.status.values())
    missed = sum(each["missed_ticks"] for each in seen.status.values())
    ticks = len(guests) * seen.seconds / seen.interval_s
    due = sum(max(0, len(of_one) - 1) // AUDIT_EVERY for of_one in each_one)  # not the first, which compares everything
    errors = "; ".join(each["last_error"] for each in seen.status.values() if each["last_error"])
    return [
        Outcome("captures", f"{len(refs)} of {ticks:.0f} ticks", "nine in ten", len(refs) >= 0.9 * ticks),
        Outcome("audits that passed", str(audited), f"{due}: one in {AUDIT_EVERY}", audited == due),
        Outcome("failed captures and audits", f"{failures} {errors}".strip(), "0", failures == 0),
        Outcome("missed ticks", str(missed), "one in twenty", missed <= ticks / 20),
        Outcome("recorders begun", str(len(seen.recorders)), str(len(guests)), len(seen.recorders) == len(guests)),
        Outcome("check of all captures", f"{len(damage)} damages", "0", not damage),
    ]


def _processes(seen: Seen) -> Iterator[Outcome]:
    for name, samples in seen.samples.items():
        if not name.startswith("QEMU"):  # its memory is the guest's
            last, rose = samples[-1].pss, rise(samples)
            most = _FLAT_BYTES + last / 50
            found = f"{last / 1e6:.1f} MB, {rose / 1e6:+.1f} MB"
            yield Outcome(f"memory of {name}, second half", found, f"+{most / 1e6:.0f} MB", rose <= most)
        stay = leaked(samples)
        yield Outcome(f"descriptors of {name}", f"{samples[-1].descriptors}, {stay:+d}", "+0", stay <= 0)


def _pauses(served: Sequence[float], own: Sequence[float]) -> Outcome:
    if not served or not own:
        few = f"{len(served)} captures, {len(own)} of the engine alone"
        return Outcome("pause p95, not audited", few, "some of both: record for longer", False)
    mine, engine = percentile(served, 95), percentile(own, 95)
    most = _EQUAL * engine + _EQUAL_MS
    found = f"{mine:.1f} ms (median {percentile(served, 50):.1f})"
    wanted = f"{most:.1f} ms; the engine alone: {engine:.1f} (median {percentile(own, 50):.1f})"
    return Outcome("pause p95, not audited", found, wanted, mine <= most)


def _health(guests: Sequence[DemoGuest]) -> Outcome:
    wrong = [problem for guest in guests for problem in guest.health().problems]
    return Outcome("guests after it", "; ".join(map(str, wrong)) or "well", "well", not wrong)


def soak(
    place: Path,
    uri: str,
    seconds: float,
    *,
    interval_s: float = 2.0,
    memory_mib: int = 256,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Outcome]:
    """Run it and return what holds and what does not.

    Parameters
    ----------
    place : Path
        A directory that QEMU's user can reach; everything is made in it.
    seconds : float
        How long the service records; plain watches before and after take a tenth of that each, or six intervals.
    interval_s : float
        Between captures.

    Raises
    ------
    WorkbenchError
        If a guest, the service or a watch could not be run.
    """
    seen, plain = Seen(interval_s), max(6 * interval_s, seconds / 10)
    with _guests(place, uri, memory_mib) as guests:
        say(f"a plain watch of {plain:.0f} s")
        seen.own += _watch(place / "before", uri, guests, interval_s, plain)
        with serving(place / "served", uri, audit_every=AUDIT_EVERY) as served:
            say(f"the service, for {seconds:.0f} s")
            _record(served, guests, uri, seconds, seen)
        say(f"a plain watch of {plain:.0f} s")
        seen.own += _watch(place / "after", uri, guests, interval_s, plain)
        say("checking every capture")
        return _judge(seen, place / "served" / "case", guests)


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="Soak", title_justify="left")
    for column in ("what", "found", "wanted", "holds"):
        table.add_column(column, overflow="fold")
    for each in outcomes:
        table.add_row(each.name, each.found, each.wanted, "yes" if each.holds else "NO")
    return table


def main(words: Sequence[str] | None = None) -> int:
    """Run the soak; return the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description="Record two guests for long, and see what holds.")
    parser.add_argument("--connect", default="qemu:///session", metavar="URI")
    parser.add_argument("--seconds", type=float, default=600.0, metavar="S", help="default: %(default)g")
    parser.add_argument("--memory", type=int, default=256, metavar="MIB", help="RAM of each guest, default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the table goes as JSON")
    arguments = parser.parse_args(words)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    with status_in_memory(arguments.connect), tempfile.TemporaryDirectory(prefix="rewind-soak-") as directory:
        Path(directory).chmod(0o711)
        ensure_daemon(arguments.connect)
        try:
            outcomes = soak(
                Path(directory), arguments.connect, arguments.seconds, memory_mib=arguments.memory, say=console.print
            )
        except WorkbenchError as error:
            console.print(f"could not be run to its end: {error}", markup=False)
            return 2
    console.print(_table(outcomes))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    return 0 if all(each.holds for each in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
