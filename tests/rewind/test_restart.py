"""Where in place is impossible a new QEMU takes the guest's place, and says so; where that fails, the guest is back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
from rewinding import assert_disk_sound, assert_healthy

from workbench.case import Case, Rewound
from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import GuestError, MonitorError, RewindError, UnsupportedError
from workbench.progress import ProgressEvent
from workbench.rewind import apply as applying
from workbench.rewind import restart
from workbench.rewind.restart import rewind_by_restart

pytestmark = pytest.mark.guest

Boot = Callable[[DemoSpec], DemoGuest]


@pytest.fixture
def told() -> list[ProgressEvent]:
    return []


@dataclass
class Plugged:
    """A disk that was plugged into a running guest."""

    xml: str
    path: Path


@pytest.fixture
def plug(rew_guest: DemoGuest, workplace: Path) -> Iterator[Callable[[], Plugged]]:
    """Give a function that plugs a further disk into the shared guest; it is out again afterwards."""
    plugged: list[Plugged] = []

    def doit() -> Plugged:
        image = workplace / "late.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"], check=True)
        xml = (
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>"
            "<target dev='vdx' bus='virtio'/><serial>late</serial></disk>"
        )
        rew_guest.domain.attachDevice(xml)
        plugged.append(Plugged(xml, image))
        return plugged[-1]

    yield doit
    for each in plugged:
        if "late.qcow2" in rew_guest.domain.XMLDesc():
            rew_guest.domain.detachDevice(each.xml)


def test_a_disk_plugged_in_since_makes_it_a_restart(
    case: Case,
    rew_guest: DemoGuest,
    plug: Callable[[], Plugged],
    workplace: Path,
    told: list[ProgressEvent],
) -> None:
    guest = rew_guest
    uptime = guest.uptime()
    with case.record(guest.name) as recording:
        there = recording.capture("one disk fewer")
        latest = guest.uptime()
        guest.run("echo evil >/root/evil; echo evil >/mnt/data1/evil; sync")
        plug()
        late = recording.capture("with the late disk")
        plan = case.plan_rewind(there, "production")
        assert "restarting QEMU" in str(plan)
        assert "disk:vdx" in str(plan)
        began = time.monotonic()
        done = recording.rewind(plan, confirm=guest.name, progress=told.append)
    assert isinstance(done, Rewound)
    assert done.how == "restarted"
    assert "late.qcow2" not in guest.domain.XMLDesc()
    assert_healthy(guest)
    assert guest.run("ls /root/evil /mnt/data1/evil 2>/dev/null").stdout == ""
    assert uptime - 0.5 <= guest.uptime() <= latest + time.monotonic() - began + 2
    with case.record(guest.name) as recording:
        after = recording.capture("after").record
        assert after.parent == there.id
        # The other way there is no image to write to: refused before anything is ended.
        with pytest.raises(UnsupportedError, match="vdx was there then"):
            recording.rewind(case.plan_rewind(late, "production"), confirm=guest.name)
    assert_healthy(guest)
    assert_disk_sound(case, after, "disk:vda", workplace)
    assert_disk_sound(case, after, "disk:vdb", workplace)


def test_devices_that_refuse_make_it_a_restart_and_it_says_so(
    case: Case, rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch, told: list[ProgressEvent]
) -> None:
    guest = rew_guest
    real, refusals = applying.load_device_state, [True]

    def refuse_once(*words: Any, **named: Any) -> None:
        if refusals:
            refusals.pop()
            raise MonitorError("rew: snapshot-load: device 'x' does not like it", command="snapshot-load")
        real(*words, **named)

    with case.record(guest.name, progress=told.append) as recording:
        there = recording.capture("there")
        guest.run("echo evil >/root/evil; sync")
        monkeypatch.setattr(applying, "load_device_state", refuse_once)
        done = recording.rewind(case.plan_rewind(there, "production"), confirm=guest.name)
    assert done.how == "restarted"
    assert any("restarting QEMU instead" in event.note and "does not like it" in event.note for event in told)
    assert_healthy(guest)
    assert guest.run("ls /root/evil 2>/dev/null").stdout == ""
    undone = case.rewind(case.plan_undo(), confirm=guest.name)
    assert isinstance(undone, Rewound)
    guest.reconnect()
    assert guest.run("rm -v /root/evil").rc == 0


def test_a_start_that_fails_brings_back_what_was(
    case: Case, rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    guest = rew_guest
    real, refusals = restart.start_moment, [True]

    def refuse_once(*words: Any, **named: Any) -> Any:
        if refusals:
            refusals.pop()
            raise GuestError("no such machine on this host")
        return real(*words, **named)

    with case.record(guest.name) as recording:
        there = recording.capture("there")
        guest.run("echo kept >/root/kept; echo kept >/mnt/data1/kept; sync; echo kept >/tmp/kept")
        monkeypatch.setattr(restart, "start_moment", refuse_once)
        with pytest.raises(RewindError) as raised:
            rewind_by_restart(recording.session, there.id)
    assert raised.value.guest_is == "as before"
    assert "no such machine" in str(raised.value)
    assert_healthy(guest)
    assert guest.run("cat /root/kept /mnt/data1/kept /tmp/kept").stdout == "kept\n" * 3
    with case.record(guest.name) as recording:
        after = recording.capture("after").record
        assert after.parent == case.store.captures(there.record.guest)[-2].id
    assert_disk_sound(case, after, "disk:vda", workplace)
    guest.run("rm /root/kept /mnt/data1/kept")


def test_a_persistent_domain_keeps_its_configuration(case: Case, boot_rew: Boot) -> None:
    guest = boot_rew(DemoSpec("rew-defined", memory_mib=256))
    domain = guest.connection.defineXML(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    try:
        before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        with case.record(guest.name) as recording:
            there = recording.capture("there")
            guest.run("echo evil >/root/evil; sync")
            done = rewind_by_restart(recording.session, there.id)
        assert done.how == "restarted"
        assert domain.isPersistent()
        assert domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before
        assert_healthy(guest)
        assert guest.run("ls /root/evil 2>/dev/null").stdout == ""
    finally:
        domain.undefine()


def test_disks_in_a_thread_behind_virtio_scsi_make_it_a_restart(case: Case, boot_rew: Boot, workplace: Path) -> None:
    guest = boot_rew(DemoSpec("rew-thread", memory_mib=256, disk_bus="scsi", iothread=True))
    with case.record(guest.name) as recording:
        there = recording.capture("there")
        guest.run("echo evil >/root/evil; sync")
        done = recording.rewind(case.plan_rewind(there, "production"), confirm=guest.name)
    assert done.how == "restarted"
    assert_healthy(guest)
    assert guest.run("ls /root/evil 2>/dev/null").stdout == ""
