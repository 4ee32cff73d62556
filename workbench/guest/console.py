"""The serial console of a running guest, through libvirt: whatever its type, and without rights on its files.

Bytes come and go as they are. Refuses to understand them: what a guest writes is hostile, and is read by
`workbench.notebook.emulation`.
"""

from __future__ import annotations

import contextlib
import threading

import libvirt

from workbench.errors import GuestError
from workbench.guest.connection import Guest, translate

__all__ = ["Console"]

_READ = 65_536


class Console:
    """A guest's first console, read and written; one reader at a time.

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
        self._closed = threading.Event()
        with translate(f"opening the console of {guest.name}", "Give the guest a serial console of type pty or unix"):
            self._stream = guest.hypervisor.connection.newStream(0)
            guest.domain.openConsole(None, self._stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)

    def read(self) -> bytes:
        """Return what the guest wrote, waiting for it; nothing once the console or the guest has ended."""
        try:
            data = b"" if self._closed.is_set() else self._stream.recv(_READ)
        except libvirt.libvirtError:  # the guest ended, or `close` was called beside us
            return b""
        return data if isinstance(data, bytes) else b""

    def write(self, data: bytes) -> None:
        """Send bytes to the guest; waits while it takes none.

        Raises
        ------
        GuestError
            If the console has ended.
        """
        while data:
            with translate(f"writing to the console of {self._name}", "Open the console again"):
                sent = self._stream.send(data)
            if sent <= 0:
                raise GuestError(f"the console of {self._name} takes nothing", cure="Open the console again")
            data = data[sent:]

    def close(self) -> None:
        """Let go of the console; a `read` that waits returns. Harmless when repeated."""
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(libvirt.libvirtError):
                self._stream.abort()
