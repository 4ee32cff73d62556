"""A recorder: the process that captures one guest for the service, until it is told to end or its guest does.

It is a process of its own so that nothing the service does can make a pause longer, and so that what happens to one
guest stays there. It hears orders (capture, interval, rewind, event, end) and tells of every turn and what it took.
When the service dies it hears the end of its channel, finishes the capture under way and detaches. Refuses to decide
anything: how often, what next and whether to go on is the keeper's.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.capture.holding.client import Holding
from workbench.capture.schedule import CaptureLoop, Tick
from workbench.capture.triggers.event import Event
from workbench.case import Case, Quiesce, Recording, Rewound
from workbench.errors import GuestError, WorkbenchError
from workbench.model import CaptureId, CaptureMode
from workbench.progress import ProgressEvent
from workbench.service.lookback import mark_before, mark_name
from workbench.service.sources import begin, watching
from workbench.service.wire import Channel, tell_error

__all__ = ["Order", "main"]

_BEAT_S = 1.0
"""Seconds between signs of life."""
_CACHES = 32 << 20
"""Bytes that a recorder caches of the case: it runs for weeks, beside others, and a capture looks at little of it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a recorder is started with.

    Attributes
    ----------
    case, connect, guest : str
        The case's path, libvirt's address, the guest's UUID.
    interval_s : float
        Between captures.
    triggers : dict
        JSON values of `TriggerSettings`.
    quiesce : dict
        JSON values of `QuiesceSettings`.
    audit_every : int
        Prove in every so many captures that no page was missed; 0 for none.
    """

    case: str
    connect: str
    guest: str
    interval_s: float
    triggers: dict[str, Any] = field(default_factory=dict)
    quiesce: dict[str, Any] = field(default_factory=dict)
    audit_every: int = 0


class _Recorder:
    """Turns orders into captures of one recording, and turns into messages."""

    _recording: Recording
    _loop: CaptureLoop

    def __init__(self, channel: Channel, order: Order) -> None:
        self._channel = channel
        self._order = order
        self._dirty = 0.0  # pages per second, between the last two captures
        self._last_ns = 0
        self._turns = 0
        self._cpu = 0.0
        self._holding: Holding | None = None

    def run(self) -> None:
        order = self._order
        begin(order.triggers)
        threading.Thread(target=self._beat, name="signs of life", daemon=True).start()
        wish = self._wish() if order.quiesce.get("enabled") else None
        with (
            Case(Path(order.case), uri=order.connect) as case,
            case.record(order.guest, quiesce=wish, progress=self._progress) as it,
        ):
            case.store.bound(_CACHES)
            self._recording = it
            self._loop = CaptureLoop(it.session, order.interval_s)
            threading.Thread(target=self._listen, name="orders", daemon=True).start()
            self._channel.send(state="recording")
            try:
                self._hold()
                with watching(order.connect, order.guest, order.triggers, lambda: self._dirty, self._saw):
                    self._loop.run(self._heard)
            finally:
                self._unhold()

    def _wish(self) -> Quiesce:
        asked = self._order.quiesce
        return Quiesce(float(asked.get("timeout_s", 2.0)), required=bool(asked.get("required")))

    def _hold(self) -> None:
        """Have the guest held at what would lose its state, where that is asked for; that it cannot be is told."""
        asked = self._order.triggers
        if not asked.get("hold"):
            return
        try:
            holding = Holding(self._order.connect, self._order.guest, float(asked["hold_s"]))
        except GuestError as error:
            self._channel.send(holds={}, why=error.message)
            return
        self._holding, fates = holding, holding.fates
        self._recording.session.as_found = holding.as_found
        self._channel.send(holds={"panic": fates.panic, "watchdog": fates.watchdog}, why=fates.why_not)

    def _unhold(self) -> None:
        holding, self._holding = self._holding, None
        if holding is not None:
            self._recording.session.as_found = str
            holding.close()

    # Orders, in a thread of their own.

    def _listen(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                getattr(self, f"_do_{message['do']}")(message)
        except (EOFError, KeyError, AttributeError, TypeError, ValueError):
            self._loop.stop()

    def _do_end(self, _message: dict[str, Any]) -> None:
        self._loop.stop()

    def _do_interval(self, message: dict[str, Any]) -> None:
        phase = message.get("phase")
        self._loop.set_interval(float(message["seconds"]), None if phase is None else float(phase))

    def _do_capture(self, message: dict[str, Any]) -> None:
        mode = CaptureMode(message["mode"])
        wish = self._wish() if message.get("quiesce") else None
        self._request(message, mode, str(message["reason"]), message.get("mark"), quiesce=wish)

    def _do_event(self, message: dict[str, Any]) -> None:
        event = Event(message["source"], message["name"], message["reason"], int(message["time_ns"]))
        wish = None
        if message.get("held") and self._order.quiesce.get("enabled"):
            wish = replace(self._wish(), required=False)  # a guest that stands cannot freeze; its state is lost after
        self._request(message, CaptureMode.EVENT, event.reason, mark_name(event), event, wish)

    def _do_let_go(self, _message: dict[str, Any]) -> None:
        self._let_go()

    def _let_go(self) -> None:
        holding = self._holding
        if holding is not None:
            holding.let_go()

    def _do_rewind(self, message: dict[str, Any]) -> None:
        self._loop.call(lambda: self._rewind(message))

    def _request(
        self,
        message: dict[str, Any],
        mode: CaptureMode,
        reason: str,
        mark: str | None,
        event: Event | None = None,
        quiesce: Quiesce | None = None,
    ) -> None:
        def told(tick: Tick) -> None:
            try:
                if event is not None and tick.record is not None:
                    self._look_back(event, tick.record.id)
                self._answer(message, tick)
            finally:
                if message.get("held"):
                    self._let_go()

        self._loop.request(mode, reason, mark, told, quiesce=quiesce)

    # What orders do, in the loop's thread.

    def _look_back(self, event: Event, taken: CaptureId) -> None:
        seconds = float(self._order.triggers.get("look_back_s", 0))
        mark_before(self._recording.case.store, self._recording.guest.id, event, taken, seconds)

    def _rewind(self, message: dict[str, Any]) -> None:
        recording, case = self._recording, self._recording.case
        self._unhold()  # what a rewind starts anew is described as the guest was found
        try:
            if message["to"] is None:
                plan = case.plan_undo(recording.guest.id)
            else:
                plan = case.plan_rewind(f"id:{message['to']}", "production", recording.guest.id)
            done = recording.rewind(plan, confirm=message["confirm"], progress=self._progress)
        except WorkbenchError as error:
            self._channel.send(answer=message["id"], error=tell_error(error))
            if "restarted" in error.facts:
                self._loop.stop()
            else:
                self._hold()
            return
        self._channel.send(answer=message["id"], rewound=_rewound(done))
        if done.how != "in place":  # the session's QEMU is gone
            self._loop.stop()
        else:
            self._hold()

    def _answer(self, message: dict[str, Any], tick: Tick) -> None:
        if tick.record is None:
            assert tick.error is not None
            self._channel.send(answer=message["id"], error=tell_error(tick.error))
        else:
            told = {"capture": tick.record.id, "time_ns": tick.record.time_ns}
            told |= {name: tick.record.facts.get(name, "") for name in ("consistency", "consistency_why")}
            self._channel.send(answer=message["id"], **told)

    # What is told.

    def _beat(self) -> None:
        """Tell that this process is there: one that hangs, or is stopped, says nothing."""
        with contextlib.suppress(OSError):  # the end of the channel is heard by who listens
            while True:
                self._channel.send(beat=True)
                time.sleep(_BEAT_S)

    def _saw(self, event: Event) -> None:
        holding = self._holding
        if holding is not None and event.source == "qemu":
            if event.name == "watchdog-pause" and holding.holds("watchdog"):
                return  # the pause is ours
            if holding.holds(event.name):
                event.facts["held"] = True
        with contextlib.suppress(OSError):
            self._channel.send(event=asdict(event))

    def _heard(self, tick: Tick) -> None:
        told: dict[str, Any] = {"late_s": tick.late_s, "skipped": tick.skipped, "at_ns": time.monotonic_ns()}
        told |= {"whole": self._turns == 0, "cpu_s": self._cpu_taken()}
        self._audit_next()
        if tick.record is not None:
            facts = tick.record.facts
            names = ("pause_ns", "dirty_pages", "dirty_clusters", "stored_bytes", "tracker")
            told["instant_ns"], told["ahead_ns"] = facts["monotonic_ns"], facts.get("clock_ahead_ns", 0)
            told |= {name: facts.get(name) for name in ("consistency", "consistency_why", "frozen_ns")}
            told |= {"capture": tick.record.id, "time_ns": tick.record.time_ns, "mode": str(tick.record.mode)}
            told |= {name: facts.get(name) for name in names}
            seconds = (tick.record.time_ns - self._last_ns) / 1e9
            self._dirty = facts["dirty_pages"] / seconds if self._last_ns and seconds > 0 else 0.0
            self._last_ns = tick.record.time_ns
        if tick.error is not None:
            told["error"] = tell_error(tick.error)
        try:
            self._channel.send(tick=told)
        except OSError:
            self._loop.stop()

    def _cpu_taken(self) -> float:
        """Return the processor time since the last turn, s: this process's, and so its captures'."""
        before, self._cpu = self._cpu, time.process_time()
        return self._cpu - before

    def _audit_next(self) -> None:
        self._turns += 1
        every = self._order.audit_every
        self._recording.session.audit = bool(every) and self._turns % every == 0

    def _progress(self, event: ProgressEvent) -> None:
        with contextlib.suppress(OSError):  # who hears it no more hears of the next turn neither, and that ends it
            self._channel.send(progress=[event.task, event.done, event.total, event.unit, event.note])


def _rewound(done: Rewound) -> dict[str, Any]:
    return {
        "how": done.how,
        "target": done.target.id,
        "safety": done.safety.id,
        "downtime_ns": done.downtime_ns,
        "thaw": done.thaw,
    }


def main(descriptor: int) -> int:
    """Record until told to end; the exit code is 0, or 1 after an error that was told."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service says when; a Ctrl-C at its terminal reaches all
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        _Recorder(channel, Order(**channel.receive()["order"])).run()
    except EOFError:
        return 0
    except WorkbenchError as error:
        channel.send(failed=tell_error(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
