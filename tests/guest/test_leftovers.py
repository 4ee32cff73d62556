"""Whatever of ours is in a QEMU is found and taken away, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from workbench.demo import DemoGuest
from workbench.errors import GuestBusyError
from workbench.guest.claim import Claim
from workbench.guest.connection import Guest, Hypervisor
from workbench.guest.disks import BITMAP, read_disks
from workbench.guest.leftovers import find_leftovers, sweep


@pytest.fixture
def live(guest: DemoGuest) -> Iterator[Guest]:
    with Hypervisor(guest.uri) as hypervisor:
        yield hypervisor.guest(guest.name)


def test_everything_of_ours_is_swept_and_nothing_else(live: Guest) -> None:
    monitor = live.monitor
    [disk, *_] = read_disks(live)
    monitor.execute("block-dirty-bitmap-add", node=disk.node, name="somebody", granularity=65536)
    monitor.execute("block-dirty-bitmap-add", node=disk.node, name=BITMAP, granularity=65536)
    monitor.execute("blockdev-add", driver="null-co", node_name="rwb-target", size=disk.size)
    monitor.execute("blockdev-add", driver="null-co", node_name="somebody-else", size=disk.size)
    backup = {"job_id": "rwb-job", "device": disk.node, "target": "rwb-target", "sync": "none", "auto_dismiss": False}
    monitor.execute("blockdev-backup", **backup)
    descriptor = os.memfd_create("left")
    monitor.execute("add-fd", files=[descriptor], fdset_id=77, opaque="rwb-")
    os.close(descriptor)

    ours = {f"bitmap {disk.node}/{BITMAP}", "node rwb-target", "job rwb-job", "fdset 77"}
    assert set(find_leftovers(monitor)) == ours
    assert set(sweep(monitor)) == ours
    assert find_leftovers(monitor) == []
    assert sweep(monitor) == []

    monitor.execute("block-dirty-bitmap-remove", node=disk.node, name="somebody")
    monitor.execute("blockdev-del", node_name="somebody-else")
    assert live.is_running()


def test_a_guest_is_claimed_once_and_free_again() -> None:
    claim = Claim("0e7f3a52-9b1c-4e6d-8f00-ba9876543210", "web")
    with pytest.raises(GuestBusyError, match="web"):
        Claim("0e7f3a52-9b1c-4e6d-8f00-ba9876543210", "web")
    claim.close()
    Claim("0e7f3a52-9b1c-4e6d-8f00-ba9876543210", "web").close()
