"""What a paused guest really holds, read by other ways than the capture's: and comparison with a moment."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from workbench.case import Case, Moment
from workbench.demo import DemoGuest
from workbench.guest.connection import Guest
from workbench.guest.disks import read_disks
from workbench.guest.leftovers import find_leftovers
from workbench.guest.memory import read_memory_map

RECORDER = Path(__file__).with_name("recorder.py")


@contextlib.contextmanager
def standing(guest: DemoGuest) -> Iterator[None]:
    """The guest, paused by somebody else than the capture."""
    guest.domain.suspend()
    try:
        yield
    finally:
        guest.domain.resume()


def memory_differs(live: Guest, moment: Moment) -> list[str]:
    """Blocks of RAM in which the paused guest and a moment differ, and where; read through /proc."""
    found = []
    with Path(f"/proc/{live.pid}/mem").open("rb", buffering=0) as memory:
        for block in read_memory_map(live).blocks:
            with moment.open(block.name) as stored:
                memory.seek(block.hva)
                at = 0
                while at < block.size:
                    length = min(16 << 20, block.size - at)
                    here, there = memory.read(length), stored.read(length)
                    while len(here) < length:
                        here += memory.read(length - len(here))
                    while len(there) < length:
                        there += stored.read(length - len(there))
                    if here != there:
                        first = int(np.flatnonzero(np.frombuffer(here, "u1") != np.frombuffer(there, "u1"))[0])
                        found.append(f"{block.name} at {at + first:#x}")
                        break
                    at += length
    return found


def disks_differ(live: Guest, moment: Moment, place: Path) -> list[str]:
    """Disks in which the paused guest and a moment differ; read by qemu-img from the image."""
    found = []
    for disk in read_disks(live):
        raw, stored = place / f"{disk.target}.real", place / f"{disk.target}.stored"
        convert = ["qemu-img", "convert", "-U", "-f", disk.format, "-O", "raw", disk.path, str(raw)]
        subprocess.run(convert, check=True, capture_output=True)
        moment.case.store.view(moment.id).region(disk.region).write_sparse(stored)
        compared = subprocess.run(["cmp", str(raw), str(stored)], capture_output=True, text=True, check=False)
        if compared.returncode:
            found.append(f"{disk.target}: {compared.stdout}{compared.stderr}")
        raw.unlink()
        stored.unlink()
    return found


def assert_equal_to_guest(case: Case, guest: DemoGuest, moment: Moment, place: Path) -> None:
    """The paused guest is exactly what the moment says, memory and disks."""
    live = case.hypervisor.guest(guest.name)
    assert memory_differs(live, moment) == []
    assert disks_differ(live, moment, place) == []


def nothing_left(guest: DemoGuest, case: Case) -> bool:
    live = case.hypervisor.guest(guest.name)
    return live.is_running() and find_leftovers(live.monitor) == []
