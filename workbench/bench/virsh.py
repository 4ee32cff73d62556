"""What libvirt itself offers: internal snapshots, save and restore, timed by QEMU's events.

Preconditions: nobody records the guest. On success it runs and answers. Refuses to measure what nobody could use: a
saved guest counts as standing still until its restored QEMU runs.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from workbench.bench.stops import Stops
from workbench.bench.tools import allocated_bytes, run
from workbench.demo import DemoGuest

__all__ = ["image_growth", "restore_downtimes", "restore_seconds", "revert_downtimes", "save_pauses", "snapshot_pauses"]


def _virsh(guest: DemoGuest, *words: str | Path) -> None:
    run("virsh", "-q", "-c", guest.uri, *words)


def snapshot_pauses(guest: DemoGuest, count: int, dirty: str) -> list[float]:
    """Return, in ms, how long `virsh snapshot-create-as` (memory and disk, internal) made the guest stand still."""
    pauses = []
    with Stops(guest) as stops:
        for number in range(count):
            guest.run(dirty)
            began = time.time()
            _virsh(guest, "snapshot-create-as", guest.name, f"s{number}")
            pauses.append(1000 * stops.pause(began))
            _virsh(guest, "snapshot-delete", guest.name, f"s{number}")
    return pauses


def save_pauses(guest: DemoGuest, count: int, dirty: str) -> list[tuple[float, float]]:
    """Return, in ms, what `virsh save` costs a guest.

    Returns
    -------
    list of tuple
        From STOP to the end of the command, which leaves the guest off; from STOP until `virsh restore` has it run.
    """
    path, pauses = guest.directory / "saved", []
    with Stops(guest) as stops:
        for _ in range(count):
            guest.run(dirty)
            began = time.time()
            _virsh(guest, "save", guest.name, path)
            saved = time.time()
            _virsh(guest, "restore", path)
            stopped = stops.after("STOP", began)
            pauses.append((1000 * (saved - stopped), 1000 * (stops.after("RESUME", saved) - stopped)))
            guest.reconnect()
    return pauses


def revert_downtimes(guest: DemoGuest, count: int, back: float) -> list[float]:
    """Return, in ms, how long `virsh snapshot-revert` took until the guest of `back` s ago ran."""
    times = []
    _virsh(guest, "snapshot-create-as", guest.name, "back")
    with Stops(guest) as stops:
        for _ in range(count):
            time.sleep(back)
            began = time.time()
            _virsh(guest, "snapshot-revert", guest.name, "back", "--running")
            times.append(1000 * (stops.after("RESUME", began) - began))
    _virsh(guest, "snapshot-delete", guest.name, "back")
    guest.reconnect()
    return times


def restore_downtimes(guest: DemoGuest, count: int, back: float) -> list[float]:
    """Return, in ms, how long ending the guest and `virsh restore` took until the guest of `back` s ago ran.

    The disk, which a save does not hold, is put back from a copy outside of the measured time.
    """
    path, times = guest.directory / "saved", []
    disk = guest.directory / "root.qcow2"
    _virsh(guest, "save", guest.name, path)
    run("cp", disk, disk.with_suffix(".saved"))
    _virsh(guest, "restore", path)
    with Stops(guest) as stops:
        for _ in range(count):
            time.sleep(back)
            began = time.time()
            _virsh(guest, "destroy", guest.name)
            ended = time.time()
            run("cp", disk.with_suffix(".saved"), disk)
            copied = time.time()
            _virsh(guest, "restore", path)
            times.append(1000 * (stops.after("RESUME", copied) - copied + ended - began))
    guest.reconnect()
    return times


def restore_seconds(guest: DemoGuest, count: int) -> list[float]:
    """Return, in s, how long `virsh restore` took until the guest answered."""
    path, times = guest.directory / "saved", []
    for _ in range(count):
        _virsh(guest, "save", guest.name, path)
        began = time.monotonic()
        _virsh(guest, "restore", path)
        guest.reconnect()
        times.append(time.monotonic() - began)
    return times


def image_growth(guest: DemoGuest, count: int, interval: float) -> list[float]:
    """Return, in kB, by how much the qcow2 grew with each further internal snapshot, `interval` s apart."""
    image, sizes = guest.directory / "root.qcow2", []
    for number in range(count + 1):
        time.sleep(interval)
        _virsh(guest, "snapshot-create-as", guest.name, f"g{number}")
        sizes.append(allocated_bytes(image) / 1e3)
    return [later - earlier for earlier, later in itertools.pairwise(sizes)]
