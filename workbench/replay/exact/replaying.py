"""Run a recording again: the same instructions, to any count of them.

Preconditions: a whole recording; nothing of it is written, a replay works in copies of its own. On success the machine
stands at the asked instruction. On failure, and whenever the `Replay` is closed, its QEMU is gone and its directory
removed. A wait that is over its limit is a result: the replay hung, and where it stood is said.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from workbench.errors import GuestGoneError, MonitorError, OutcomeUnknownError, UsageError
from workbench.replay.exact import images
from workbench.replay.exact.content import ram_digest
from workbench.replay.exact.description import Description
from workbench.replay.exact.machine import comma_twice, qemu_arguments
from workbench.replay.exact.qemu import ExactQemu
from workbench.replay.exact.quiet import refuse_unquiet
from workbench.replay.exact.scratch import Scratch, sweep_scratch
from workbench.replay.exact.states import save_state
from workbench.replay.exact.waypoints import Waypoint, nearest

__all__ = ["HungError", "Replay", "ReplayOutcome", "replay_once"]

_RATE = 5_000_000
"""Instructions a second below which a replay is taken for hung: a twentieth of what TCG does on a slow host."""
_LEAST = 60.0
_LOOK = 2.0
"""Seconds that a hung QEMU is given to say where it stands."""


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """How a replay ended.

    Attributes
    ----------
    icount : int
        Instructions run from the beginning of the recording.
    hung : bool
        Whether it stood still, or did not get there in time; it was ended.
    why : str
        In words where it hung or QEMU ended.
    console : bytes
        What it printed since where it began.
    ram_digest : str
        As `Description.ram_digest`; empty where it hung.
    seconds : float
    """

    icount: int
    hung: bool
    why: str
    console: bytes
    ram_digest: str
    seconds: float


class HungError(OutcomeUnknownError):
    """A replay did not get where it was asked to in time; `facts` has the instruction count where it stood."""


class Replay:
    """A replay under way, standing at an instruction; a context manager that ends it.

    Parameters
    ----------
    place : Path
        The directory of the recording.
    near : int
        Begin at the last kept waypoint before this instruction.
    timeout : float, optional
        Seconds that one way to a stop may take; by default a minute more than the instructions could take.
    debugger : str
        The name of a unix socket in `run` at which QEMU waits for gdb; empty for none.
    verified : bool
        Whether the caller has held the files against their digests a moment ago.

    Raises
    ------
    DamagedError, FormatError, MissingError
        If the recording is not whole.
    GuestGoneError
        If QEMU refuses it.
    """

    def __init__(
        self,
        place: Path,
        *,
        near: int = 0,
        timeout: float | None = None,
        debugger: str = "",
        verified: bool = False,
    ) -> None:
        self.place, self.timeout = place, timeout
        self._seen = 0
        self.description = Description.read(place)
        if not verified:
            self.description.verify(place)
        self.begun: Waypoint | None = nearest(place, near, self.description)
        sweep_scratch()
        self._scratch = Scratch()
        self.run = self._scratch.path
        try:
            self.qemu = self._start(debugger)
        except BaseException:
            self._scratch.close()
            raise
        if timeout is not None:
            self.qemu.monitor.limit = min(self.qemu.monitor.limit, max(_LOOK, timeout))

    def _start(self, debugger: str) -> ExactQemu:
        found, begun = self.description, self.begun
        images.copy_run(self.place, self.run, disk=found.disk, source=begun.place if begun else None)
        words = qemu_arguments(
            found.machine, self.place, self.run, found.id, "replay",
            disk=found.disk, snapshot=begun.tag if begun else found.snapshot,
        )  # fmt: skip
        if debugger:
            words += ["-chardev", f"socket,id=gdb,server=on,wait=off,path={comma_twice(self.run / debugger)}"]
            words += ["-gdb", "chardev:gdb"]
        return ExactQemu([*words, "-S"], self.run, found.id, found.machine.name)

    @property
    def icount(self) -> int:
        """Where it stands."""
        self._seen = self.qemu.icount()
        return self._seen

    def to(self, icount: int) -> int:
        """Run on to an instruction count and stand there; return it.

        Raises
        ------
        UsageError
            If it lies behind, or after the end of the recording.
        HungError
            If it does not get there in time; close it then.
        GuestGoneError
            If QEMU ended on the way.
        """
        try:
            return self._to(icount)
        except HungError:
            raise
        except OutcomeUnknownError as error:
            raise HungError("the replay hung: QEMU does not answer", icount=self._stood(), asked=icount) from error

    def _to(self, icount: int) -> int:
        here = self.icount
        if not here <= icount <= self.description.icount:
            raise UsageError(
                "no such instruction ahead", asked=icount, here=here, end=self.description.icount,
                cure="Begin another replay for one that lies behind.",
            )  # fmt: skip
        if icount == here:
            return here
        monitor = self.qemu.monitor
        monitor.execute("replay-break", icount=icount)
        monitor.forget("STOP")
        monitor.execute("cont")
        self._arrive(icount, here)
        if (stood := self.icount) != icount:
            raise HungError("the replay stopped elsewhere than asked", icount=stood, asked=icount)
        return icount

    def _arrive(self, icount: int, here: int) -> None:
        limit = self.timeout if self.timeout is not None else _LEAST + (icount - here) / _RATE
        try:
            self.qemu.monitor.wait_event("STOP", limit)
        except OutcomeUnknownError as error:
            raise HungError(
                f"the replay hung: not at its stop within {limit:g} s", icount=self._stood(), asked=icount
            ) from error

    def _stood(self) -> int:
        """Ask a hung QEMU where it stands; where it does not answer any more, it is where it was last seen."""
        with contextlib.suppress(OutcomeUnknownError, GuestGoneError, MonitorError):
            return int(self.qemu.monitor.execute("query-replay", limit=_LOOK)["icount"])
        return self._seen

    def settle_disk(self) -> Path:
        """Have QEMU write out what it holds of the overlay, and return the file; QEMU goes on using it.

        The flush goes to the image below `blkreplay`: one through that would wait for the log.

        Raises
        ------
        MonitorError
            Also if the disk has requests under way; it stands as before.
        """
        refuse_unquiet(self.qemu)
        said = self.qemu.monitor.human("qemu-io image flush").strip()
        if said:
            raise MonitorError(f"QEMU did not write out the disk: {said}")
        return self.run / "disk.qcow2"

    def keep_waypoint(self) -> Waypoint:
        """Keep where it stands, so that later replays can begin here.

        Raises
        ------
        MonitorError
            If QEMU refuses: events of the log are under way at this instruction. It stands as before.
        """
        found = Waypoint(self.place / "waypoints" / str(self.icount), self.icount)
        if not found.whole:
            save_state(self.qemu, found.tag, ["image"] if self.description.disk else [])
            with found.making() as place:
                images.copy_file(self.run / "state.qcow2", place / "state.qcow2")
                if self.description.disk:
                    images.copy_file(self.settle_disk(), place / "disk.qcow2")
        return found

    def outcome(self, began: float, why: str = "", *, hung: bool = False, icount: int = 0) -> ReplayOutcome:
        """Return how it stands now."""
        console = self.qemu.console_bytes()
        if hung:
            return ReplayOutcome(icount, True, why, console, "", time.monotonic() - began)
        return ReplayOutcome(self.icount, False, why, console, ram_digest(self.qemu), time.monotonic() - began)

    def close(self) -> None:
        """End its QEMU and remove its files."""
        self.qemu.close()
        self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def replay_once(place: Path, until: int | None = None, *, timeout: float | None = None) -> ReplayOutcome:
    """Replay a recording from its beginning to an instruction, or to its end, and say how it went.

    Raises
    ------
    UsageError
        If there is no such instruction.
    DamagedError, FormatError, MissingError, GuestGoneError
    """
    began = time.monotonic()
    with Replay(place, timeout=timeout) as replay:
        try:
            replay.to(replay.description.icount if until is None else until)
        except HungError as hung:
            return replay.outcome(began, str(hung), hung=True, icount=int(str(hung.facts["icount"])))
        return replay.outcome(began)
