"""One session at a time may work on a guest, whichever case it writes to.

The claim is an abstract Unix socket named after the domain: the kernel drops it with its last holder, however it dies.
The guard holds it too, so nobody begins on a guest that it is still putting right; a recovery that the guard runs
inherits it. Refuses to wait.
"""

from __future__ import annotations

import errno
import socket

from workbench.errors import GuestBusyError

__all__ = ["Claim", "inherit"]

_inherited: dict[str, socket.socket] = {}


def inherit(uuid: str, descriptor: int) -> None:
    """Have every claim of this process on a guest be the one that it was started with; it goes with the process."""
    _inherited[uuid] = socket.socket(fileno=descriptor)


class Claim:
    """The right to pause, track and rewind one guest; held until closed.

    Raises
    ------
    GuestBusyError
        If another process on this host holds it.
    """

    def __init__(self, uuid: str, name: str) -> None:
        if uuid in _inherited:
            self._socket = _inherited[uuid].dup()
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(f"\0rewind-workbench/{uuid}")
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise GuestBusyError(
                f"another workbench process works on {name}",
                cure="Stop it, or ask it (a running `workbench watch` takes marks)",
            ) from error

    def fileno(self) -> int:
        """Return the descriptor; a process that inherits it holds the claim as well."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the claim back."""
        self._socket.close()
