"""The service's side of what looks at a guest's increments: what waits, the examiner's process, and how it is.

A thread of its own for each guest: neither the keeper nor a capture waits for it. An examiner that dies, hangs or
cannot begin costs the increment under way, is said in the state and started again later and later. Refuses to let
what waits grow: past the backlog all but the newest is skipped, counted, and what came of it is looked at with that.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from workbench.capture.triggers.event import Event
from workbench.errors import GuestError, WorkbenchError
from workbench.service.configuration import IncrementSettings
from workbench.service.rules import rules_text
from workbench.service.wire import Channel
from workbench.store.told import as_error

__all__ = ["IncrementState", "Increments"]

_PATIENCE = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds before another examiner is started, after so many failures in a row."""
_START_S = 300.0
"""Seconds that an examiner gets to compile its rules: it works only where nobody else wants to."""
_END_S = 30.0
"""Seconds that the end of an examiner that closed its channel is waited for, so that what ended it can be told."""
_TRIES = 2
"""Examiners that an increment may cost before it is left out."""
Found = Callable[[Event, str], None]
"""Hears an event and the capture that it is of."""


@dataclass(frozen=True, slots=True)
class IncrementState:
    """How looking at increments goes.

    Attributes
    ----------
    state : {"off", "idle", "working", "trouble"}
    why : str
        What the trouble is, or what could not be looked at in the last increment.
    examined, skipped, failed, hits, restarts : int
        Increments that were looked at, left out for want of time, and could not be looked at; events told; examiners
        lost. Since the service began.
    backlog : int
        Captures that wait, with the one that is being looked at.
    last_capture : str
        The newest that was looked at.
    last_seconds : float or None
        Processor time that it took.
    last_hit, last_hit_capture : str
        The newest event, and the capture that it is of.
    """

    state: Literal["off", "idle", "working", "trouble"] = "off"
    why: str = ""
    examined: int = 0
    skipped: int = 0
    failed: int = 0
    hits: int = 0
    restarts: int = 0
    backlog: int = 0
    last_capture: str = ""
    last_seconds: float | None = None
    last_hit: str = ""
    last_hit_capture: str = ""


class Increments:
    """Has the increments of one guest looked at.

    Parameters
    ----------
    name : str
        The guest's, for threads.
    wanted : IncrementSettings
    case : Path
    rules : Path or None
        The service's directory of rules.
    found : callable
        Hears what was found, in this object's thread.
    """

    def __init__(self, name: str, wanted: IncrementSettings, *, case: Path, rules: Path | None, found: Found) -> None:
        self._name, self._wanted = name, wanted
        self._case, self._rules, self._found = case, rules, found
        self._changed = threading.Condition()
        self._ended = False
        self._state = IncrementState("idle" if wanted.wanted else "off")
        self._waiting: deque[str] = deque()
        self._base: str | None = None
        self._failures = 0
        self._again = 0.0  # no examiner before this
        self._tries = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._of: IncrementSettings | None = None  # what the examiner was started with
        self._thread: threading.Thread | None = None

    # For whoever asks; from any thread, and at once.

    @property
    def pid(self) -> int | None:
        """The examiner's process, where there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def state(self) -> IncrementState:
        """Return how it is."""
        with self._changed:
            return replace(self._state, backlog=len(self._waiting))

    def take(self, capture: str) -> None:
        """Have a new capture looked at."""
        with self._changed:
            if self._ended or not self._wanted.wanted:
                return
            self._waiting.append(capture)
            under_way = int(self._state.state == "working")  # the first is being looked at
            skipped = len(self._waiting) - under_way - 1
            if skipped >= self._wanted.backlog:
                self._waiting = deque([*list(self._waiting)[:under_way], capture])
                self._state = replace(self._state, skipped=self._state.skipped + skipped)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name=f"increments of {self._name}", daemon=True)
                self._thread.start()
            self._changed.notify()

    def configure(self, wanted: IncrementSettings) -> None:
        """Look for something else, from the next capture on."""
        with self._changed:
            if wanted == self._wanted:
                return
            self._wanted = wanted
            self._failures, self._again = 0, 0.0
            self._say("idle" if wanted.wanted else "off", "")
            if not wanted.wanted:
                self._waiting.clear()
            self._changed.notify()

    def end(self) -> None:
        """End the examiner; what waits is not looked at."""
        with self._changed:
            self._ended = True
            self._changed.notify()
            process = self._process
            if process is not None:
                process.kill()
        if self._thread is not None:
            self._thread.join(10)

    # The thread.

    def _keep(self) -> None:
        try:
            while (capture := self._next()) is not None:
                try:
                    self._examine(capture)
                except (WorkbenchError, OSError) as error:
                    self._failed(capture, getattr(error, "message", str(error)))
                except Exception as error:  # noqa: BLE001  (it outlives whatever happens, and says it)
                    self._failed(capture, f"{type(error).__name__}: {error}")
        finally:
            self._leave()

    def _next(self) -> str | None:
        """Wait for a capture that may be looked at; it stays first in the row until it was. None at the end."""
        while True:
            with self._changed:
                if self._ended:
                    return None
                stale = self._process is not None and self._of != self._wanted
                now = time.monotonic()
                if not stale and self._waiting and self._wanted.wanted and now >= self._again:
                    return self._waiting[0]
                if not stale:
                    self._changed.wait(max(0.01, self._again - now) if self._waiting else None)
            if stale:
                self._leave()

    def _examine(self, capture: str) -> None:
        channel, wanted = self._channel or self._begin(), self._of
        assert wanted is not None
        self._say("working", self._state.why)
        try:
            channel.send(examine=capture, base=self._base)
            told = channel.receive()
        except TimeoutError:
            raise GuestError(self._what_hangs(wanted.patience_s)) from None
        except (EOFError, OSError):
            raise GuestError(self._what_ended()) from None
        self._done(capture, told)

    def _begin(self) -> Channel:
        with self._changed:
            wanted = self._wanted
        order = {
            "case": str(self._case),
            "rules": rules_text(wanted, self._rules),
            "detectors": wanted.detectors,
            "whole_first": wanted.whole_first,
            "limit_s": wanted.limit_s,
        }
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as told:  # a pipe would wait for the other side, a message has a bound
            told.write(json.dumps(order).encode())
            told.seek(0)
            with self._changed:
                if self._ended:
                    raise GuestError("the service ends")
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "workbench.service.examiner", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=told,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            self._of = wanted
        ours.settimeout(_START_S)
        channel = self._channel = Channel(ours)
        try:
            told_first = channel.receive()
        except TimeoutError:
            raise GuestError(self._what_hangs(_START_S)) from None
        except EOFError:
            raise GuestError(self._what_ended()) from None
        if "failed" in told_first:
            raise as_error(told_first["failed"])
        ours.settimeout(wanted.patience_s)
        return channel

    def _what_hangs(self, seconds: float) -> str:
        """Say what became of an examiner that does not answer."""
        assert self._process is not None
        if self._process.poll() is not None:
            return self._what_ended()
        return f"the examiner did not answer within {seconds:g} s"

    def _what_ended(self) -> str:
        """Say what became of an examiner whose channel is closed: it ends as soon as it gets a processor."""
        process, wanted = self._process, self._of
        assert process is not None
        assert wanted is not None
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "the examiner closed its channel and did not end"
        if code == -signal.SIGPROF:
            return f"an increment took more than {wanted.limit_s:g} s of processor time"
        return f"the examiner was ended by signal {-code}" if code < 0 else f"the examiner ended with {code}"

    def _done(self, capture: str, told: dict[str, Any]) -> None:
        done, unseen = bool(told["done"]), str(told["unseen"])
        events = [Event(**each) for each in told["events"]]
        for event in events:
            try:
                self._found(event, capture)
            except WorkbenchError as error:
                unseen = f"{event.name} could not be marked: {error.message}; {unseen}"
        with self._changed:
            self._base, self._failures, self._tries = capture, 0, 0
            self._drop(capture)
            self._state = replace(
                self._state,
                state="idle" if done else "trouble",
                why=unseen[:500],
                examined=self._state.examined + done,
                failed=self._state.failed + (not done),
                hits=self._state.hits + len(events),
                last_capture=capture,
                last_seconds=float(told["seconds"]),
            )
            if events:
                self._state = replace(self._state, last_hit=events[-1].name, last_hit_capture=capture)

    def _failed(self, capture: str, why: str) -> None:
        """Let go of an examiner, and of the capture where it was not the first that it cost."""
        self._leave()
        with self._changed:
            if self._ended:
                return
            began = self._state.state == "working"  # else it is the examiner that could not begin: the capture waits
            self._failures += 1
            self._again = time.monotonic() + _PATIENCE[min(self._failures, len(_PATIENCE)) - 1]
            self._tries += began
            given_up = began and self._tries >= _TRIES
            if given_up:
                self._base, self._tries = capture, 0
                self._drop(capture)
            lost = self._state.failed + given_up
            self._state = replace(self._state, restarts=self._state.restarts + 1, failed=lost)
            self._say("trouble", why)

    def _drop(self, capture: str) -> None:
        if self._waiting and self._waiting[0] == capture:
            self._waiting.popleft()

    def _leave(self) -> None:
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        if process is not None:
            process.kill()
            process.wait()
        if channel is not None:
            channel.close()

    def _say(self, state: Literal["off", "idle", "working", "trouble"], why: str) -> None:
        with self._changed:  # a Condition's lock may be taken again by the thread that holds it
            self._state = replace(self._state, state=state, why=why[:500])
