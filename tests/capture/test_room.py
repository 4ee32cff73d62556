"""Room for the clusters of a disk while they are copied: without it the guest is left alone, or let go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from truth import assert_equal_to_guest, nothing_left, standing
from waiting import until

from workbench.capture import session as session_module
from workbench.capture.session import CaptureSession
from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.errors import StoreFullError
from workbench.guest import disks
from workbench.model import CaptureMode

BIG = "/root/big"
OVERWRITE = f"dd if=/dev/urandom of={BIG} bs=64k count=300 conv=notrunc oflag=direct 2>/dev/null"


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a few captures."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "volume"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def written(guest: DemoGuest, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoGuest]:
    """The guest with a file of 19 MiB, whose clusters are spooled to the case instead of to memory."""
    monkeypatch.setattr(session_module, "_MEMFD_LIMIT", 1 << 20)
    guest.run(f"dd if=/dev/urandom of={BIG} bs=64k count=300 2>/dev/null; sync")
    yield guest
    guest.run(f"rm {BIG}; sync")


def leave(place: Path, free: int) -> Path:
    """Take what is free of a file system, but for `free` bytes."""
    ballast, found = place / "ballast", os.statvfs(place)
    ballast.write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - free)))
    return ballast


def test_without_room_for_the_copy_the_guest_is_not_even_paused(
    written: DemoGuest, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Case.create(volume / "case", uri=written.uri) as case, case.record(written.name) as recording:
        recording.capture("first")
        written.run(f"{OVERWRITE}; sync")
        ballast = leave(volume, 12 << 20)
        monitor, sent = recording.session.guest.monitor, []
        execute = monitor.execute

        def listening(command: str, **words: Any) -> Any:
            sent.append(command)
            return execute(command, **words)

        monkeypatch.setattr(monitor, "execute", listening)
        for _ in range(2):
            with pytest.raises(StoreFullError, match="make room for the clusters of vda"):
                recording.capture("no room")
        assert "query-block" in sent
        assert "stop" not in sent
        ballast.unlink()
        with standing(written):
            assert_equal_to_guest(case, written, recording.capture("room again"), tmp_path)
        assert case.check() == []
    assert nothing_left(written, case)


def capture_too_much(session: CaptureSession) -> None:
    """A capture that waits, before it keeps what it took, until the guest's writes have filled the copy."""
    with session.prepare() as prepared:
        with session.pause() as laps:
            taken = session.take(prepared, laps)
        monitor = session.guest.monitor
        until(
            lambda: monitor.execute("query-status")["status"] == "io-error", "the copy fails under the guest's writes"
        )
        session.keep(prepared, taken, CaptureMode.MANUAL, "too little")


def test_a_guest_whose_writes_a_full_copy_broke_runs_on_and_has_lost_none(
    written: DemoGuest, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was reserved was too little, as for a compressed image: QEMU stops the guest at its next write.

    The job is slowed down, so that it is a write of the guest that finds the copy full.
    """
    real = disks.BackupTarget.actions

    def slowed(self: disks.BackupTarget) -> list[dict[str, Any]]:
        actions = real(self)
        actions[-1]["data"]["speed"] = 1 << 16
        return actions

    with Case.create(volume / "case", uri=written.uri) as case, case.record(written.name) as recording:
        session = recording.session
        recording.capture("first")
        written.run(f"{OVERWRITE}; sync")
        monkeypatch.setattr(disks.os, "posix_fallocate", lambda *_words: None)
        monkeypatch.setattr(disks.BackupTarget, "actions", slowed)
        leave(volume, 6 << 20)
        loop = f"until test -e /run/enough; do {OVERWRITE} || touch /run/lost; done"
        written.run(f"({loop}) >/dev/null 2>&1 & echo $! >/run/writer")
        session.begin()
        with pytest.raises(StoreFullError):
            capture_too_much(session)
        assert session.guest.is_running()
        (volume / "ballast").unlink()
        monkeypatch.undo()
        ended = "while kill -0 $(cat /run/writer) 2>/dev/null; do usleep 100000; done"
        written.run(f"touch /run/enough; {ended}", timeout=240)
        assert written.run("ls /run/lost 2>/dev/null; rm -f /run/enough").stdout.strip() == ""
        with standing(written):
            assert_equal_to_guest(case, written, recording.capture("room again"), tmp_path)
    assert nothing_left(written, case)
    assert written.health().ok
