"""The holder: a process that puts off what would become of a guest, and lets it go whoever else dies.

It has its own connection and session. It looks at the guest twice a second; one that is held is let go when it is told
to, after a limit, or when the other end is gone, and then everything is put back first. Where libvirt is gone it waits
for another daemon, as long as the guest's QEMU is there. Refuses to end while a guest may be held.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from workbench.capture.holding.fate import Fates, Release, held, hold, put_back, read_fates
from workbench.errors import GuestBusyError, GuestGoneError, WorkbenchError
from workbench.guest.claim import Claim
from workbench.guest.connection import translate
from workbench.guest.reach import Reach

__all__ = ["main", "undo"]

_LOOK_S = 0.5
_OTHER_S = 20.0


class _Holder:
    """What it was told, and since when the guest is held."""

    def __init__(self, channel: socket.socket, reach: Reach, limit: float) -> None:
        self._channel, self._reach, self._limit = channel, reach, limit
        self._fates = Fates()
        self._release = Release(self._fates)
        self._since: float | None = None
        self._owing = False

    def run(self) -> None:
        """Follow orders until a farewell, the end of the socket, or the end of the guest."""
        try:
            claim = self._claim()
            self._fates = read_fates(self._reach.guest())
        except WorkbenchError as error:
            self._say({"failed": error.message})
            return
        with contextlib.closing(claim):
            self._say({"found": asdict(self._fates)})
            try:
                self._fates = hold(self._reach.guest(), self._fates)
                self._release = Release(self._fates)
                self._say({"ready": asdict(self._fates)})
                self._follow()
            except WorkbenchError as error:
                self._say({"failed": error.message})
            finally:
                undo(self._reach, self._fates, self._release)
                self._say({"done": True})

    def _claim(self) -> Claim:
        """Wait for a holder before this one, which would be found as what the guest asks for, to have put it back."""
        guest, end = self._reach.guest(), time.monotonic() + _OTHER_S
        while True:
            try:
                return Claim(f"held/{guest.id}", guest.name)
            except GuestBusyError:
                if time.monotonic() > end:
                    raise
                time.sleep(_LOOK_S)

    def _follow(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._channel, selectors.EVENT_READ)
        while True:
            if selector.select(_LOOK_S):
                words = self._receive().splitlines()
                if not words or b"bye" in words:
                    return
                self._owing = True
            try:
                self._look()
            except WorkbenchError:
                if _gone(self._reach):
                    return  # else it is asked again in half a second

    def _look(self) -> None:
        if self._owing:
            self._let_go()
        if not held(self._reach.guest(), self._fates):
            self._since = None
            return
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since > self._limit:
            self._let_go()

    def _let_go(self) -> None:
        self._owing = True  # until it has worked: half way, a guest that is to be reset stands and is not held
        self._release.carry_out(self._reach.guest())
        self._owing, self._since = False, None

    def _receive(self) -> bytes:
        try:
            return self._channel.recv(4096)
        except OSError:
            return b""

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(message).encode() + b"\n")


def _gone(reach: Reach) -> bool:
    """Tell whether the guest has ended; where libvirt does not answer, it has not.

    It is asked for by itself: libvirt also calls invalid what a guest's state does not allow just then.
    """
    try:
        guest = reach.guest()
        with translate(f"asking whether {guest.name} runs"):
            return not guest.domain.isActive()
    except GuestGoneError:
        return True
    except WorkbenchError:
        return False


def undo(reach: Reach, fates: Fates, release: Release | None = None) -> None:
    """Put back what was put off and let the guest go, again and again until both are done or the guest is gone."""
    release = release or Release(fates)
    while fates != Fates():
        try:
            guest = reach.guest()
            put_back(guest, fates)
            release.carry_out(guest)
        except WorkbenchError:
            if _gone(reach):
                return
            time.sleep(_LOOK_S)
        else:
            return


def main(arguments: Sequence[str]) -> None:
    """Run the holder: `holder.py DESCRIPTOR URI UUID LIMIT`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    descriptor, uri, uuid, limit = arguments
    with socket.socket(fileno=int(descriptor)) as channel, contextlib.closing(Reach(uri, uuid)) as reach:
        _Holder(channel, reach, float(limit)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
