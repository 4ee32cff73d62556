"""Full disks, failing writes, guests that end or reboot in the middle: the guest runs on, nothing committed is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from truth import assert_equal_to_guest, nothing_left, standing
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import GuestGoneError, StoreError, StoreFullError, WorkbenchError
from workbench.model import CaptureMode

WRITES = (
    "dd if=/dev/urandom of=/root/noise bs=64k count=60 2>/dev/null; dd if=/dev/urandom of=/dev/shm/noise bs=1M count=6"
)


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 250 MB of its own."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "volume"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=250m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """Take what is free of a file system, but for `leave` bytes."""
    free = os.statvfs(place)
    ballast = place / "ballast"
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - leave))
    return ballast


def test_a_full_disk_fails_the_capture_and_nothing_else(guest: DemoGuest, small_volume: Path, tmp_path: Path) -> None:
    with Case.create(small_volume / "case", uri=guest.uri) as case:
        with case.record(guest.name) as recording:
            first = recording.capture("first")
            ballast = fill(small_volume, 200_000)
            guest.run(WRITES)
            for _ in range(2):
                with pytest.raises(StoreFullError, match=r".*") as told:
                    recording.capture("no space")
                assert told.value.cure
                assert case.hypervisor.guest(guest.name).is_running()
            assert [each.id for each in case.moments()] == [first.id]
            ballast.unlink()
            with standing(guest):
                moment = recording.capture("space again")
                assert_equal_to_guest(case, guest, moment, tmp_path)
        assert case.check() == []
        assert nothing_left(guest, case)


def test_a_full_disk_at_the_first_capture(guest: DemoGuest, small_volume: Path, tmp_path: Path) -> None:
    with Case.create(small_volume / "case", uri=guest.uri) as case:
        ballast = fill(small_volume, 3_000_000)
        with case.record(guest.name) as recording:
            with pytest.raises(WorkbenchError):
                recording.capture("no space")
            assert case.hypervisor.guest(guest.name).is_running()
            ballast.unlink()
            with standing(guest):
                assert_equal_to_guest(case, guest, recording.capture("space again"), tmp_path)
        assert nothing_left(guest, case)


@pytest.mark.parametrize("after_puts", [0, 1, 3])
def test_a_write_that_fails_anywhere_in_between_is_made_good_by_the_next_capture(
    guest: DemoGuest, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_puts: int
) -> None:
    from workbench.store import Transaction

    real = Transaction.put
    with case.record(guest.name) as recording:
        recording.capture("first")
        guest.run(WRITES)
        left = [after_puts]

        def put(self: Transaction, *words: object) -> None:
            if left[0] == 0:
                raise StoreError("planted")
            left[0] -= 1
            real(self, *words)  # type: ignore[arg-type]

        monkeypatch.setattr(Transaction, "put", put)
        with pytest.raises(StoreError, match="planted"):
            recording.capture("fails")
        monkeypatch.setattr(Transaction, "put", real)
        with standing(guest):
            assert_equal_to_guest(case, guest, recording.capture("makes good"), tmp_path)
    assert nothing_left(guest, case)


@pytest.mark.parametrize("end", ["destroy", "poweroff", "save"])
def test_a_guest_that_ends_in_the_middle_ends_the_watch_and_loses_nothing(boot_guest, tmp_path: Path, end: str) -> None:
    guest = boot_guest(DemoSpec(f"cap-{end}", memory_mib=128))
    with Case.create(tmp_path / "case", uri=guest.uri) as case:
        recording = case.record(guest.name)
        recording.start(0.2)
        until(lambda: len(list(case.moments())) >= 3)
        if end == "destroy":
            guest.domain.destroy()
        elif end == "save":  # the domain leaves this host's QEMU, as in a migration
            guest.domain.save(str(guest.directory / "saved"))
        else:
            threading.Thread(target=_power_off, args=(guest,)).start()
        recording._thread.join(60)  # type: ignore[union-attr]
        with pytest.raises(GuestGoneError):
            recording.close()
        assert len(list(case.moments())) >= 3
        assert case.check() == []


def _power_off(guest: DemoGuest) -> None:
    with contextlib.suppress(WorkbenchError):
        guest.run("poweroff -f", timeout=60)


@pytest.mark.parametrize("step", ["xen-save-devices-state", "transaction", "cont"])
def test_a_guest_that_ends_inside_a_pause(boot_guest, tmp_path: Path, step: str) -> None:
    guest = boot_guest(DemoSpec("cap-inside", memory_mib=128))
    with Case.create(tmp_path / "case", uri=guest.uri) as case:
        with case.record(guest.name) as recording:
            first = recording.capture("first")
            monitor = recording.session.guest.monitor
            execute = monitor.execute

            def ending(command: str, **words: object) -> object:
                if command == step:
                    guest.domain.destroy()
                return execute(command, **words)  # type: ignore[arg-type]

            monitor.execute = ending  # type: ignore[method-assign]
            with pytest.raises(GuestGoneError):
                recording.capture("ends")
        assert [each.id for each in case.moments()] == [first.id]
        assert case.check() == []


@pytest.mark.parametrize("step", ["stop", "xen-save-devices-state", "transaction"])
def test_a_command_that_qemu_refuses_leaves_the_guest_running(
    guest: DemoGuest, case: Case, tmp_path: Path, step: str
) -> None:
    from workbench.errors import MonitorError

    with case.record(guest.name) as recording:
        recording.capture("first")
        guest.run(WRITES)
        monitor = recording.session.guest.monitor
        execute = monitor.execute

        def refusing(command: str, **words: object) -> object:
            if command == step:
                raise MonitorError("planted", command=command)
            return execute(command, **words)  # type: ignore[arg-type]

        monitor.execute = refusing  # type: ignore[method-assign]
        with pytest.raises(MonitorError, match="planted"):
            recording.capture("refused")
        monitor.execute = execute  # type: ignore[method-assign]
        assert case.hypervisor.guest(guest.name).is_running()
        with standing(guest):
            assert_equal_to_guest(case, guest, recording.capture("next"), tmp_path)
    assert nothing_left(guest, case)


def test_captures_go_on_across_a_reboot(boot_guest, tmp_path: Path) -> None:
    guest = boot_guest(DemoSpec("cap-reboot", memory_mib=128))
    with Case.create(tmp_path / "case", uri=guest.uri) as case, case.record(guest.name, audit=True) as recording:
        recording.capture("before")
        guest.reboot()
        recording.capture("after", mode=CaptureMode.EVENT)
        with standing(guest):
            assert_equal_to_guest(case, guest, recording.capture("while it stands"), tmp_path)
    assert guest.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
