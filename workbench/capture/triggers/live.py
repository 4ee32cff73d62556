"""Where events come from on a running guest: its channel, libvirt, its console's log, its own measurements.

Each source runs in a thread of its own, goes on through whatever it cannot read, and says why it sees nothing. Refuses
to take a console away from a user: only a log file that libvirt writes is read.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as ET

from workbench.capture.triggers.channel import CHANNEL, ChannelLines
from workbench.capture.triggers.console import ConsoleWatch
from workbench.capture.triggers.event import Event
from workbench.capture.triggers.measuring import Sampler
from workbench.capture.triggers.thresholds import Threshold, Watched
from workbench.errors import GuestError
from workbench.guest import virt
from workbench.guest.connection import Guest

__all__ = ["ChannelSource", "ConsoleSource", "LibvirtSource", "MeasureSource", "Source", "run"]

_AGAIN_S = 2.0
_LOOK_S = 0.2
_SAMPLE_S = 1.0
Emit = Callable[[Event], None]


class Source(Protocol):
    """Something that sees events of one guest."""

    name: str

    def events(self, stop: threading.Event) -> Iterator[Event]:
        """Yield events until `stop`; an error ends one try, not the source."""


def run(sources: Sequence[Source], emit: Emit, stop: threading.Event) -> list[threading.Thread]:
    """Start every source in a thread of its own."""

    def watch(source: Source) -> None:
        while not stop.is_set():
            with contextlib.suppress(GuestError, OSError, virt.libvirtError):
                for event in source.events(stop):
                    emit(event)
            stop.wait(_AGAIN_S)

    threads = [threading.Thread(target=watch, args=(each,), name=each.name, daemon=True) for each in sources]
    for thread in threads:
        thread.start()
    return threads


class ChannelSource:
    """Lines on the guest's virtio-serial channel `CHANNEL`, where it has one with a unix socket."""

    name = "channel"

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def events(self, stop: threading.Event) -> Iterator[Event]:
        """Yield an event for every line that asks for a mark."""
        path = _channel_path(self._guest.xml())
        if path is None:
            return
        lines = ChannelLines()
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(_LOOK_S)
            end.connect(path)
            while not stop.is_set():
                try:
                    data = end.recv(65_536)
                except TimeoutError:
                    continue
                if not data:
                    return
                yield from lines.feed(data, time.time_ns())


class ConsoleSource:
    """The log file of the guest's first console, from its present end on."""

    name = "console"

    def __init__(self, guest: Guest, watch: ConsoleWatch) -> None:
        self._guest = guest
        self._watch = watch

    def events(self, stop: threading.Event) -> Iterator[Event]:
        """Yield an event for every line that a pattern fits."""
        path = _console_log(self._guest.xml())
        if path is None:
            return
        with path.open("rb") as file:
            at = file.seek(0, 2)
            while not stop.wait(_LOOK_S):
                size = path.stat().st_size
                if size < at:  # it was begun anew
                    return
                data = file.read(1 << 20)
                at += len(data)
                yield from self._watch.feed(data, time.time_ns())


class MeasureSource:
    """Measurements of the guest, once a second, against thresholds."""

    name = "thresholds"

    def __init__(self, guest: Guest, thresholds: Sequence[Threshold], dirty: Callable[[], float]) -> None:
        self._sampler = Sampler(guest, dirty)
        self._watched = [Watched(each) for each in thresholds]

    def events(self, stop: threading.Event) -> Iterator[Event]:
        """Yield an event for every threshold that was crossed for long enough."""
        while not stop.wait(_SAMPLE_S):
            found, now = self._sampler.sample(), time.monotonic_ns()
            for each in self._watched:
                value = found.get(each.threshold.measure)
                event = None if value is None else each.take(now, value)
                if event is not None:
                    yield Event(event.source, event.name, event.reason, time.time_ns(), event.facts)


class LibvirtSource:
    """What libvirt tells of a guest: panic, watchdog, I/O error, reset, shutdown, its agent coming and going.

    A power button that the host presses (`virsh shutdown`) is told, too: then the guest still runs, for seconds.

    `begin_loop` must have been called before the guest's connection was opened.
    """

    name = "libvirt"

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._seen: list[Event] = []
        self._heard = threading.Condition()

    @staticmethod
    def begin_loop() -> None:
        """Let libvirt deliver events in this process: once, before any connection is opened."""
        virt.virEventRegisterDefaultImpl()

        def turn() -> None:
            while True:
                virt.virEventRunDefaultImpl()

        threading.Thread(target=turn, name="libvirt events", daemon=True).start()

    def events(self, stop: threading.Event) -> Iterator[Event]:
        """Yield what libvirt tells."""
        connection, domain = self._guest.hypervisor.connection, self._guest.domain
        kinds = (
            (virt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._life),
            (virt.VIR_DOMAIN_EVENT_ID_REBOOT, self._reset),
            (virt.VIR_DOMAIN_EVENT_ID_WATCHDOG, self._watchdog),
            (virt.VIR_DOMAIN_EVENT_ID_IO_ERROR, self._io_error),
            (virt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._agent),
        )
        numbers = [connection.domainEventRegisterAny(domain, kind, hear, None) for kind, hear in kinds]
        pressed = virt.qemuMonitorEventRegister(connection, domain, "POWERDOWN", self._button, None)
        try:
            while not stop.is_set():
                with self._heard:
                    self._heard.wait_for(lambda: self._seen, _LOOK_S)
                    seen, self._seen = self._seen, []
                yield from seen
        finally:
            with contextlib.suppress(virt.libvirtError):
                virt.qemuMonitorEventDeregister(connection, pressed)
                for number in numbers:
                    connection.domainEventDeregisterAny(number)

    def _tell(self, name: str, reason: str) -> None:
        with self._heard:
            self._seen.append(Event("qemu", name, reason, time.time_ns()))
            self._heard.notify()

    def _life(self, _connection: Any, _domain: Any, event: int, detail: int, _opaque: Any) -> None:
        name = _life_event(event, detail)
        if name is not None:
            self._tell(name, f"libvirt: {name.replace('-', ' ')}")

    def _reset(self, _connection: Any, _domain: Any, _opaque: Any) -> None:
        self._tell("guest-reset", "the guest was reset")

    def _button(self, *_told: Any) -> None:
        self._tell("power-button", "the host asks the guest to shut down; it still runs")

    def _watchdog(self, _connection: Any, _domain: Any, action: int, _opaque: Any) -> None:
        self._tell("watchdog", f"the watchdog fired (action {action})")

    def _io_error(self, _connection: Any, _domain: Any, path: str, device: str, action: int, _opaque: Any) -> None:
        self._tell("io-error", f"I/O error on {device} ({Path(path).name}, action {action})")

    def _agent(self, _connection: Any, _domain: Any, state: int, _reason: int, _opaque: Any) -> None:
        """Tell of the guest's agent: that it goes may be an update, or somebody who does not want to be asked."""
        if state == virt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
            self._tell("agent-connected", "the guest's agent opened its channel")
        elif state == virt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED:
            self._tell("agent-disconnected", "the guest's agent closed its channel")


def _life_event(event: int, detail: int) -> str | None:
    """Name the changes of a domain's life that are events of their own (virDomainEventType and its detail)."""
    named = {
        (virt.VIR_DOMAIN_EVENT_CRASHED, virt.VIR_DOMAIN_EVENT_CRASHED_PANICKED): "guest-panic",
        (virt.VIR_DOMAIN_EVENT_SUSPENDED, virt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR): "io-error-pause",
        (virt.VIR_DOMAIN_EVENT_SUSPENDED, virt.VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG): "watchdog-pause",
        (virt.VIR_DOMAIN_EVENT_SHUTDOWN, virt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST): "guest-shutdown",
    }
    return named.get((event, detail))


def _channel_path(xml: str) -> str | None:
    for channel in ET.fromstring(xml).iterfind("./devices/channel[@type='unix']"):
        target, source = channel.find("target"), channel.find("source")
        if target is not None and target.get("name") == CHANNEL and source is not None:
            return source.get("path")
    return None


def _console_log(xml: str) -> Path | None:
    root = ET.fromstring(xml)
    for kind in ("serial", "console"):
        log = root.find(f"./devices/{kind}/log")
        if log is not None and log.get("file"):
            return Path(log.get("file", ""))
    return None
