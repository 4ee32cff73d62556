"""Messages between the service and its processes: one JSON object a line over a socket pair.

Refuses lines longer than `_LONGEST` and whatever is no object: the other side is then taken for dead.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from workbench.errors import WorkbenchError

__all__ = ["Channel", "tell_error"]

_LONGEST = 1 << 20


def tell_error(error: WorkbenchError) -> dict[str, Any]:
    """Return an error as JSON values."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "cure": error.cure,
        "facts": {name: str(value)[:300] for name, value in error.facts.items()},
    }


class Channel:
    """One end. Sending is for any thread; receiving is for one."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = end.makefile("rb")
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        """Send a message.

        Raises
        ------
        OSError
            If nobody is there.
        """
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._end.sendall(line)

    def receive(self) -> dict[str, Any]:
        """Wait for a message.

        Raises
        ------
        EOFError
            If the other side ended, or sent what is no message.
        TimeoutError
            If the socket has a time-out, and it has passed.
        """
        try:
            line = self._file.readline(_LONGEST + 1)
            message = json.loads(line) if line.endswith(b"\n") else None
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            raise EOFError("no message") from error
        if not isinstance(message, dict):
            raise EOFError("the other side ended")
        return message

    def close(self) -> None:
        """Close this end; whoever waits at the other hears of it."""
        self._end.close()
        self._file.close()
