"""The one door: what a notebook or a command line asks of a case, on a guest that says what it did."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from workbench.case import Case, Recording, Rewound, Tick, doctor, running_guests
from workbench.demo import DemoGuest
from workbench.errors import FormatError, GuestNotFoundError, MomentNotFoundError, UsageError
from workbench.model import PAGE, CaptureMode


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that QEMU's user can find its way through."""
    made = Path(tempfile.mkdtemp(prefix="rew-case-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_a_case_is_made_once_and_opened_often(tmp_path: Path) -> None:
    path = tmp_path / "case"
    with Case.open_or_create(path) as made, Case.open_or_create(path) as opened:
        assert opened.store.id == made.store.id
        assert opened.path == path
        assert "empty" in repr(opened)
        assert opened.guests() == []
        assert opened.check() == []
        assert opened.clones() == []
    with pytest.raises(UsageError):
        Case.create(path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(FormatError):
        Case(tmp_path / "other")
    with pytest.raises(FormatError):
        Case.open_or_create(tmp_path / "other")


def test_an_empty_case_says_what_is_missing(tmp_path: Path) -> None:
    with Case.create(tmp_path / "case") as case:
        for ask in (case.guest, case.timeline, case.moment, case.plan_undo, case.marks):
            with pytest.raises(UsageError, match="guest"):
                ask()
        with pytest.raises(UsageError, match="no clone 'x'"):
            case.remove_clone("x")


def test_the_host_is_examined_and_its_guests_listed(guest: DemoGuest) -> None:
    assert doctor(guest.uri)
    assert doctor("qemu+ssh://nowhere.invalid/system")  # a libvirt that is not there is a finding, never an error
    frame = running_guests(guest.uri).set_index("name")
    row = frame.loc[guest.name]
    assert row["memory_mib"] == guest.spec.memory_mib
    assert row["vcpus"] == guest.spec.vcpus
    assert row["state"] == "running"


def test_moments_are_found_read_and_compared(guest: DemoGuest, place: Path) -> None:
    with Case.create(place / "case") as case:
        with pytest.raises(GuestNotFoundError, match="no running guest"):
            case.record("nobody")
        with case.record(guest.name) as recording:
            first = recording.capture("first", mark="clean")
            guest.run("dd if=/dev/urandom of=/root/case-noise bs=64k count=8; sync")
            second = recording.capture("second", mark="alert", mode=CaptureMode.EVENT)
        guest.run("rm /root/case-noise")
        assert case.guest().name == case.guest(guest.name).name == guest.name
        with pytest.raises(UsageError, match="no guest 'x'"):
            case.guest("x")
        assert [each.id for each in case.moments()] == [first.id, second.id]
        assert case.moment().id == case.moment("alert").id == case.moment(second.id[:16]).id == second.id
        assert case.moment("clean").id == case.moment("before:alert").id == first.id
        with pytest.raises(UsageError, match="no moment and no mark"):
            case.moment("never-marked")
        with pytest.raises(MomentNotFoundError):
            case.moment("2001-01-01T00:00:00Z")
        assert {mark.name: mark.kind for mark in case.marks()} == {"clean": "note", "alert": "event"}
        assert list(case.timeline()["id"]) == [first.id, second.id]

        ram = first.regions().set_index("name").loc["pc.ram"]
        assert first.read("pc.ram", ram["bytes"] - 5, 5) == bytes(first.open("pc.ram").read(ram["bytes"])[-5:])
        file = first.open("disk:vda")
        file.seek(1024 + 56)
        assert file.read(2) == b"\x53\xef" == first.read("disk:vda", 1024 + 56, 2)  # the magic of ext4
        assert file.seek(0, io.SEEK_END) == first.regions().set_index("name").loc["disk:vda", "bytes"]
        for region, offset, length in (("nothing", 0, 1), ("pc.ram", -1, 1), ("pc.ram", int(ram["bytes"]), 1)):
            with pytest.raises(UsageError):
                first.read(region, offset, length)

        diff = case.diff(first, second)
        summary = diff.summary().set_index("region")
        assert summary.loc["disk:vda", "blocks"] >= 8
        changed = diff.blocks("pc.ram")
        assert len(changed) == summary.loc["pc.ram", "blocks"] > 0
        for offset in changed["offset"].head(5):
            assert first.read("pc.ram", offset, PAGE) != second.read("pc.ram", offset, PAGE)
        same = sorted(set(range(200)) - set(changed["block"]))[:5]
        for block in same:
            assert first.read("pc.ram", block * PAGE, PAGE) == second.read("pc.ram", block * PAGE, PAGE)
        with pytest.raises(UsageError, match="no region 'x'"):
            diff.blocks("x")
        assert case.diff(first, first).summary()["blocks"].sum() == 0
        assert case.check() == []


def test_a_watch_captures_by_itself_and_on_request(guest: DemoGuest, place: Path) -> None:
    ticks: list[Tick] = []
    with Case.create(place / "case") as case:
        with case.record(guest.name) as recording:
            with pytest.raises(UsageError, match="nothing is being watched"):
                recording.request("too early")
            recording.start(0.4, ticks.append)
            with pytest.raises(UsageError, match="already"):
                recording.start(0.4)
            with pytest.raises(UsageError, match="background"):
                recording.capture("by hand")
            recording.request("something happened", mark="event-1")
            wait_for_captures(case, recording, 3)
            recording.stop()
            assert ticks
            count = len(case.timeline())
            recording.capture("by hand again")
            assert len(case.timeline()) == count + 1
        assert [mark.name for mark in case.marks()] == ["event-1"]
        assert case.moment("event-1").record.reason == "something happened"
        assert case.check() == []


def wait_for_captures(case: Case, recording: Recording, count: int) -> None:
    until(lambda: len(case.store.captures(recording.guest.id)) >= count, f"{count} captures")


def test_a_rewind_and_a_clone_through_the_one_door(guest: DemoGuest, place: Path) -> None:
    with Case.create(place / "case") as case:
        with case.record(guest.name) as recording:
            there = recording.capture("clean")
            guest.run("echo evil >/root/case-evil; sync")
            with pytest.raises(UsageError, match="a test rewind makes a clone"):
                recording.rewind(case.plan_rewind(there), confirm=guest.name)
        assert case.clones() == []
        done = case.rewind(case.plan_rewind(there, "production"), confirm=guest.name)
        assert isinstance(done, Rewound)
        guest.reconnect()
        assert guest.run("ls /root/case-evil").rc != 0
        with case.moment(there.id).clone(run=False) as clone:
            assert clone.guest.name == clone.name
            assert not clone.guest.is_running()
            assert clone.directory.is_dir()
        assert not clone.directory.exists()
        assert guest.health().ok
