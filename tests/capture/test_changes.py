"""A guest whose disks change under a recording, and what a long one leaves: the content is right, and nothing stays."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

from truth import assert_equal_to_guest, nothing_left, standing
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.guest.leftovers import find_leftovers

WRITES = "dd if=/dev/urandom of=/root/noise bs=64k count=40 2>/dev/null; sync"
OVERLAY = """<domainsnapshot><disks>
  <disk name='vda' snapshot='external'><source file='{}'/></disk>
</disks></domainsnapshot>"""
DISK = """<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>
  <target dev='vdq' bus='virtio'/></disk>"""


def test_an_external_snapshot_and_a_disk_that_comes_and_goes(boot_guest, tmp_path: Path) -> None:
    import libvirt

    guest = boot_guest(DemoSpec("cap-changes", memory_mib=256))
    added = guest.directory / "added.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(added), "32M"], check=True)
    subprocess.run(["qemu-io", "-c", "write -q -P 7 1M 1M", str(added)], check=True)
    with Case.create(tmp_path / "case", uri=guest.uri) as case, case.record(guest.name) as recording:
        recording.capture("one image")
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        guest.domain.snapshotCreateXML(OVERLAY.format(guest.directory / "overlay.qcow2"), flags)
        guest.run(WRITES)
        with standing(guest):
            assert_equal_to_guest(case, guest, recording.capture("with an overlay"), tmp_path)
        guest.domain.attachDevice(DISK.format(added))
        with standing(guest):
            came = recording.capture("with a second disk")
            assert came.read("disk:vdq", 1 << 20, 1 << 20) == b"\7" * (1 << 20)
            assert_equal_to_guest(case, guest, came, tmp_path)
        # Only a disk that the guest has taken up can be seen to go.
        until(lambda: guest.run("ls /sys/block | grep -c '^vd'").stdout == "2\n", "the guest sees a second disk")
        guest.domain.detachDevice(DISK.format(added))
        until(lambda: "vdq" not in guest.domain.XMLDesc(), "the guest lets the disk go")
        gone = recording.capture("without it")
        assert "disk:vdq" not in set(gone.regions()["name"])
        recording.close()
        assert find_leftovers(case.hypervisor.guest(guest.name).monitor) == []
        assert case.check() == []


def open_files(pid: int | str) -> Counter[str]:
    """What a process has open, by kind."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[re.sub(r":\[\d+\]", "", os.readlink(entry))] += 1
        except OSError:
            continue
    return found


def given_to(pid: int) -> Counter[str]:
    """What QEMU has open, but for sockets: we give it none, and libvirt opens the guest agent's when it likes."""
    found = open_files(pid)
    del found["socket"]
    return found


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_long_recording_does_not_grow_and_leaves_nothing(guest: DemoGuest, case: Case) -> None:
    pid = case.hypervisor.guest(guest.name).pid
    qemu, ours = given_to(pid), open_files("self")
    with case.record(guest.name) as recording:
        for _ in range(5):
            recording.capture("to get warm")
        during, mine, held = given_to(pid), open_files("self"), resident()
        assert " uw" in Path(f"/proc/{pid}/smaps").read_text()
        assert mine["anon_inode:[userfaultfd]"] == 1
        for _ in range(20):
            recording.capture("more")
        assert given_to(pid) - during == Counter()
        assert open_files("self") - mine == Counter()
        assert resident() - held < 32 << 20
    assert given_to(pid) - qemu == Counter()
    assert open_files("self") - ours == Counter()
    assert "anon_inode:[userfaultfd]" not in given_to(pid)
    maps = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    assert not any(" uw" in line for line in maps if line.startswith("VmFlags")), "memory is still write-protected"
    assert nothing_left(guest, case)
