"""A captured moment of an ordinary guest is where a recording begins: its memory, devices and disk, and its clock."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exactly import qemus_of, type_and_wait

from workbench.case import Case, ExactRecording, Machine, Moment
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.demo.domain import domain_xml
from workbench.errors import GuestError, GuestGoneError, UnsupportedError, UsageError
from workbench.guest.reader import read_block
from workbench.replay.exact import seeding
from workbench.replay.exact.content import open_memory
from workbench.replay.exact.native import machine_of
from workbench.replay.exact.qemu import ExactQemu

ALL = DemoSpec(
    f"ordinary-{os.getpid()}", memory_mib=96, network=True, balloon=True, rng=True, vga=True, panic=True,
    watchdog="none", agent=True,
)  # fmt: skip
"""Whatever an ordinary guest has and that can be replayed."""
WORD = "a-word-of-the-past"


@dataclass(frozen=True)
class Past:
    """A moment of a guest that runs on, and what was true in it."""

    case: Case
    guest: DemoGuest
    moment: Moment
    uptime: float


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, demo_image: DemoImage) -> Iterator[Past]:
    path = tmp_path_factory.mktemp("past") / "case"
    with DemoGuest.boot(ALL, image=demo_image) as guest, Case.create(path, uri=guest.uri) as case:
        guest.run(f"echo {WORD} >/run/planted; sleep 1000 & echo $! >/run/pid")  # /run is in memory alone
        uptime = float(guest.run("cut -d' ' -f1 /proc/uptime").stdout)
        with case.record(guest.name) as recording:
            recording.capture()
        guest.run("echo later >/run/planted")
        yield Past(case, guest, case.moment("latest"), uptime)


@pytest.fixture(scope="module")
def recording(past: Past) -> ExactRecording:
    with past.case.record_exactly(moment=past.moment) as recorder:
        type_and_wait(recorder, "cat /run/planted /proc/uptime; ls /proc/$(cat /run/pid)/exe", "asked")
        type_and_wait(recorder, "head -c 16 /dev/hwrng | od -An -tx1; cat /sys/class/net/eth0/carrier", "drawn")
        type_and_wait(recorder, "echo new >/root/new; sync", "written")
    return past.case.exact_recording(recorder.id)


def said(recording: ExactRecording) -> list[str]:
    return recording.console.decode(errors="replace").replace("\r", "").splitlines()


def test_the_guest_goes_on_from_the_moment_and_answers(past: Past, recording: ExactRecording) -> None:
    lines = said(recording)
    answer = lines[lines.index(WORD) :]
    assert float(answer[1].split()[0]) > past.uptime  # its clock goes on, and its timers with it
    assert answer[2].endswith("/exe")  # what ran then runs
    assert "0" in lines  # the cable is out, as in a clone
    assert past.guest.run("cat /run/planted").stdout == "later\n"  # and the guest itself was not touched


def test_two_replays_are_the_same_run(recording: ExactRecording) -> None:
    for _ in range(2):
        outcome = recording.replay()
        assert not outcome.hung, outcome.why
        assert (outcome.icount, outcome.ram_digest) == (recording.icount, recording.description.ram_digest)
        assert recording.console.endswith(outcome.console)


def test_it_begins_with_the_memory_of_the_moment_to_the_byte(past: Past, recording: ExactRecording) -> None:
    view = past.case.store.view(past.moment.id)
    assert recording.description.capture == past.moment.id
    with recording.begin() as replay, open_memory(replay.qemu) as (memory, reader):
        assert replay.icount == recording.description.begins == 0
        assert "pc.ram" in {block.name for block in memory.blocks}
        for block in memory.blocks:
            found = read_block(reader, block).tobytes()
            assert found == view.region(block.name).open().read(), block.name


def test_a_recording_goes_on_after_it_and_its_instants_are_captures(past: Past, recording: ExactRecording) -> None:
    with past.case.record_exactly(after=recording) as recorder:
        type_and_wait(recorder, "cat /run/planted /root/new", "again")
    after = past.case.exact_recording(recorder.id)
    assert after.replay().ram_digest == after.description.ram_digest
    assert {WORD, "new"} <= set(said(after))
    kept = recording.capture(recording.icount)
    with pytest.raises(UnsupportedError, match="of no guest of libvirt's"):
        past.case.record_exactly(moment=kept)
    assert bytes(kept.open("/root/new").read()) == b"new\n"
    assert "sleep" in set(kept.processes()["name"])


@pytest.mark.parametrize(
    "spec", [DemoSpec("q35", machine="q35", memory_mib=96, network=True), DemoSpec("plain", memory_mib=96)]
)
def test_a_guest_that_is_at_work_when_it_is_captured(tmp_path: Path, demo_image: DemoImage, spec: DemoSpec) -> None:
    """On another machine type; and while it writes, where the disk has something to answer at any time."""
    named = dataclasses.replace(spec, name=f"{spec.name}-{os.getpid()}")
    with DemoGuest.boot(named, image=demo_image) as guest, Case.create(tmp_path / "case", uri=guest.uri) as case:
        guest.run("(while dd if=/dev/urandom of=/root/big bs=64k count=8 conv=fsync; do :; done) >/dev/null 2>&1 &")
        guest.run("echo here >/run/planted")
        with case.record(guest.name) as taken:
            taken.capture()
        with case.record_exactly(moment=case.moment("latest")) as recorder:
            type_and_wait(recorder, "cat /run/planted", "asked")
        found = case.exact_recording(recorder.id)
        assert "here" in said(found)
        assert found.replay().ram_digest == found.description.ram_digest


CARD = "<interface type='user'><model type='e1000'/></interface>"
CD = "<disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>"
PORT = "<serial type='null'><target port='1'/></serial>"
SCREEN = "<video><model type='qxl'/></video>"
SOUND = "<sound model='ich6'/>"


@pytest.mark.parametrize(
    ("spec", "device", "named"),
    [
        (DemoSpec("two", vcpus=2), "", "-smp is in the way: QEMU records and replays one vCPU"),
        (DemoSpec("scsi", disk_bus="scsi"), "", "scsi-hd.* is in the way"),
        (DemoSpec("disks", extra_disks=1), "", "a second disk is in the way"),
        (DemoSpec("kvm"), "", "-accel kvm is in the way"),
        (DemoSpec("firmware"), "", "-machine pflash0=file is in the way"),
        (DemoSpec("card"), CARD, "e1000 is in the way: a network card without filter-replay"),
        (DemoSpec("cd"), CD, "ide-cd is in the way: replays with IDE disks"),
        (DemoSpec("port"), PORT, "isa-serial is in the way"),
        (DemoSpec("screen"), SCREEN, "qxl-vga is in the way: it draws in a thread"),
        (DemoSpec("sound"), SOUND, "intel-hda is in the way"),
    ],
)
def test_what_is_in_the_way_is_named(
    past: Past, demo_image: DemoImage, tmp_path: Path, spec: DemoSpec, device: str, named: str
) -> None:
    """Of what libvirt itself makes of a guest's XML."""
    xml = domain_xml(spec, demo_image, tmp_path)
    if "<video>" in device:
        xml = xml.replace("<video><model type='none'/></video>", "")
    xml = xml.replace("</devices>", f"{device}</devices>")
    native = past.guest.connection.domainXMLToNative("qemu-argv", xml)
    if spec.name == "kvm":  # which this host cannot do, and libvirt therefore does not write
        native = native.replace("-accel tcg", "-accel kvm")
    elif spec.name == "firmware":  # which this host has no files of
        native = native.replace("usb=off,", "usb=off,pflash0=file,")
    with pytest.raises(UnsupportedError, match=named):
        machine_of(native, spec.name, spec.memory_mib)


def test_a_recording_has_one_beginning(past: Past, recording: ExactRecording) -> None:
    for other in ({"after": recording}, {"kernel": Path("vmlinuz")}, {"disk": past.moment}, {"machine": Machine()}):
        with pytest.raises(UsageError, match="one beginning"):
            past.case.record_exactly(moment=past.moment, **other)


def refuse_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have QEMU be given a state with a device that the machine has not."""
    counted = seeding.with_count
    monkeypatch.setattr(seeding, "with_count", lambda stream: counted(stream).replace(b"i6300esb_wdt", b"i6300esb_xxx"))


def kill_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have QEMU killed between memory and devices."""

    def killed(qemu: ExactQemu, *_rest: Any) -> None:
        qemu.process.kill()
        qemu.monitor.execute("query-status")

    monkeypatch.setattr(seeding, "_load_devices", killed)


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        (refuse_devices, GuestError, "QEMU refuses the moment's devices: .*i6300esb_xxx"),
        (kill_qemu, GuestGoneError, "QEMU ended"),
    ],
)
def test_nothing_is_left_where_the_moment_cannot_be_brought_up(
    past: Past, recording: ExactRecording, monkeypatch: pytest.MonkeyPatch, fault: Any, error: Any, told: str
) -> None:
    there = past.case.exact_recordings()["id"].tolist()
    fault(monkeypatch)
    with pytest.raises(error, match=told):
        past.case.record_exactly(moment=past.moment)
    assert sorted(each.name for each in (past.case.path / "recordings").iterdir()) == sorted(there)
    assert not qemus_of(past.case.path / "recordings")
    assert past.guest.run("cat /run/planted").stdout == "later\n"


def test_it_is_one_command(past: Past) -> None:
    words = [sys.executable, "-m", "workbench.cli", "record", "--case", str(past.case.path)]
    words += ["--connect", past.guest.uri, "--from", past.moment.id, "--seconds", "1", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = past.case.exact_recording(json.loads(done.stdout)["id"])
    assert found.description.machine.name == past.guest.name
    assert found.description.capture == past.moment.id
    done = subprocess.run([*words, "--memory", "64"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert "one beginning" in done.stderr
    assert np.all(past.case.exact_recordings()["wrong"] == "")
