"""A guest that is reached through whatever happens to libvirt: for those who must not give up on it, as the guard.

A connection that broke is opened again when the guest is asked for. Refuses to call a guest gone because libvirt is:
only where no QEMU of its UUID is left on this host either.
"""

from __future__ import annotations

import contextlib
import threading

from workbench.errors import GuestError, GuestNotFoundError, HypervisorLostError
from workbench.guest import virt
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.process import find_qemu

__all__ = ["Reach"]


class Reach:
    """One guest, by whatever connection there is; for any thread.

    Parameters
    ----------
    uri, uuid : str
        libvirt's address, and the guest's UUID.

    Raises
    ------
    GuestError
        If it cannot be reached now.
    """

    def __init__(self, uri: str, uuid: str) -> None:
        self._uri, self.uuid = uri, uuid
        self._lock = threading.Lock()
        self._hypervisor: Hypervisor | None = Hypervisor(uri)
        try:
            self._guest = self._hypervisor.guest(uuid)
        except GuestError:
            self.close()
            raise

    def guest(self) -> Guest:
        """Return the guest over a connection that lived when it was last used.

        Raises
        ------
        GuestGoneError
            If neither libvirt nor this host's processes have it.
        HypervisorLostError
            If libvirt cannot be reached, or does not know the guest (yet) whose QEMU is there.
        GuestError
        """
        with self._lock:
            if self._hypervisor is None or not _lives(self._hypervisor):
                self.close()
                try:
                    self._hypervisor = Hypervisor(self._uri)
                    self._guest = self._hypervisor.guest(self.uuid)
                except GuestError as error:
                    self.close()
                    raise self._unless_gone(error) from error
            return self._guest

    def _unless_gone(self, error: GuestError) -> GuestError:
        """Return what is to be raised where the guest's QEMU is there.

        Raises
        ------
        GuestGoneError
            If it is not, so that nobody waits for a libvirt that has nothing to tell any more.
        """
        find_qemu(self.uuid, self.uuid)
        if isinstance(error, GuestNotFoundError):
            return HypervisorLostError("libvirt does not know a guest whose QEMU is there", uuid=self.uuid)
        return error

    def close(self) -> None:
        """Give the connection back; the guest can be asked for again."""
        if self._hypervisor is not None:
            self._hypervisor.close()
            self._hypervisor = None


def _lives(hypervisor: Hypervisor) -> bool:
    with contextlib.suppress(virt.libvirtError):
        return bool(hypervisor.connection.isAlive())
    return False
