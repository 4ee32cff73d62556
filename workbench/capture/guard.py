"""The guard: a process that outlives the capturing one and puts the guest right if that one dies.

It has its own libvirt connection and session, and waits on a socket. It acts when the socket closes without a
farewell, or when a pause outlasts its limit:

- armed for a capture: the guest is resumed, and for a few seconds resumed again, since libvirt may still carry out a
  `stop` that the dead process had sent;
- armed for a rewind: the recovery command is run (it takes the guest back to the safety capture), never a plain
  resume of a half rewound guest. A process that hangs half way is killed first: it holds the claim and the lock that
  the recovery needs, and must not write on beside it;
- then whatever of ours is left in QEMU is swept.

Refuses to touch a guest that it was not armed for: a pause made by somebody else stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from workbench.errors import CaptureError, GuestError, WorkbenchError
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.leftovers import sweep

__all__ = ["Guard"]

_WATCH_AFTER_DEATH = 3.0
_START_LIMIT = 30.0


class Guard:
    """The capturing process's end of the guard of one guest.

    Preconditions: the guest runs on a URI that a second process can open. The guard is alive before the first pause,
    and `arm` fails where it is not, so no pause happens unguarded.

    Raises
    ------
    CaptureError
        If the guard does not come up, or is not there any more when it is needed.
    """

    def __init__(self, guest: Guest) -> None:
        self.armed = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [
            sys.executable,
            "-m",
            "workbench.capture.guard",
            str(theirs.fileno()),
            guest.uri,
            guest.id,
            str(os.getpid()),
        ]
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._socket = ours
        self._socket.settimeout(_START_LIMIT)
        self._lines = ours.makefile("r", encoding="utf-8")
        if self._read().get("ready") is not True:
            raise CaptureError("the guard of the guest did not come up", cure="Run `workbench doctor`")

    def arm(self, limit: float, recovery: Sequence[str] | None = None) -> None:
        """From now on the guest is resumed (or `recovery` run) if we die or do not disarm within `limit` seconds."""
        self._send({"arm": limit, "recovery": list(recovery) if recovery else None})
        self.armed = True

    def disarm(self) -> None:
        """Tell the guard that the pause is over.

        Raises
        ------
        CaptureError
            If the guard had to act meanwhile: what was taken in this pause is of no instant.
        """
        self.armed = False
        self._send({"disarm": True})
        if self._read().get("acted"):
            raise CaptureError(
                "the pause outlasted its limit and the guard resumed the guest", cure="The capture was dropped"
            )

    def close(self) -> None:
        """Say farewell; the guard sweeps nothing and ends."""
        with contextlib.suppress(CaptureError):
            self._send({"bye": True})
        self._lines.close()
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise CaptureError(
                "the guard of the guest is gone: no pause without it", cure="Start the session again"
            ) from error

    def _read(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._lines.readline() or "{}")
        except (OSError, ValueError):
            return {}
        return answer


class _Watch:
    """The guard's own side: what it was last told, and what it does."""

    def __init__(self, channel: socket.socket, guest: Guest, watched: int) -> None:
        self.channel = channel
        self.guest = guest
        self.watched = watched  # a pidfd of the process that is guarded
        self.deadline: float | None = None
        self.recovery: list[str] | None = None
        self.acted = False

    def run(self) -> None:
        """Follow messages until a farewell or the end of the socket."""
        self._answer({"ready": True})
        selector = selectors.DefaultSelector()
        selector.register(self.channel, selectors.EVENT_READ)
        buffer = b""
        while True:
            wait = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
            if not selector.select(wait):
                self._rescue(watch=0.0)
                continue
            chunk = self._receive()
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            if any(self._obey(json.loads(line)) for line in lines):
                return
        self._after_death()

    def _receive(self) -> bytes:
        try:
            return self.channel.recv(65536)
        except OSError:
            return b""

    def _answer(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.channel.sendall(json.dumps(message).encode() + b"\n")

    def _obey(self, message: dict[str, Any]) -> bool:
        if "arm" in message:
            self.deadline = time.monotonic() + float(message["arm"])
            self.recovery = message["recovery"]
            self.acted = False
        elif "disarm" in message:
            self.deadline = None
            self.recovery = None
            self._answer({"acted": self.acted})
        return "bye" in message

    def _after_death(self) -> None:
        recovery = self.recovery
        if self.deadline is not None:
            self._rescue(watch=_WATCH_AFTER_DEATH)
        if recovery is None:
            with contextlib.suppress(GuestError):
                sweep(self.guest.monitor)

    def _rescue(self, watch: float) -> None:
        """Resume the guest, or run the recovery."""
        self.deadline = None
        self.acted = True
        if self.recovery is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.watched, signal.SIGKILL)
            subprocess.run(self.recovery, check=False, stdin=subprocess.DEVNULL)
            self.recovery = None
            return
        until = time.monotonic() + watch
        while True:
            with contextlib.suppress(WorkbenchError):
                if not self.guest.is_running():
                    self.guest.monitor.execute("cont")
            if time.monotonic() >= until:
                return
            time.sleep(0.02)


def main(arguments: Sequence[str]) -> None:
    """Run the guard: `guard.py DESCRIPTOR URI UUID PID`."""
    descriptor, uri, uuid, pid = arguments
    try:
        watched = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return  # killed before its guard was up: it has not paused anything yet
    channel = socket.socket(fileno=int(descriptor))
    with Hypervisor(uri) as hypervisor:
        _Watch(channel, hypervisor.guest(uuid), watched).run()


if __name__ == "__main__":
    main(sys.argv[1:])
