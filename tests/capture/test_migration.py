"""A guest that is migrated live to another host while it is recorded: it runs on there, and nothing of ours goes along.

libvirt lets nobody but itself talk to QEMU's monitor while it migrates (its job mask of a migration allows no change),
so a capture that would begin then waits, and finds the guest gone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from second_host import hand_over, migrate, second_host, supervisor_there
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import GuestGoneError, GuestNotFoundError
from workbench.guest.leftovers import find_leftovers
from workbench.guest.monitor import Monitor

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.getuid() != 0, reason="a second system daemon, and mounting, need root"),
]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[libvirt.virConnect]:
    with second_host(tmp_path_factory.mktemp("host")) as connection:
        yield connection


def processes_of(uuid: str) -> list[str]:
    """The programs, QEMU apart from ours, that work on a guest."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if uuid.encode() in words:
            found.append("qemu" if b"-uuid" in words else "ours")
    return found


def assert_arrived(domain: libvirt.virDomain, place: Path, case: Case) -> None:
    """The guest is well on its new host, alone, with nothing of ours in it; the case is whole, and knows it left."""
    with supervisor_there(place) as inside:
        inside.wait_ready(120)
        assert inside.run("cat /tmp/when").stdout == "before\n"
        assert inside.health().problems == ()
    assert find_leftovers(Monitor(domain, "migrated")) == []
    until(lambda: processes_of(domain.UUIDString()) == ["qemu"], "QEMU alone is left")
    assert case.check() == []
    with pytest.raises(GuestNotFoundError):
        case.hypervisor.guest(domain.UUIDString())


def boot(boot_guest, name: str) -> DemoGuest:
    guest = boot_guest(DemoSpec(name, memory_mib=128))
    guest.run("echo before >/tmp/when")
    return guest


def test_a_migration_between_captures_ends_the_watch(
    boot_guest, there: libvirt.virConnect, tmp_path: Path, public_directory: Path
) -> None:
    """Bitmaps, a tracker and a guard are in place, and captures fall due all the while: none of it is in the way."""
    guest = boot(boot_guest, "mig-watched")
    with Case.create(tmp_path / "case", uri=guest.uri) as case:
        recording = case.record(guest.name)
        between, begun = threading.Event(), threading.Event()

        def listen(_tick: object) -> None:
            """Hold the loop up after a capture: the migration begins outside of a pause."""
            if len(list(case.moments())) >= 3:
                between.set()
                begun.wait(120)

        def watch() -> None:
            with contextlib.suppress(libvirt.libvirtError):  # it is over, and the guest gone
                until(lambda: guest.domain.jobInfo()[3] > 0, "its memory is under way")
            begun.set()

        recording.start(0.3, listen)
        assert between.wait(120)
        watching = threading.Thread(target=watch)
        watching.start()
        domain = migrate(guest, there, public_directory)
        begun.set()
        watching.join()
        assert domain.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED]
        recording._thread.join(120)  # type: ignore[union-attr]
        with pytest.raises(GuestGoneError):
            recording.close()
        assert_arrived(domain, public_directory, case)


def test_a_migration_that_begins_inside_a_pause_brings_the_guest_paused(
    boot_guest, there: libvirt.virConnect, tmp_path: Path, public_directory: Path
) -> None:
    """libvirt asks for the state at the beginning and keeps to it; the `cont` that follows finds the guest gone."""
    guest = boot(boot_guest, "mig-paused")
    with Case.create(tmp_path / "case", uri=guest.uri) as case:
        with case.record(guest.name) as recording:
            first = recording.capture("first")
            with pytest.raises(GuestGoneError), recording.session.pause(limit=120):
                domain = migrate(guest, there, public_directory)
        assert domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
        hand_over(guest, domain)
        domain.resume()
        assert_arrived(domain, public_directory, case)
        assert case.moment("latest").id == first.id
