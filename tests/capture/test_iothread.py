"""Disks in an I/O thread: their backup jobs end inside the pause, since QEMU 7.2 dies of `cont` beside one."""

from __future__ import annotations

from pathlib import Path

import pytest
from truth import assert_equal_to_guest, nothing_left, standing

from workbench.case import Case
from workbench.demo import DemoSpec
from workbench.guest.disks import read_disks


@pytest.mark.parametrize("bus", ["virtio", "scsi"])
def test_a_writing_guest_with_an_iothread_lives_through_many_captures(boot_guest, tmp_path: Path, bus: str) -> None:
    guest = boot_guest(DemoSpec(f"cap-thread-{bus}", memory_mib=256, vcpus=2, iothread=True, disk_bus=bus))
    with Case.create(tmp_path / "case", uri=guest.uri) as case:
        with case.record(guest.name) as recording:
            assert all(disk.threaded for disk in read_disks(recording.session.guest))
            guest.load("disk")
            for _ in range(25):
                moment = recording.capture("under load")
            assert "disk copies" in moment.facts["pause_parts_ns"]
            guest.load("off")
            with standing(guest):
                assert_equal_to_guest(case, guest, recording.capture("while it stands"), tmp_path)
        assert guest.health().ok
        assert nothing_left(guest, case)
