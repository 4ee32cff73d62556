"""Put a half rewound guest right from another process: the guard's cure after a killed rewind.

`python -m workbench.rewind.recover URI UUID CASE SAFETY` takes the guest, found paused and between two moments, to
the safety capture, in place if it can, by restarting it if not. Preconditions: the killed process is gone, so claim and
lock are free. Safe to run twice. Refuses to touch a guest whose disks or memory it cannot compare with the case.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import libvirt

from workbench.capture.pause import Laps
from workbench.capture.session import DEVICES, CaptureSession
from workbench.errors import GuestBusyError, GuestNotFoundError, StoreBusyError, WorkbenchError
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.leftovers import drop_descriptors
from workbench.model import CaptureId, CaptureMode, RegionKind
from workbench.rewind.apply import apply
from workbench.rewind.content import Content, difference
from workbench.rewind.in_place import note_rewind
from workbench.rewind.restart import restart_at
from workbench.store import CaseStore

__all__ = ["recover"]

_PATIENCE = 10.0


def recover(guest: Guest, store: CaseStore, safety: CaptureId) -> None:
    """Take the guest to `safety`, whatever half-way state it is found in.

    The half-way state is captured as it is (compared whole with the safety capture, so the difference is known
    exactly), then undone.

    Raises
    ------
    WorkbenchError
        If neither in place nor restart worked; the guest is as it was found.
    """
    with contextlib.suppress(WorkbenchError):
        if guest.is_running():
            guest.monitor.execute("stop")
    try:
        with _session(guest, store, safety) as session:
            found = session.capture(CaptureMode.SAFETY, f"found half way in a rewind; taken back to {safety[:12]}")
            content = Content(store.view(safety))
            for kind in (RegionKind.MEMORY, RegionKind.DISK):
                content.cover(difference(store, found.id, safety, kind), kind)
            apply(session, content, store.view(found.id).region(DEVICES).open().read(), Laps())
            note_rewind(store, guest.id, safety, None)
            guest.monitor.execute("cont")
            drop_descriptors(guest.monitor)
    except WorkbenchError:
        _restart(guest.hypervisor, store, guest, safety)


def _restart(hypervisor: Hypervisor, store: CaseStore, guest: Guest | None, safety: CaptureId) -> None:
    """Start the guest anew at the safety capture; its disks hold the newest capture, the safety one, or a mixture."""
    identity = store.record(safety).guest
    if guest is not None:
        with contextlib.suppress(libvirt.libvirtError):
            guest.domain.destroy()
    restart_at(hypervisor, store, store.captures(identity)[-1].id, safety)
    note_rewind(store, identity, safety, None)


def _session(guest: Guest, store: CaseStore, parent: CaptureId) -> CaptureSession:
    """Open a session; the dead process's claim and lock may need a moment to be dropped by the kernel."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return CaptureSession(guest, store, parent=parent)
        except (GuestBusyError, StoreBusyError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main(arguments: Sequence[str]) -> None:
    """Run the recovery: `recover.py URI UUID CASE SAFETY`."""
    uri, uuid, case, safety = arguments
    with Hypervisor(uri) as hypervisor:
        store = CaseStore.open(Path(case))
        try:
            guest = hypervisor.guest(uuid)
        except GuestNotFoundError:
            _restart(hypervisor, store, None, CaptureId(safety))
        else:
            recover(guest, store, CaptureId(safety))


if __name__ == "__main__":
    main(sys.argv[1:])
