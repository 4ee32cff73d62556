"""The demo guest keeps its promises: it answers, tells the truth, works, reboots, and leaves nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt
import libvirt_qemu
import pytest
from waiting import until

from workbench.demo import STEPS, DemoGuest, DemoImage, DemoSpec, play
from workbench.demo.daemon import connect
from workbench.errors import GuestError, GuestGoneError, UsageError

SHAPES = {
    "pc-virtio-iothread-net": DemoSpec("shape", vcpus=2, vga=True, network=True, iothread=True, extra_disks=1),
    "q35-scsi-iothread-raw": DemoSpec(
        "shape", machine="q35", disk_bus="scsi", iothread=True, extra_disks=2, extra_disk_format="raw", balloon=False
    ),
}


def test_runs_commands_as_root(guest):
    done = guest.run("id -u; echo trouble >&2; exit 3")
    assert (done.rc, done.stdout) == (3, "0\ntrouble\n")
    # By the guest's own clock, which stood still in every pause that other tests made of it.
    assert -3600 < done.t - time.time() < 5


def test_a_command_that_takes_too_long_is_ended(guest):
    assert guest.run("sleep 60", timeout=1).rc == 143


def test_long_output_comes_whole(guest):
    assert guest.run("seq 1 50000").stdout.split() == [str(n) for n in range(1, 50001)]


def test_is_healthy_and_says_since_when(guest):
    health = guest.health()
    assert health.ok, health.problems
    assert 0 < health.uptime <= guest.uptime()


def test_health_sees_a_read_only_disk(boot_guest):
    guest = boot_guest(DemoSpec("readonly"))
    guest.run("echo u >/proc/sysrq-trigger")  # as the kernel does after an error
    until(lambda: " / ext4 ro" in guest.run("cat /proc/mounts").stdout)
    health = guest.health()
    assert not health.ok
    assert "/ is not mounted read-write" in health.problems


def test_files_belong_to_their_users(guest):
    owners = guest.run("stat -c '%u:%g %n' / /etc/passwd /etc/shadow /bin/busybox /lost+found /home/alice/notes.txt")
    assert owners.stdout.splitlines() == [
        "0:0 /",
        "0:0 /etc/passwd",
        "0:4 /etc/shadow",
        "0:0 /bin/busybox",
        "0:0 /lost+found",
        "1000:1000 /home/alice/notes.txt",
    ]


def test_the_guest_agent_answers_through_libvirt(guest):
    def answers():
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(guest.domain, '{"execute": "guest-ping"}', 5, 0))
        except libvirt.libvirtError:
            return None

    until(lambda: answers() == {"return": {}}, "the agent answers")


def test_logs_to_the_system_log(guest):
    guest.run("logger -t probe something happened")
    until(lambda: "probe: something happened" in guest.run("tail -n 5 /var/log/messages").stdout)


def test_load_keeps_the_guest_busy_until_it_is_off(guest):
    guest.load("shell")
    guest.load("memory", 16)
    guest.load("disk")
    area = "md5sum /run/load/memory/blob 2>/dev/null | cut -c 1-32"
    until(lambda: guest.run("test -s /run/load/memory/blob && test -e /var/tmp/load-shell.1").rc == 0)
    before = guest.run(area).stdout
    until(lambda: guest.run(area).stdout != before)
    guest.load("off")
    until(lambda: guest.run("ps | grep '[l]oad run-'").rc == 1)
    assert guest.run("ls /var/tmp").stdout == ""
    assert [line["kind"] for line in guest.truth() if line["what"] == "load"][-4:] == ["shell", "memory", "disk", "off"]


def test_unknown_load_is_refused(guest):
    with pytest.raises(GuestError, match="load shell"):
        guest.load("nonsense")


def test_intrusion_leaves_what_the_truth_log_says(boot_guest):
    guest = boot_guest(DemoSpec("intrusion"))
    seen = []
    planted = play(guest, lambda step, truth: seen.append((step.name, truth["what"])))
    assert seen == [(step.name, step.name) for step in STEPS]
    assert guest.truth() == planted
    truth = {str(line["what"]): line for line in planted}
    dropped = truth["dropped_binary"]
    executable = guest.run(f"readlink /proc/{dropped['pid']}/exe; sha256sum /proc/{dropped['pid']}/exe").stdout
    assert executable.startswith(f"{dropped['path']} (deleted)\n{dropped['sha256']} ")
    assert "sysupd:x:0:0:" in guest.run("cat /etc/passwd").stdout
    assert ":4444 " in guest.run("netstat -ltn").stdout
    assert guest.run("wc -c </var/log/auth.log").stdout.strip() == "0"
    assert guest.health().ok


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_boots_in_every_shape(boot_guest, shape):
    spec = SHAPES[shape]
    guest = boot_guest(spec)
    assert guest.health().ok, guest.health().problems
    mounts = guest.run("cat /proc/mounts").stdout
    for number in range(1, spec.extra_disks + 1):
        assert f" /mnt/data{number} ext4 rw" in mounts
    if spec.network:
        until(lambda: "10.0.2.15" in guest.run("ifconfig eth0").stdout)
    tree = ET.fromstring(guest.domain.XMLDesc())
    assert spec.machine in tree.find("os/type").get("machine").replace("pc-q35", "q35").replace("pc-i440fx", "pc")


def test_survives_a_reboot(boot_guest):
    guest = boot_guest(DemoSpec("reboot"))
    guest.run("echo kept >/root/kept; sync")
    boot = guest.run("cat /proc/sys/kernel/random/boot_id").stdout
    guest.reboot()
    assert guest.run("cat /proc/sys/kernel/random/boot_id").stdout not in ("", boot)
    assert guest.run("cat /root/kept").stdout == "kept\n"
    assert guest.health().ok


def test_close_leaves_nothing(demo_image: DemoImage):
    with DemoGuest.boot(DemoSpec("leaves-nothing"), image=demo_image) as guest:
        directory, pid = guest.directory, _pid(guest)
        assert directory.is_dir()
        with pytest.raises(UsageError, match="of that name exists"):
            DemoGuest.boot(DemoSpec("leaves-nothing"), image=demo_image)
    with pytest.raises(GuestGoneError):
        guest.ping()
    assert not directory.exists()
    until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())
    connection = connect(guest.uri)
    assert "leaves-nothing" not in [domain.name() for domain in connection.listAllDomains()]
    connection.close()
    guest.close()


def _pid(guest):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and f"guest={guest.name}".encode() in _command(entry):
            return int(entry.name)
    raise AssertionError("no QEMU process")


def _command(entry):
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""
