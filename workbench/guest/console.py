"""The serial console of a running guest, through libvirt: whatever its type, and without rights on its files.

Bytes come and go as they are. Refuses to understand them: what a guest writes is hostile, and is read by
`workbench.notebook.emulation`.

On a connection of its own, never blocking: a stream that waits for bytes holds up the answers to other calls of its
connection (seen on libvirt 9.0: QMP commands that waited until the guest wrote something). Without an event loop in the
process, packets of a stream are taken from the socket while a call waits for its answer; so a small call is made.
"""

from __future__ import annotations

import contextlib
import threading
import time

from workbench.errors import GuestError
from workbench.guest import virt
from workbench.guest.connection import Guest, Hypervisor, translate

__all__ = ["Console"]

_READ = 65_536
_NOTHING = -2
"""What a stream that does not block says instead of waiting."""
_EVERY = 0.03
_CURE = "Open the console again"


class Console:
    """A guest's first console, read and written; any threads may do so.

    Parameters
    ----------
    guest : Guest
        Whoever had its console before loses it.

    Raises
    ------
    GuestError
        If it has no console that libvirt can reach.
    """

    def __init__(self, guest: Guest) -> None:
        self._name = guest.name
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self._hypervisor = Hypervisor(guest.uri)
        try:
            self._open(guest)
        except BaseException:
            self._hypervisor.close()
            raise

    def _open(self, guest: Guest) -> None:
        with translate(f"opening the console of {guest.name}", "Give the guest a serial console of type pty or unix"):
            connection = self._hypervisor.connection
            self._stream = connection.newStream(virt.VIR_STREAM_NONBLOCK)
            domain = connection.lookupByUUIDString(guest.id)
            domain.openConsole(None, self._stream, virt.VIR_DOMAIN_CONSOLE_FORCE)

    def read(self) -> bytes:
        """Return what the guest wrote, waiting for it; nothing once the console or the guest has ended."""
        while not self._closed.is_set():
            try:
                with self._turn:
                    data = b"" if self._closed.is_set() else self._receive()
            except virt.libvirtError:  # the guest or libvirt ended
                return b""
            if isinstance(data, bytes):
                return data
            self._closed.wait(_EVERY)
        return b""

    def _receive(self) -> bytes | int:
        data: bytes | int = self._stream.recv(_READ)
        if data != _NOTHING:
            return data
        self._hypervisor.connection.getLibVersion()  # for what comes in meanwhile
        again: bytes | int = self._stream.recv(_READ)
        return again

    def write(self, data: bytes) -> None:
        """Send bytes to the guest; waits while it takes none.

        Raises
        ------
        GuestError
            If the console has ended.
        """
        while data:
            with self._turn, translate(f"writing to the console of {self._name}", _CURE):
                if self._closed.is_set():
                    raise GuestError(f"the console of {self._name} is closed", cure=_CURE)
                sent = self._stream.send(data)
            if sent == _NOTHING:
                time.sleep(_EVERY)
            data = data[max(0, sent) :]

    def close(self) -> None:
        """Let go of the console; a `read` that waits returns. Harmless when repeated."""
        self._closed.set()
        with self._turn, contextlib.suppress(virt.libvirtError):
            if self._hypervisor.connection is not None:
                self._stream.abort()
        self._hypervisor.close()
