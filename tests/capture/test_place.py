"""Where a case may lie, and that one session at a time works on a guest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from truth import nothing_left

from workbench.capture.place import refuse_own_volume
from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.errors import GuestBusyError, StoreBusyError, UsageError


def domain(devices: str) -> str:
    return f"<domain><devices>{devices}</devices></domain>"


def test_a_folder_shared_with_the_guest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared" / "case").mkdir(parents=True)
    xml = domain(f"<filesystem><source dir='{tmp_path}/shared'/></filesystem>")
    with pytest.raises(UsageError, match="shared with the guest"):
        refuse_own_volume(tmp_path / "shared" / "case", xml)
    refuse_own_volume(tmp_path, xml)


@pytest.fixture
def mounted_image(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A disk image, and where its file system is mounted through a loop device."""
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    image, place = tmp_path / "disk.raw", tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(image), "8M"], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    yield image, place
    subprocess.run(["umount", str(place)], check=True)


def test_the_guests_own_disk_is_refused(mounted_image: tuple[Path, Path], tmp_path: Path) -> None:
    image, place = mounted_image
    with pytest.raises(UsageError, match=r"own disk .*disk\.raw"):
        refuse_own_volume(place, domain(f"<disk><source file='{image}'/></disk>"))
    refuse_own_volume(place, domain(f"<disk><source file='{tmp_path}/other.raw'/></disk>"))


def test_a_second_session_on_a_guest_or_a_case_is_refused(guest: DemoGuest, case: Case, tmp_path: Path) -> None:
    with case.record(guest.name), Case.create(tmp_path / "other", uri=guest.uri) as other:
        with pytest.raises(GuestBusyError):
            other.record(guest.name)
        with pytest.raises((GuestBusyError, StoreBusyError)):
            case.record(guest.name)
    with case.record(guest.name) as recording:
        recording.capture("free again")
    assert nothing_left(guest, case)
