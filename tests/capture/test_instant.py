"""One capture is memory, devices and every disk of the same instant, exactly, in every shape of guest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from truth import assert_equal_to_guest, nothing_left, standing

from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.guest.memory import MemoryMap
from workbench.model import CaptureMode

WRITES = (
    "dd if=/dev/urandom of=/root/noise bs=64k count=40 2>/dev/null; dd if=/dev/urandom of=/dev/shm/noise bs=1M count=4"
)


@pytest.mark.parametrize("tracker", ["userfaultfd", "compare"])
def test_the_store_holds_exactly_what_the_guest_is(guest: DemoGuest, case: Case, tmp_path: Path, tracker: str) -> None:
    guest.load("disk")
    with case.record(guest.name, tracker=tracker) as recording:
        for number in range(3):
            recording.capture(f"increment {number}")
            guest.run(WRITES)
        with standing(guest):
            moment = recording.capture("while it stands")
            assert moment.facts["tracker"] == tracker
            assert_equal_to_guest(case, guest, moment, tmp_path)
    guest.load("off")
    assert case.check() == []
    assert nothing_left(guest, case)


@pytest.mark.parametrize(
    "spec",
    [
        DemoSpec("cap-disks", vcpus=2, extra_disks=2, extra_disk_format="raw", vga=True),
        DemoSpec("cap-scsi", disk_bus="scsi", machine="q35", memory_mib=3072, extra_disks=1),
        DemoSpec("cap-high", memory_mib=4096, iothread=True, cache="none"),
    ],
    ids=lambda spec: spec.name,
)
def test_it_holds_for_other_shapes(boot_guest, tmp_path: Path, spec: DemoSpec) -> None:
    guest = boot_guest(spec)
    with Case.create(tmp_path / "case", uri=guest.uri) as case, case.record(guest.name) as recording:
        recording.capture("first")
        guest.load("disk")
        guest.run(WRITES)
        recording.capture("second")
        guest.run(
            f"{WRITES}; for d in /mnt/data*; do test -d $d && dd if=/dev/urandom of=$d/noise bs=64k count=9; done"
        )
        with standing(guest):
            moment = recording.capture("while it stands")
            assert_equal_to_guest(case, guest, moment, tmp_path)
        names = set(moment.regions()["name"])
        assert len([name for name in names if name.startswith("disk:")]) == 1 + spec.extra_disks
        assert not spec.vga or any(name.endswith("vga.vram") for name in names)
        layout = json.loads(moment.open("state:layout").read())
        ranges = MemoryMap.from_json(layout["memory"]).ranges
        assert (max(each.start + each.length for each in ranges if each.block == "pc.ram") > 1 << 32) == (
            spec.memory_mib >= 3072
        )


def test_memory_and_disk_are_of_one_instant(guest: DemoGuest, case: Case, tmp_path: Path) -> None:
    """A counter goes to the disk, synced, before it goes to memory: no capture may show memory ahead of the disk."""
    script = "i=0; while :; do i=$((i+1)); printf 'D%07dD' $i | dd of=/root/count conv=fsync 2>/dev/null; "
    guest.run(f"({script} printf 'M%07dM' $i >/dev/shm/count; done) >/dev/null 2>&1 & echo $! >/run/counter")
    guest.run("until [ -s /dev/shm/count ]; do usleep 20000; done", timeout=120)
    moments = []
    with case.record(guest.name) as recording:
        for _ in range(3):
            moments.append(recording.capture("counting"))
            guest.run('a=$(cat /dev/shm/count); until [ "$(cat /dev/shm/count)" != "$a" ]; do usleep 20000; done', 120)
    guest.run("kill $(cat /run/counter)")
    import re

    seen = []
    for moment in moments:
        disk = [int(each) for each in re.findall(rb"D(\d{7})D", moment.open("disk:vda").read())]
        memory = [int(each) for each in re.findall(rb"M(\d{7})M", moment.open("pc.ram").read())]
        assert disk, "the counter is on the disk"
        assert memory, "the counter is in memory"
        assert max(memory) <= max(disk) <= max(memory) + 1
        seen.append(max(disk))
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


def test_a_capture_records_the_facts_of_its_taking(guest: DemoGuest, case: Case) -> None:
    with case.record(guest.name) as recording:
        recording.capture("first")
        moment = recording.capture("alert", mark="alert-1", mode=CaptureMode.EVENT)
    facts = moment.facts
    assert set(facts["pause_parts_ns"]) == {"stop", "scan", "memory", "devices", "disks", "cont"}
    assert facts["pause_ns"] == sum(facts["pause_parts_ns"].values())
    assert facts["dirty_pages"] > 0
    assert facts["stored_bytes"] > 0
    assert facts["tracker"] == "userfaultfd"
    assert facts["reader"] in ("proc-mem", "shared-map")
    assert set(facts["versions"]) == {"libvirt", "qemu"}
    assert facts["accelerator"] in ("tcg", "kvm")
    assert facts["consistency"] == "crash"
    assert {"state:devices", "state:xml", "state:layout"} <= set(moment.regions()["name"])
    assert f"<name>{guest.name}</name>" in moment.open("state:xml").read().decode()
    assert moment.open("state:devices").read(4) == b"QEVM"
    assert case.moment("alert-1").id == moment.id


def test_a_second_session_goes_on_where_the_first_ended(guest: DemoGuest, case: Case, tmp_path: Path) -> None:
    with case.record(guest.name) as recording:
        first = recording.capture("first")
    guest.run(WRITES)
    with case.record(guest.name) as recording, standing(guest):
        second = recording.capture("second")
        assert second.record.parent == first.id
        assert_equal_to_guest(case, guest, second, tmp_path)


def test_fifteen_captures_leave_qemu_as_it_was(guest: DemoGuest, case: Case) -> None:
    def descriptors() -> int:
        """How many QEMU has, but for sockets: libvirt opens the guest agent's when it likes."""
        held = [os.readlink(each) for each in Path(f"/proc/{case.hypervisor.guest(guest.name).pid}/fd").iterdir()]
        return len([each for each in held if not each.startswith("socket:")])

    before = descriptors()
    with case.record(guest.name) as recording:
        recording.capture("first")
        during = descriptors()
        for _ in range(15):
            recording.capture("more")
        assert descriptors() <= during + 1
    assert descriptors() <= before
    assert nothing_left(guest, case)
