"""When a guest stood still, by the timestamps that QEMU itself puts on its STOP and RESUME events.

The events are taken by a process of its own, so that the process being measured has libvirt to itself. Refuses to time
anything by the arrival of an event.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from workbench.demo import DemoGuest
from workbench.errors import GuestError
from workbench.guest import virt

__all__ = ["Stops"]

Event = tuple[str, float]


class Stops:
    """Watch a guest for the body of a `with`; also across its QEMU, which a restore replaces.

    Attributes
    ----------
    events : list of tuple
        ("STOP" or "RESUME", seconds since the epoch), in order.
    """

    def __init__(self, guest: DemoGuest) -> None:
        self.events: list[Event] = []
        words = [sys.executable, "-m", "workbench.bench.stops", guest.uri, guest.name]
        self._child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._collect, daemon=True)

    def _collect(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            event, when = line.split()
            self.events.append((event, float(when)))

    def __enter__(self) -> Self:
        assert self._child.stdout is not None
        if self._child.stdout.readline() != "ready\n":
            self._child.wait()
            raise GuestError("QEMU's events cannot be watched")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._child.terminate()
        self._child.wait()
        self._thread.join()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def after(self, event: str, when: float, timeout: float = 10.0) -> float:
        """Return the time of the first `event` at or after `when` (seconds since the epoch).

        Raises
        ------
        GuestError
            If none came.
        """
        end = time.monotonic() + timeout
        while True:
            for name, at in list(self.events):
                if name == event and at >= when:
                    return at
            if time.monotonic() > end:
                raise GuestError(f"QEMU told of no {event} within {timeout:g} s")
            time.sleep(0.01)

    def pauses(self) -> list[float]:
        """Return the seconds of every pause seen so far, in order."""
        pairs = itertools.pairwise(list(self.events))
        return [end - start for (kind, start), (next_kind, end) in pairs if (kind, next_kind) == ("STOP", "RESUME")]

    def pause(self, began: float) -> float:
        """Return the seconds for which the guest stood still in its first pause after `began`."""
        stopped = self.after("STOP", began)
        return self.after("RESUME", stopped) - stopped


def _watch(uri: str, guest: str) -> None:
    """Print the guest's events until the parent ends us or is gone."""

    def told(_c: Any, domain: Any, event: str, seconds: int, micros: int, _details: Any, _opaque: Any) -> None:
        if domain.name() == guest:
            print(event, f"{seconds}.{micros:06d}", flush=True)  # noqa: T201  (this is how the parent hears of it)

    virt.virEventRegisterDefaultImpl()
    connection = virt.open(uri)
    for event in ("STOP", "RESUME"):
        virt.qemuMonitorEventRegister(connection, None, event, told, None)
    print("ready", flush=True)  # noqa: T201
    virt.virEventAddTimeout(1000, lambda _timer, _opaque: None, None)
    parent = os.getppid()
    while os.getppid() == parent:
        virt.virEventRunDefaultImpl()


if __name__ == "__main__":
    _watch(*sys.argv[1:3])
