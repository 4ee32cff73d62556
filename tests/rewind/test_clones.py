"""Clones: the moment itself, beside the guest, cut off from it and from the world, and nothing of them left behind."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rewinding import assert_healthy, differing_pages, rebooted, supervisor_of
from waiting import until

from workbench.case import Case, Clone, Moment
from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import GuestError, UsageError
from workbench.model import CLUSTER
from workbench.rewind import clone as cloning
from workbench.rewind import start as starting

pytestmark = pytest.mark.guest

Boot = Callable[[DemoSpec], DemoGuest]


def _reachable(place: Path) -> Case:
    place.chmod(0o711)
    return Case.create(place / "case")


@pytest.fixture(scope="module")
def moment(rew_guest: DemoGuest) -> Iterator[Moment]:
    """A moment of the shared guest, which has been told something else since; where QEMU's user can reach it."""
    with tempfile.TemporaryDirectory(prefix="rew-test-") as name, _reachable(Path(name)) as case:
        rew_guest.run("echo then >/root/when; echo then >/mnt/data1/when; echo then >/tmp/when; sync")
        with case.record(rew_guest.name) as recording:
            there = recording.capture("then", mark="then")
        rew_guest.run("echo now >/root/when; echo now >/mnt/data1/when; echo now >/tmp/when; sync; touch /root/planted")
        yield there
    rew_guest.run("rm -f /root/planted")


WHEN = "cat /root/when /mnt/data1/when /tmp/when; ls /root/planted 2>/dev/null"


def domains(case: Case) -> set[str]:
    """The running guests of this case, clones included; the host may have others, which come and go."""
    names = tuple(guest.name for guest in case.guests())
    return {guest.name for guest in case.hypervisor.guests() if guest.name.startswith(names)}


def left_in(case: Case) -> list[Path]:
    clones = case.path / "clones"
    return list(clones.iterdir()) if clones.exists() else []


def test_a_clone_runs_beside_the_guest_and_knows_nothing_of_later(moment: Moment, rew_guest: DemoGuest) -> None:
    with moment.clone() as clone:
        with supervisor_of(clone, rew_guest) as inside:
            assert_healthy(inside)
            assert inside.run(WHEN).stdout == "then\n" * 3
            inside.run("echo clone >/root/when; sync")
        assert rew_guest.run(WHEN).stdout == "now\n" * 3 + "/root/planted\n"
        assert_healthy(rew_guest)
        assert domains(moment.case) >= {clone.name, rew_guest.name}
    assert clone.name not in domains(moment.case)
    assert left_in(moment.case) == []


@pytest.fixture(params=["mapped", "written"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a clone gets its memory."""
    refusing = {"qemu:///session", "qemu:///system"} if request.param == "written" else set()
    monkeypatch.setattr(cloning, "_NO_MAPPING", refusing)
    return str(request.param)


def test_a_clone_is_equal_to_its_moment_before_it_runs(moment: Moment, way: str) -> None:
    """In a fresh QEMU loading the devices changes no page of memory: nothing is excepted."""
    with moment.clone(run=False) as clone:
        assert clone.record.memory == way
        different = differing_pages(moment.case, moment.record, clone.guest)
        assert {"pc.ram", "pc.bios"} <= set(different)
        assert not any(count for name, count in different.items() if name != "pc.rom"), different
        for disk, region in (("disk0", "disk:vda"), ("disk1", "disk:vdb")):
            assert disk_of(clone, moment, region) == 0, disk


def disk_of(clone: Clone, moment: Moment, region: str) -> int:
    """How many clusters of a paused clone's disk differ from the moment, read by qemu-img through all its layers."""
    [image] = [
        source.get("file", "")
        for disk in ET.fromstring(clone.guest.xml()).iterfind("./devices/disk")
        if disk.find("target").get("dev") == region.removeprefix("disk:")  # type: ignore[union-attr]
        for source in disk.findall("source")
    ]
    flat = clone.directory / "flat.raw"
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", image, flat], check=True)
    spec = moment.record.region(region).spec
    found = np.fromfile(flat, np.uint8)
    flat.unlink()
    wanted = np.zeros((spec.blocks, CLUSTER), np.uint8)
    moment.case.store.view(moment.id).region(region).read_into(wanted)
    real = np.zeros(wanted.size, np.uint8)
    real[: found.size] = found
    return int((real.reshape(wanted.shape) != wanted).any(axis=1).sum())


def test_a_clone_differs_from_its_guest_only_as_it_should(moment: Moment, rew_guest: DemoGuest) -> None:
    with moment.clone(run=False) as clone:
        ours, theirs = (
            ET.fromstring(g.xml(migratable=True)) for g in (clone.guest, moment.case.hypervisor.guest(rew_guest.name))
        )
        assert ours.findtext("name") != theirs.findtext("name")
        assert ours.findtext("uuid") != theirs.findtext("uuid")
        for tag in ("memory", "vcpu", "os", "features", "cpu", "clock"):
            assert ET.tostring(ours.find(tag)) == ET.tostring(theirs.find(tag)), tag  # type: ignore[arg-type]
        for way in ("./devices//address", "./devices/interface/mac", "./devices/disk/serial", "./devices/disk/target"):
            assert [e.attrib for e in ours.iterfind(way)] == [e.attrib for e in theirs.iterfind(way)], way
        paths = [{v for e in each.iter() for v in e.attrib.values() if v.startswith("/")} for each in (ours, theirs)]
        shared = {path for path in paths[0] & paths[1] if not path.startswith("/dev/")}
        assert shared == set()
        inside = {path for path in paths[0] if not path.startswith("/dev/")}
        ours_alone = (clone.directory, Path(clone.record.sockets))
        assert all(
            any(Path(path).is_relative_to(place) for place in (*ours_alone, moment.case.path.resolve() / "cache"))
            for path in inside
        )


def test_the_network_of_a_clone_is_cut(moment: Moment, rew_guest: DemoGuest) -> None:
    ask = "cat /sys/class/net/eth0/address; ifconfig eth0 up; cat /sys/class/net/eth0/carrier"
    mac, carrier = rew_guest.run(ask).stdout.split()
    assert carrier == "1"
    with moment.clone() as clone, supervisor_of(clone, rew_guest) as inside:
        inside.wait_ready(60)
        assert inside.run(ask).stdout.split() == [mac, "0"]
        inside.run("ifconfig eth0 down; ifconfig eth0 up")
        assert inside.run(ask).stdout.split() == [mac, "0"]


def test_a_clone_survives_its_own_reboot(moment: Moment, rew_guest: DemoGuest, way: str) -> None:
    with moment.clone() as clone, supervisor_of(clone, rew_guest) as inside:
        assert clone.record.memory == way
        inside.wait_ready(60)
        rebooted(inside)
        assert_healthy(inside)
        assert inside.run("cat /root/when /mnt/data1/when; cat /sys/class/net/eth0/carrier").stdout.startswith(
            "then\nthen\n"
        )
        carrier = inside.run("ifconfig eth0 up; cat /sys/class/net/eth0/carrier").stdout.strip()
        assert carrier == "0"


def test_several_clones_of_one_moment_at_once(moment: Moment, rew_guest: DemoGuest) -> None:
    clones: list[Clone] = []
    errors: list[BaseException] = []

    def start() -> None:
        try:
            with Case(moment.case.path) as case:
                clones.append(case.moment("then").clone())
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    try:
        assert errors == []
        assert len({clone.name for clone in clones}) == 3
        for number, clone in enumerate(clones):
            with supervisor_of(clone, rew_guest) as inside:
                assert_healthy(inside)
                inside.run(f"echo {number} >/root/when; sync")
        for number, clone in enumerate(clones):
            with supervisor_of(clone, rew_guest) as inside:
                assert inside.run("cat /root/when").stdout == f"{number}\n"
        assert {each.name for each in moment.case.clones()} == {clone.name for clone in clones}
    finally:
        for clone in clones:
            moment.case.remove_clone(clone.name)
    assert left_in(moment.case) == []
    assert rew_guest.run("cat /root/when").stdout == "now\n"


@pytest.mark.parametrize("step", ["devices", "network", "resume"])
def test_a_clone_that_fails_half_way_leaves_nothing(moment: Moment, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    case, before = moment.case, domains(moment.case)

    def fail(*_words: object, **_named: object) -> None:
        raise GuestError("half way")

    if step == "devices":
        monkeypatch.setattr(starting, "load_device_state", fail)
    elif step == "resume":
        monkeypatch.setattr(cloning, "resume", fail)
    else:
        monkeypatch.setattr(cloning, "connect", fail)
    with pytest.raises(GuestError, match="half way"):
        moment.clone()
    assert domains(case) == before
    assert left_in(case) == []
    assert case.clones() == []


def test_a_name_that_is_taken_costs_the_owner_nothing(moment: Moment, rew_guest: DemoGuest) -> None:
    with pytest.raises(GuestError):
        moment.clone(name=rew_guest.name)
    assert_healthy(rew_guest)
    assert left_in(moment.case) == []


def test_a_lying_description_ends_no_guest(moment: Moment, rew_guest: DemoGuest) -> None:
    """A case of a stranger could name any domain and any directory as its clone."""
    case = moment.case
    victim = rew_guest.domain.UUIDString()
    told = {
        "name": "x",
        "uuid": victim,
        "uri": case.uri,
        "capture": moment.id,
        "directory": "/",
        "started_ns": 1,
        "seconds": 0,
    }
    for directory in (victim, str(uuid.uuid4())):
        place = case.path / "clones" / directory
        place.mkdir(parents=True)
        (place / "clone.json").write_text(json.dumps(told))
        with pytest.raises(UsageError):
            case.remove_clone(victim)
        (place / "clone.json").unlink()
        place.rmdir()
    assert_healthy(rew_guest)


@pytest.mark.parametrize(
    "spec",
    [
        DemoSpec("rew-vga", memory_mib=256, vga=True, vcpus=2, rng=True),
        DemoSpec("rew-four", memory_mib=4096, machine="q35", disk_bus="scsi", iothread=True),
    ],
    ids=["VGA, 2 vCPUs", "4 GiB, q35, virtio-scsi, iothread"],
)
def test_every_shape_of_guest_is_cloned(boot_rew: Boot, case: Case, spec: DemoSpec) -> None:
    """And every one with its memory mapped."""
    guest = boot_rew(spec)
    guest.run("echo then >/tmp/when")
    with case.record(guest.name) as recording:
        there = recording.capture("then")
    with there.clone(run=False) as clone:
        assert clone.record.memory == "mapped"
        different = differing_pages(case, there.record, clone.guest)
        assert not any(count for name, count in different.items() if name != "pc.rom"), different
        if spec.vga:
            assert any(name.endswith("vga.vram") for name in different)
        clone.guest.domain.resume()
        with supervisor_of(clone, guest) as inside:
            assert_healthy(inside)
            assert inside.run("cat /tmp/when").stdout == "then\n"
    assert left_in(case) == []


def test_a_read_only_medium_stays_one(boot_rew: Boot, case: Case, workplace: Path) -> None:
    guest = boot_rew(DemoSpec("rew-cd", memory_mib=256))
    medium = workplace / "medium.img"
    medium.write_bytes(b"medium".ljust(1 << 20, b"\0"))
    medium.chmod(0o644)
    guest.domain.attachDevice(
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{medium}'/>"
        "<target dev='vdr' bus='virtio'/><readonly/></disk>"
    )
    until(lambda: "vdb" in guest.run("ls /sys/block").stdout, "the guest takes it up")
    with case.record(guest.name) as recording:
        there = recording.capture("with a read-only medium")
    assert "disk:vdr" not in [each.spec.name for each in there.record.regions]
    with there.clone() as clone, supervisor_of(clone, guest) as inside:
        assert_healthy(inside)
        read = "for d in /sys/block/vd*; do [ $(cat $d/ro) = 1 ] && head -c6 /dev/${d##*/}; done"
        assert inside.run(read).stdout == "medium"
