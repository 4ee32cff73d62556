"""The recorder's end of the holder.

Preconditions: a guest on a URI that a second process can open; one session works on it (C7). On success a panic, or a
watchdog that fires, leaves the guest standing until `let_go`, or `limit` seconds. On failure nothing is put off. After
`close`, and after the death of either process, everything is as it was found.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from typing import Any, Self

from workbench.capture.holding.fate import Fates, as_found
from workbench.capture.holding.holder import undo
from workbench.errors import GuestError, WorkbenchError
from workbench.guest.reach import Reach

__all__ = ["Holding"]

_START_S = 30.0
_END_S = 15.0


class Holding:
    """Holds one guest when it panics or its watchdog fires.

    Parameters
    ----------
    uri, uuid : str
        libvirt's address, and the guest's UUID.
    limit : float
        Seconds after which a held guest is let go, whatever else happens.

    Attributes
    ----------
    fates : Fates
        What is put off.

    Raises
    ------
    GuestError
        If nothing can be put off. Nothing is.
    """

    def __init__(self, uri: str, uuid: str, limit: float) -> None:
        self._uri, self._uuid = uri, uuid
        self._closed = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workbench.capture.holding.holder", str(theirs.fileno()), uri, uuid, str(limit)],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._socket, self._lines = ours, ours.makefile("r", encoding="utf-8")
        ours.settimeout(_START_S)
        self.fates = self._begin()
        ours.settimeout(None)
        self._thread = threading.Thread(target=self._watch, name="holder", daemon=True)
        self._thread.start()

    def _begin(self) -> Fates:
        """Wait until the guest is held by the holder; where it died half way, undo what it may have done."""
        found = self._read()
        told = self._read() if "found" in found else found
        if "ready" in told:
            return Fates(**told["ready"])
        self._process.kill()  # it does nothing late
        self._part()
        if "found" in found:
            self._stand_in(Fates(**found["found"]))
        raise GuestError(f"a guest cannot be held: {told.get('failed', 'the holder did not come up')}")

    def holds(self, event: str) -> bool:
        """Tell whether the guest is held at an event, by the name that `LibvirtSource` gives it."""
        return bool({"guest-panic": self.fates.panic, "watchdog": self.fates.watchdog}.get(event))

    def as_found(self, xml: str) -> str:
        """Return a description of the guest as it was before; see `fate.as_found`."""
        return as_found(xml, self.fates)

    def let_go(self) -> None:
        """Let the guest go the way it would have gone; one that is not held goes on as it is."""
        with contextlib.suppress(OSError):  # a holder that is gone is what `_watch` sees
            self._socket.sendall(b"go\n")

    def close(self) -> None:
        """Put everything back and let the guest go."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.sendall(b"bye\n")
        self._thread.join(_END_S)  # where libvirt does not answer, the holder goes on alone
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # and nobody waits for it
        self._thread.join()
        self._part()

    def _part(self) -> None:
        self._socket.close()
        self._lines.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:  # it ends on its own, and is not left a zombie
            threading.Thread(target=self._process.wait, name="the holder's end", daemon=True).start()

    def _watch(self) -> None:
        """Wait for the holder's last word; one that dies without it is stood in for."""
        if "done" in self._read() or self._closed:
            return
        self._process.wait()
        self.fates, fates = Fates(), self.fates
        self._stand_in(fates)

    def _stand_in(self, fates: Fates) -> None:
        with contextlib.suppress(WorkbenchError), contextlib.closing(Reach(self._uri, self._uuid)) as reach:
            undo(reach, fates)

    def _read(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads(self._lines.readline() or "{}")
        except (OSError, ValueError):
            return {}
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
