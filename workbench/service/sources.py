"""A guest's trigger sources as its configuration asks for them, in the recorder's process.

They have a libvirt connection of their own. Refuses to hold up captures: sources only tell the keeper, which decides.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

from workbench.capture.triggers.console import BUILT_IN, ConsoleWatch
from workbench.capture.triggers.event import Event
from workbench.capture.triggers.live import ChannelSource, ConsoleSource, LibvirtSource, MeasureSource, Source, run
from workbench.capture.triggers.thresholds import Threshold
from workbench.guest.connection import Guest, Hypervisor

__all__ = ["begin", "watching"]


def begin(triggers: dict[str, Any]) -> None:
    """Prepare the process: before it opens any connection to libvirt."""
    if triggers.get("events"):
        LibvirtSource.begin_loop()


@contextlib.contextmanager
def watching(
    connect: str, guest: str, triggers: dict[str, Any], dirty: Callable[[], float], emit: Callable[[Event], None]
) -> Iterator[None]:
    """Have a guest watched for the body.

    Parameters
    ----------
    connect, guest : str
        libvirt's address, the guest's UUID.
    triggers : dict
        JSON values of `TriggerSettings`.
    dirty : callable
        Pages written per second.
    emit : callable
        Hears every event, in the source's thread.

    Raises
    ------
    GuestError
        If the guest is not there.
    """
    stop = threading.Event()
    with Hypervisor(connect) as hypervisor:
        threads = run(list(_sources(hypervisor.guest(guest), triggers, dirty)), emit, stop)
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(5)


def _sources(guest: Guest, triggers: dict[str, Any], dirty: Callable[[], float]) -> Iterator[Source]:
    if triggers.get("channel"):
        yield ChannelSource(guest)
    if triggers.get("events"):
        yield LibvirtSource(guest)
    patterns = triggers.get("console")
    if patterns is None or patterns:
        yield ConsoleSource(guest, ConsoleWatch(BUILT_IN if patterns is None else patterns))
    thresholds = [_threshold(each) for each in triggers.get("thresholds", ())]
    if thresholds:
        yield MeasureSource(guest, thresholds, dirty)


def _threshold(told: dict[str, Any]) -> Threshold:
    rearm = told.get("rearm_below")
    return Threshold(told["measure"], told["above"], told["over_s"], math.nan if rearm is None else rearm)
