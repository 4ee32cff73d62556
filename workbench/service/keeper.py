"""A keeper: has one guest recorded whenever it runs, through whatever happens to it, to libvirt and to the recorder.

It starts a recorder when the guest is there, hears its turns, answers whoever asked for something, and starts another
when that one ended: at once after a rewind by restart, later and later after failures. An interval that cannot be held,
a volume that fills, or a budget of all guests that is used up, stretches the interval, said in the status; it comes
back when it can. Refuses to touch the guest itself.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from workbench.capture.triggers.event import Event
from workbench.errors import (
    GuestBusyError,
    GuestError,
    GuestGoneError,
    GuestNotFoundError,
    OutcomeUnknownError,
    WorkbenchError,
)
from workbench.service.budget import Budget, Use
from workbench.service.configuration import GuestConfiguration
from workbench.service.increments import Increments
from workbench.service.pace import Pace
from workbench.service.recorder import Order
from workbench.service.status import GuestStatus, Tally
from workbench.service.watchdog import Watchdog
from workbench.service.wire import Channel
from workbench.store.told import as_error

__all__ = ["Keeper"]

_LOOK_S = 1.0
"""Seconds between looks for a guest that does not run."""
_PATIENCE = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next try after so many failures."""
_DAY_S = 86_400.0
_SILENT = "silent"
_NO_PHASE = -1.0
"""Before a recorder was told of its turns."""
_END_S = 30.0
"""Seconds that a recorder gets to finish the capture under way."""

Finder = Callable[[str], tuple[str, str] | None]
"""Gives UUID and name of a running guest, or None."""


def _unknown(_name: str) -> str:
    return ""


class Keeper:
    """Keeps one guest recorded.

    Parameters
    ----------
    configuration : GuestConfiguration
    case : Path
    connect : str
        libvirt's address.
    find : callable
        Looks for the running guest.
    why_off : callable
        Says in words why a guest of this name does not run.
    busy : callable
        Says in words who has the guest of this UUID, so that it cannot be recorded now; nothing where nobody has.
    silent_s : float
        Seconds without a sign of life after which a recorder is taken for hung, and replaced.
    free_bytes : int
        Free space of the case's volume below which intervals are stretched.
    saw : callable
        Hears what the guest's trigger sources saw, in the keeper's thread: it must not wait.
    budget : Budget
        Shared with the keepers of other guests.
    found : callable
        Hears what was found in an increment, and the capture that it is of, in a thread that may wait.
    rules : Path or None
        The service's directory of rules.
    audit_every : int
        Have every so many captures audited; 0 for none.
    """

    def __init__(
        self,
        configuration: GuestConfiguration,
        *,
        case: Path,
        connect: str,
        find: Finder,
        why_off: Callable[[str], str] = _unknown,
        busy: Callable[[str], str] = _unknown,
        silent_s: float = 30.0,
        free_bytes: int = 0,
        saw: Callable[[Keeper, Event], None] = lambda _keeper, _event: None,
        found: Callable[[Keeper, Event, str], None] = lambda _keeper, _event, _capture: None,
        rules: Path | None = None,
        budget: Budget | None = None,
        audit_every: int = 0,
    ) -> None:
        self.tally = Tally()
        self._configuration = configuration
        self._saw = saw
        self._budget, self._audit_every = budget or Budget(), audit_every
        self._case, self._connect, self._find, self._free = case, connect, find, free_bytes
        self._increments = Increments(
            configuration.guest,
            configuration.triggers.increments,
            case=case,
            rules=rules,
            found=lambda event, capture: found(self, event, capture),
        )
        self._why_off, self._silent_s = why_off, silent_s
        self._busy, self._aside = busy, 0
        self._idle = threading.Event()
        self._idle.set()
        self._off: str | None = None
        self._before_silence = ("", "")
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._state, self._why = "waiting", "not looked for yet"
        self._identity: tuple[str, str] | None = None
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._pace, self._phase = Pace(configuration.interval_s), _NO_PHASE
        self._thread = threading.Thread(target=self._keep, name=f"keeper of {configuration.guest}", daemon=True)

    # For whoever asks; from any thread.

    @property
    def configuration(self) -> GuestConfiguration:
        """What is asked for."""
        return self._configuration

    @property
    def pid(self) -> int | None:
        """The recorder's process, where there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def examiner_pid(self) -> int | None:
        """The process that looks at increments, where there is one."""
        return self._increments.pid

    @property
    def identity(self) -> tuple[str, str] | None:
        """UUID and name of the guest, once it was seen."""
        return self._identity

    def start(self) -> None:
        """Begin to keep the guest."""
        self._thread.start()

    def configure(self, configuration: GuestConfiguration) -> None:
        """Go on with another configuration, without a gap where only the interval changed."""
        with self._lock:
            before, self._configuration = self._configuration, configuration
            self._pace, self._phase = Pace(configuration.interval_s), _NO_PHASE
            same = replace_interval(before, configuration) == configuration
        self._increments.configure(configuration.triggers.increments)
        if same and configuration.enabled:
            self._send(do="interval", seconds=self._seconds())
        else:
            self._send(do="end")
        self._wake.set()

    def ask(self, **order: Any) -> Future[dict[str, Any]]:
        """Send an order to the recorder; the future has its answer, or fails with the recorder's error.

        Raises
        ------
        GuestError
            If the guest is not being recorded.
        """
        self.require_recording()
        number, future = next(self._numbers), Future[dict[str, Any]]()
        with self._lock:
            self._asked[number] = future
        if not self._send(id=number, **order):
            self._give_up("the recorder ended")
        return future

    def let_go(self, event: Event) -> None:
        """Let the guest go that is held for an event which nothing is captured for."""
        if event.facts.get("held"):
            self._send(do="let_go")

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the guest to somebody else for the body: the recorder ends before it, and another begins after it.

        Raises
        ------
        GuestBusyError
            If the recorder does not end.
        """
        with self._lock:
            self._aside += 1
        try:
            until = time.monotonic() + 2 * _END_S
            while not self._idle.is_set():
                if time.monotonic() >= until:
                    raise GuestBusyError(f"the recorder of {self._configuration.guest} does not end", cure="Ask again.")
                self._send(do="end")
                self._idle.wait(0.2)
            yield
        finally:
            with self._lock:
                self._aside -= 1
            self._wake.set()

    def require_recording(self) -> None:
        """Make sure that a recorder can take orders.

        Raises
        ------
        GuestError
            If the guest is not being recorded.
        """
        with self._lock:
            state, why = self._state, self._why
        if state != "recording":
            name = self._configuration.guest
            raise GuestError(f"{name} is not being recorded", state=state, why=why, cure="See its status.")

    def status(self) -> GuestStatus:
        """Return how it is."""
        with self._lock:
            state, why, pace, identity = self._state, self._why, self._pace, self._identity
        told = self.tally.status(self._configuration, state, why, pace, identity, free=self._space())
        return replace(told, increments=self._increments.state())

    def end(self) -> None:
        """Let the recorder finish what it does and detach; nothing of ours stays in the guest."""
        self._ended.set()
        self._send(do="end")
        self._wake.set()
        self._increments.end()
        if self._thread.is_alive():
            self._thread.join(_END_S + 5)

    # The keeper's own thread.

    def _keep(self) -> None:
        failures = 0
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                failed = self._once()
            except Exception as error:  # noqa: BLE001  (a keeper outlives whatever happens, and says it)
                self._say("trouble", f"{type(error).__name__}: {error}")
                failed = True
            failures = failures + 1 if failed and time.monotonic() - began < 60 else int(failed)
            if failed:
                self._sleep(_PATIENCE[min(failures, len(_PATIENCE)) - 1])

    def _once(self) -> bool:
        """Look for the guest and have it recorded as long as that lasts; tells whether it ended in a failure."""
        found = self._look()
        if found is None or not self._take_guest():
            self._sleep(_LOOK_S)
            return False
        try:
            return self._record(found) is not None and not self._ended.is_set()
        finally:
            self._idle.set()

    def _take_guest(self) -> bool:
        with self._lock:
            if not self._aside:
                self._idle.clear()
            return not self._aside

    def _look(self) -> tuple[str, str] | None:
        if not self._configuration.enabled:
            self._say("off", "switched off by its configuration")
            return None
        try:
            found = self._find(self._configuration.guest)
            self._off = None if found is not None else self._off or self._why_off(self._configuration.guest)
        except WorkbenchError as error:
            self._say("trouble", error.message)
            return None
        if found is None:
            self._say("waiting", f"the guest does not run{f': {self._off}' if self._off else ''}")
            return None
        self._identity = found
        why = "left to an act that takes the whole guest" if self._aside else self._busy(found[0])
        if why:
            self._say("waiting", why)
        return None if why else found

    def _record(self, found: tuple[str, str]) -> WorkbenchError | None:
        """Run one recorder to its end; returns what ended it, None for an end that is no failure."""
        self._say("attaching", "the first capture compares everything")
        error: WorkbenchError | None = None
        try:
            channel = self._begin(found[0])
        except OSError as wrong:
            error = GuestError(f"no recorder could be started: {wrong.strerror}")
        else:
            try:
                assert self._process is not None
                with Watchdog(self._process, self._silent_s, self._silent, self._look_at_room) as watchdog:
                    error = self._hear(channel, watchdog)
            finally:
                self._finish(channel)
        if isinstance(error, (GuestGoneError, GuestNotFoundError)):
            self._say("waiting", error.message)
            return None
        if error is not None:
            self.tally.failed(error)
            self._say("trouble", error.message)
        return error

    def _begin(self, guest: str) -> Channel:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workbench.service.recorder", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        channel, self._phase = Channel(ours), _NO_PHASE
        triggers = self._configuration.triggers.model_dump(mode="json", exclude={"increments"})
        quiesce = self._configuration.quiesce.model_dump(mode="json")
        order = Order(str(self._case), self._connect, guest, self._seconds(), triggers, quiesce, self._audit_every)
        channel.send(order=asdict(order))
        self._channel = channel
        return channel

    def _silent(self, seconds: float) -> None:
        """Say that nothing is heard of the recorder, or, for 0 seconds, that it is there again."""
        if self._state != _SILENT:
            self._before_silence = self._state, self._why
        if seconds:
            self._say(_SILENT, f"its recorder has said nothing for {seconds:.0f} s")
        elif self._state == _SILENT:
            self._say(*self._before_silence)

    def _look_at_room(self) -> None:
        """Follow what is free between two turns: a stretched interval would be long to wait for."""
        with self._lock:
            before, self._pace = self._pace, self._pace.roomed(self._space(), self._free)
            changed = self._pace.seconds != before.seconds
        if changed:
            self._send(do="interval", seconds=self._seconds(), phase=self._phase)

    def _hear(self, channel: Channel, watchdog: Watchdog) -> WorkbenchError | None:
        try:
            while True:
                message = channel.receive()
                watchdog.heard()
                self._silent(0)
                if "failed" in message:
                    return as_error(message["failed"])
                self._take(message)
        except EOFError:
            code = self._process.wait(_END_S) if self._process is not None else 0
            if watchdog.bit:
                return GuestError(f"the recorder hung: it said nothing for {self._silent_s:g} s, and was ended")
            return None if code == 0 else GuestError("the recorder died", code=code)
        except subprocess.TimeoutExpired:
            return GuestError("the recorder did not end")

    def _take(self, message: dict[str, Any]) -> None:
        if "tick" in message:
            self._say("recording", "")
            self.tally.take(message["tick"])
            self._adapt(message["tick"])
            if message["tick"].get("capture"):
                self._increments.take(str(message["tick"]["capture"]))
        elif "answer" in message:
            with self._lock:
                future = self._asked.pop(message["answer"], None)
            if future is not None:
                if "error" in message:
                    future.set_exception(as_error(message["error"]))
                else:
                    future.set_result(message)
        elif "event" in message:
            self._saw(self, Event(**message["event"]))
        elif "holds" in message:
            self.tally.holding(message["holds"], str(message["why"]))
        elif message.get("state") == "recording":
            self._say("recording", "")

    def _adapt(self, tick: dict[str, Any]) -> None:
        """Follow what a turn said of this guest, and what all guests together leave it."""
        configuration, before = self._configuration, (self._pace.seconds, self._phase)
        turn, use = (
            tick.get("mode", "continuous") == "continuous",
            Use(float(tick["cpu_s"]), float(tick.get("stored_bytes") or 0)),
        )
        allotted = self._budget.after(
            configuration.guest, self._unstretched(), use, time.monotonic(), turn=turn, whole=bool(tick["whole"])
        )
        pace = self._pace.after(skipped=int(tick["skipped"]), free=self._space(), least=self._free)
        with self._lock:
            if configuration is not self._configuration:
                return  # what was heard is of the configuration before
            self._pace, self._phase = pace.within(allotted.stretch, allotted.why), allotted.phase
        if (self._pace.seconds, self._phase) != before:
            self._send(do="interval", seconds=self._seconds(), phase=self._phase)

    def _finish(self, channel: Channel) -> None:
        self._channel = None
        self._budget.leave(self._configuration.guest)
        process, self._process = self._process, None
        channel.close()
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
            if process.poll() is None:
                process.kill()  # its guard lets the guest go on
                process.wait()
        self._give_up("the recorder ended")

    def _give_up(self, why: str) -> None:
        with self._lock:
            asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(OutcomeUnknownError(why, cure="Look at the timeline for what was done."))

    def _seconds(self) -> float:
        """Return the interval that is held; a guest without continuous captures has one a day."""
        return self._pace.seconds if "continuous" in self._configuration.modes else _DAY_S

    def _unstretched(self) -> float:
        return self._configuration.interval_s if "continuous" in self._configuration.modes else _DAY_S

    def _space(self) -> int:
        try:
            return shutil.disk_usage(self._case).free
        except OSError:
            return 0

    def _send(self, **message: Any) -> bool:
        channel = self._channel
        if channel is None:
            return False
        try:
            channel.send(**message)
        except OSError:
            return False
        return True

    def _say(self, state: str, why: str) -> None:
        with self._lock:
            self._state, self._why = state, why

    def _sleep(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()


def replace_interval(before: GuestConfiguration, after: GuestConfiguration) -> GuestConfiguration:
    """Return the configuration before with what a running recorder can follow taken from the one after."""
    names = ("interval_s", "retention", "modes")
    triggers = before.triggers.model_copy(update={"increments": after.triggers.increments})
    return before.model_copy(update={"triggers": triggers} | {name: getattr(after, name) for name in names})
