"""A guest taken back in place: it is what it was, it lives on, and nothing of history is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rewinding import assert_disk_sound, assert_healthy, content, held, ours_in

from workbench.case import Case, Moment, Recording, Rewound
from workbench.demo import DemoGuest, DemoSpec
from workbench.rewind.outcome import note_rewind
from workbench.timeline.current import current_capture

pytestmark = pytest.mark.guest

Boot = Callable[[DemoSpec], DemoGuest]
PLANT = "echo evil >/root/evil; [ ! -d /mnt/data1 ] || echo evil >/mnt/data1/evil; sync; sleep 9999 & "
LOOK = "ls /root/evil /mnt/data1/evil 2>/dev/null; ps | grep '[s]leep 9999'; cut -d' ' -f1 /proc/uptime"


def go(case: Case, recording: Recording, moment: Moment, guest: DemoGuest) -> Rewound:
    return recording.rewind(case.plan_rewind(moment, "production"), confirm=guest.name)


class Clock:
    """What the guest's clock may say after a rewind: what it said about the capture, and the time that passed since."""

    def __init__(self, guest: DemoGuest) -> None:
        self.guest, self.least = guest, guest.uptime()

    def captured(self) -> None:
        self.most = self.guest.uptime()

    def rewinding(self) -> None:
        self.began = time.monotonic()

    def assert_clean(self) -> None:
        """What was planted is gone, and the guest's clock went back."""
        self.guest.reconnect()
        *planted, now = self.guest.run(LOOK).stdout.split("\n")[:-1]
        assert not planted
        assert self.least - 0.5 <= float(now) <= self.most + time.monotonic() - self.began + 2


def test_twenty_rewinds_in_a_row(case: Case, rew_guest: DemoGuest, workplace: Path) -> None:
    guest = rew_guest
    guest.run("echo good >/root/good; sync")
    clock = Clock(guest)
    with case.record(guest.name) as recording:
        there = recording.capture("clean")
        clock.captured()
        for round_ in range(20):
            guest.run(PLANT)
            clock.rewinding()
            assert "evil" in guest.run(LOOK).stdout
            if round_ % 4 == 3:  # somebody holds the guest: then what came out can be compared whole
                with held(guest):
                    done = go(case, recording, there, guest)
                    after = recording.capture("right after")
                    assert content(after.record) == content(there.record)
            else:
                done = go(case, recording, there, guest)
                assert ours_in(case, guest) == []  # a QEMU that stands still cannot let go of descriptors
                after = recording.capture("a moment after")
            assert done.how == "in place"
            assert done.clusters > 0
            assert done.target.id == there.id
            assert after.record.parent == there.id
            clock.assert_clean()
            assert_healthy(guest)
            if round_ % 5 == 4:
                for disk in ("disk:vda", "disk:vdb"):
                    assert_disk_sound(case, after.record, disk, workplace)
        assert guest.run("cat /root/good").stdout == "good\n"
    assert case.check() == []


@pytest.mark.parametrize("load", ["shell", "disk"])
def test_a_busy_guest_is_taken_back(case: Case, rew_guest: DemoGuest, workplace: Path, load: str) -> None:
    guest = rew_guest
    guest.load(load)
    try:
        with case.record(guest.name) as recording:
            clock = Clock(guest)
            there = recording.capture("under load")
            clock.captured()
            for _round in range(4):
                guest.run(PLANT)
                clock.rewinding()
                go(case, recording, there, guest)
                clock.assert_clean()
                assert_healthy(guest)
            assert_disk_sound(case, recording.capture("after").record, "disk:vda", workplace)
    finally:
        guest.load("off")
    assert_healthy(guest)


@pytest.mark.parametrize(
    "spec",
    [
        DemoSpec("rew-many", memory_mib=256, vcpus=2, vga=True, extra_disks=1, iothread=True, network=True),
        DemoSpec("rew-high", memory_mib=3072, machine="q35", balloon=False),
        DemoSpec("rew-scsi", memory_mib=256, disk_bus="scsi", extra_disks=1, extra_disk_format="raw"),
    ],
    ids=["2 vCPUs, VGA, iothread", "q35, RAM above 4 GiB", "virtio-scsi, raw"],
)
def test_every_shape_of_guest_is_taken_back(case: Case, boot_rew: Boot, workplace: Path, spec: DemoSpec) -> None:
    guest = boot_rew(spec)
    clock = Clock(guest)
    with case.record(guest.name) as recording:
        there = recording.capture("clean")
        clock.captured()
        for round_ in range(3):
            guest.run(PLANT)
            clock.rewinding()
            if round_ == 1:
                with held(guest):
                    go(case, recording, there, guest)
                    assert content(recording.capture("right after").record) == content(there.record)
            else:
                go(case, recording, there, guest)
            clock.assert_clean()
            assert_healthy(guest)
        after = recording.capture("after").record
        for region in after.regions:
            if region.spec.name.startswith("disk:"):
                assert_disk_sound(case, after, region.spec.name, workplace)


def test_without_a_tracker_all_memory_is_compared(case: Case, rew_guest: DemoGuest) -> None:
    with case.record(rew_guest.name, tracker="compare") as recording:
        there = recording.capture("clean")
        rew_guest.run(PLANT)
        with held(rew_guest):
            go(case, recording, there, rew_guest)
            assert content(recording.capture("right after").record) == content(there.record)
    assert_healthy(rew_guest)


def test_undo_brings_back_exactly_what_was_there(case: Case, rew_guest: DemoGuest) -> None:
    guest = rew_guest
    with case.record(guest.name) as recording:
        there = recording.capture("clean")
        guest.run(PLANT)
        with held(guest):
            present = recording.capture("the present")
            done = go(case, recording, there, guest)
            assert content(done.safety) == content(present.record)
            undone = recording.rewind(case.plan_undo(), confirm=guest.name)
            assert undone.target.id == done.safety.id
            assert content(recording.capture("undone").record) == content(present.record)
        assert_healthy(guest)
        assert "evil" in guest.run(LOOK).stdout
        go(case, recording, there, guest)  # leave the guest clean
    guest.reconnect()


def test_a_moment_of_another_branch_and_history_that_only_grows(case: Case, rew_guest: DemoGuest) -> None:
    guest = rew_guest
    with case.record(guest.name) as recording:
        first = recording.capture("first")
        guest.run("echo 1 >/tmp/branch")
        second = recording.capture("second")
        go(case, recording, first, guest)
        third = recording.capture("third, on a branch")
        assert (second.record.branch, third.record.branch) == (0, 1)
        assert third.record.parent == first.id
        before = {each.id: each for each in case.store.captures(recording.guest.id)}
        done = go(case, recording, second, guest)
        guest.reconnect()
        assert guest.run("cat /tmp/branch").stdout == "1\n"
        fourth = recording.capture("fourth")
        assert done.safety.branch == third.record.branch
        assert fourth.record.parent == second.id
        assert fourth.record.branch not in (0, 1)
        assert before.items() <= {each.id: each for each in case.store.captures(recording.guest.id)}.items()
    assert case.check() == []


def test_another_process_goes_on_where_the_rewind_went(case: Case, rew_guest: DemoGuest) -> None:
    guest = rew_guest
    with case.record(guest.name) as recording:
        there = recording.capture("there")
        guest.run("echo 2 >/tmp/later")
        recording.capture("later")
    with Case(case.path) as other:
        other.rewind(other.plan_rewind(there.id, "production"), confirm=guest.name)
    program = (
        "import sys; from workbench.case import Case\n"
        "with Case(sys.argv[1]) as case, case.record(sys.argv[2]) as recording:\n"
        "    print(recording.capture('from elsewhere').record.parent)\n"
    )
    words = [sys.executable, "-c", program, str(case.path), guest.name]
    told = subprocess.run(words, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert told.stdout.strip() == there.id
    assert_healthy(guest)


def test_a_rewind_counts_as_later_than_every_capture_even_if_the_clock_was_set_back(
    case: Case, rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with case.record(rew_guest.name) as recording:
        first, second = recording.capture("first"), recording.capture("second")
    monkeypatch.setattr("workbench.rewind.outcome.time.time_ns", lambda: first.record.time_ns - 10**9)
    assert current_capture(case.store, first.record.guest) == second.id
    note_rewind(case.store, first.record.guest, first.id, second.id)
    assert current_capture(case.store, first.record.guest) == first.id
