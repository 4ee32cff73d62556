"""QMP over a socket, with nobody between: for a QEMU of our own, and for one whose libvirt died.

Every wait has a limit. Refuses answers longer than 16 MiB: a guest must not be able to fill our memory.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

from workbench.errors import GuestGoneError, MonitorError, OutcomeUnknownError

__all__ = ["SocketMonitor"]

_MOST_LINE = 16 << 20
"""Bytes of one answer that we are willing to take."""


class SocketMonitor:
    """The monitor at the other end of a connected socket (QEMU docs/interop/qmp-spec).

    Attributes
    ----------
    limit : float
        Seconds that a command may take where the caller does not say.

    Raises
    ------
    MonitorError
        From every call: QEMU refused the command.
    GuestGoneError
        From every call: QEMU ended.
    OutcomeUnknownError
        From every call: no answer within the limit.
    """

    def __init__(self, end: socket.socket, name: str) -> None:
        self._socket, self._name = end, name
        self.limit = 60.0
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def greet(self, timeout: float) -> None:
        """Take QEMU's greeting and leave the negotiation."""
        self._next(time.monotonic() + timeout, "the greeting")
        self.execute("qmp_capabilities", limit=timeout)

    def execute(self, command: str, *, limit: float | None = None, **arguments: Any) -> Any:
        """Run one QMP command within `limit` seconds; underscores in the arguments are written as hyphens."""
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        except OSError as error:
            raise GuestGoneError(f"{self._name}: QEMU ended before {command}", command=command) from error
        deadline = time.monotonic() + (self.limit if limit is None else limit)
        while True:
            reply = self._next(deadline, command)
            if "event" in reply:
                self._events.append(reply)
            elif "error" in reply:
                wrong = reply["error"]
                raise MonitorError(f"{self._name}: {command}: {wrong['desc']}", command=command)
            else:
                return reply.get("return")

    def human(self, line: str) -> str:
        """Run one line of the human monitor and return what it prints; it tells errors as text."""
        return str(self.execute("human-monitor-command", command_line=line))

    def forget(self, event: str) -> None:
        """Drop events of this name that came already."""
        self._events = [each for each in self._events if each["event"] != event]

    def wait_event(self, event: str, timeout: float) -> None:
        """Wait for an event of this name.

        Raises
        ------
        OutcomeUnknownError
            If it did not come within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            for each in self._events:
                if each["event"] == event:
                    self._events.remove(each)
                    return
            self._events.append(self._next(deadline, event))

    def _next(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or len(self._buffer) > _MOST_LINE:
                raise OutcomeUnknownError(f"{self._name}: no answer to {what} in time", command=what)
            self._socket.settimeout(left)
            with contextlib.suppress(TimeoutError):
                self._take(what)
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise OutcomeUnknownError(f"{self._name}: an answer that is none", command=what)
        return reply

    def _take(self, what: str) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            raise GuestGoneError(f"{self._name}: QEMU ended during {what}", command=what)
        self._buffer += data
