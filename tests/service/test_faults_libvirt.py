"""libvirt's daemon killed under a guest that is recorded: the guest runs, and captures go on by themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import libvirt
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from conftest import until
from own_daemon import OwnDaemon, own_daemon

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import HypervisorLostError
from workbench.guest.leftovers import find_leftovers
from workbench.guest.reach import Reach

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a daemon of one's own needs root")]
RECORDER = Path(__file__).parents[1] / "capture" / "recorder.py"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnDaemon]:
    with own_daemon(tmp_path_factory.mktemp("daemon")) as made:
        yield made


@pytest.fixture(scope="module")
def kept(daemon: OwnDaemon, demo_image: DemoImage) -> Iterator[DemoGuest]:
    with DemoGuest.boot(DemoSpec(f"lost-{os.getpid()}", memory_mib=128), daemon.uri, image=demo_image) as guest:
        yield guest
        connect_again(guest)


def connect_again(guest: DemoGuest) -> None:
    """Give the demo guest a connection to the present daemon."""
    guest.connection = libvirt.open(guest.uri)
    guest.domain = guest.connection.lookupByName(guest.name)


def test_a_guest_whose_libvirt_dies_in_a_pause_goes_on_with_the_next_daemon(
    daemon: OwnDaemon, kept: DemoGuest, tmp_path: Path
) -> None:
    """The recorder hangs in a pause, and its guard cannot reach anybody at the limit of 1 s: it does not leave off."""
    with Case.create(tmp_path / "case", uri=daemon.uri):
        pass
    words = [sys.executable, str(RECORDER), str(tmp_path / "case"), daemon.uri, kept.name, "60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"paused\n"
            daemon.kill()
        finally:
            process.kill()
    with pytest.raises(HypervisorLostError):
        Reach(daemon.uri, kept.domain.UUIDString())
    daemon.start()
    with closing(Reach(daemon.uri, kept.domain.UUIDString())) as reach:
        until(lambda: reach.guest().is_running())
        until(lambda: find_leftovers(reach.guest().monitor) == [])
    assert kept.run("echo well").stdout == "well\n"
