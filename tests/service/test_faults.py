"""Faults under the service as its users have it: whatever dies, fills up, hangs or is set, it goes on by itself.

One guest and one service for all, on a libvirt daemon of their own and a small volume; each test leaves all well.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from faulty import Faulty, clean, small_volume
from own_daemon import OwnDaemon, own_daemon
from stepped_clock import SteppedClock
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import GuestBusyError, GuestGoneError, HypervisorLostError
from workbench.guest.claim import Claim
from workbench.guest.orphan import resume_orphan
from workbench.guest.process import find_qemu
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


def test_a_guest_whose_libvirt_dies_in_a_pause_goes_on_without_it_and_is_swept_by_the_next_daemon(
    daemon: OwnDaemon, kept: DemoGuest, tmp_path: Path
) -> None:
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
    assert kept.run("echo alone").stdout == "alone\n"
    daemon.start()
    clean(daemon.uri, kept.domain.UUIDString())
    assert kept.run("echo well").stdout == "well\n"


def test_a_guest_is_resumed_without_libvirt_only_where_libvirt_is_gone_and_it_stands_in_a_pause(
    daemon: OwnDaemon, kept: DemoGuest
) -> None:
    uuid = kept.domain.UUIDString()
    connect_again(kept)
    kept.domain.suspend()
    with pytest.raises(HypervisorLostError, match="does not answer"):
        resume_orphan(uuid)  # a daemon has the monitor
    assert kept.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    daemon.kill()
    resume_orphan(uuid)
    resume_orphan(uuid)  # it runs: nothing is done, and the socket is free again
    assert kept.run("echo alone").stdout == "alone\n"
    daemon.start()
    connect_again(kept)
    until(lambda: kept.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)  # a new daemon asks its guests one by one
    with pytest.raises(GuestGoneError):
        resume_orphan(str(uuid4()))


def test_a_guard_waits_for_no_libvirt_where_the_guest_ended_too(
    daemon: OwnDaemon, demo_image: DemoImage, tmp_path: Path, public_directory: Path
) -> None:
    spec = DemoSpec(f"both-{os.getpid()}", memory_mib=128)
    guest = DemoGuest.boot(spec, daemon.uri, public_directory / "guest", image=demo_image)
    uuid, pid = guest.domain.UUIDString(), find_qemu(guest.domain.UUIDString(), guest.name)
    with Case.create(tmp_path / "case", uri=daemon.uri) as case:
        recording = case.record(guest.name)
        with pytest.raises(HypervisorLostError), recording, recording.session.pause():
            daemon.kill()
    with pytest.raises(GuestBusyError):
        Claim(uuid, guest.name)  # the guard has it, and waits
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_free(uuid))
    guest.supervisor.close()
    daemon.start()


def is_free(uuid: str) -> bool:
    with contextlib.suppress(GuestBusyError):
        Claim(uuid, uuid).close()
        return True
    return False


def test_a_session_that_loses_libvirt_in_a_pause_leaves_the_guest_to_its_guard(
    daemon: OwnDaemon, kept: DemoGuest, tmp_path: Path
) -> None:
    """The session ends in order, and says farewell to the guard, though it could not end its pause."""
    connect_again(kept)
    with Case.create(tmp_path / "case", uri=daemon.uri) as case:
        recording = case.record(kept.name)
        with pytest.raises(HypervisorLostError), recording, recording.session.pause():
            daemon.kill()
    assert kept.run("echo alone").stdout == "alone\n"
    daemon.start()
    clean(daemon.uri, kept.domain.UUIDString())
    connect_again(kept)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> SteppedClock:
    return SteppedClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def service(
    daemon: OwnDaemon, kept: DemoGuest, clock: SteppedClock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Faulty]:
    place = tmp_path_factory.mktemp("service")
    with small_volume(place / "volume") as volume:
        made = Faulty(place, volume, daemon.uri, kept.name, clock.environment)
        answer = made.client.post("/capture-config", json={"guest": kept.name, "interval_s": 1})
        assert answer.status_code == 200, answer.text
        until(lambda: made.status()["captures"] >= 2)
        yield made
        made.end()
        made.clean(kept.domain.UUIDString())


def stored(records: list[Any]) -> list[int]:
    return [int(each.facts["stored_bytes"]) for each in records]


def test_libvirt_is_killed_and_started_again_and_the_series_goes_on(
    daemon: OwnDaemon, service: Faulty, kept: DemoGuest
) -> None:
    before = service.recorder()
    daemon.kill()

    def lost() -> bool:
        told = service.status()
        return told["health"] == "trouble" and ("libvirt" in told["why"] or "connect" in told["why"])

    until(lost, "the loss is said")
    assert service.status()["last_error"]
    assert kept.run("echo alone").stdout == "alone\n"
    daemon.start()
    connect_again(kept)
    service.until_status(health="well")
    service.captures()
    assert service.recorder() != before
    service.whole()


def test_a_recorder_that_hangs_is_told_of_and_replaced(service: Faulty, kept: DemoGuest) -> None:
    hung, failures = service.recorder(), service.status()["failures"]
    os.kill(hung, signal.SIGSTOP)
    told = service.until_status(state="silent")
    assert told["health"] == "behind"
    assert "has said nothing for" in told["why"]
    until(lambda: not Path(f"/proc/{hung}").exists())
    until(lambda: (told := service.status())["failures"] > failures and "hung" in told["last_error"], "it is told")
    service.until_status(health="well")
    assert service.recorder() != hung
    service.captures()
    service.whole()


def test_a_qemu_that_is_killed_is_told_of_and_its_series_goes_on_when_it_is_started_again(
    service: Faulty, kept: DemoGuest
) -> None:
    kept.connection.defineXML(kept.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    try:
        last = service.captures()["last_capture"]
        os.kill(find_qemu(kept.domain.UUIDString(), kept.name), signal.SIGKILL)
        told = service.until_status(state="waiting", why="the guest does not run: its QEMU crashed or was killed")
        assert told["health"] == "waiting"
        kept.domain.create()
        kept.reconnect()
        service.until_status(health="well")
        service.captures()
    finally:
        kept.domain.undefine()
    assert last in {each.id for each in service.records()}
    service.whole()


def test_a_clock_that_is_set_back_puts_no_capture_among_the_old(service: Faulty, clock: SteppedClock) -> None:
    first = service.captures()
    clock.step(-3_600)

    def told_of_it() -> dict[str, Any] | None:
        found = service.status()
        return found if found["health"] == "degraded" and "clock was set back" in found["why"] else None

    told = until(told_of_it, "that the clock was set back is said")
    assert told is not None
    assert told["interval_held_s"] == 1
    assert told["age_s"] < 60
    assert 3_500 < told["clock_ahead_s"] <= 3_600
    assert told["last_capture_ns"] > first["last_capture_ns"]
    last = service.captures()
    assert last["clock_ahead_s"] < told["clock_ahead_s"]  # the wall clock catches up
    assert last["rpo_achieved_s"] < 600
    with Case(service.path) as case:
        assert case.moment("latest").record.time_ns >= last["last_capture_ns"]
    os.kill(service.recorder(), signal.SIGKILL)  # the next one must find the newest, too
    service.captures()
    clock.step(0)
    service.until_status(health="well", clock_ahead_s=0)
    clock.step(60)  # for good: it is followed at once
    service.captures()
    told = service.until_status(health="well", clock_ahead_s=0)
    assert told["age_s"] < 30
    service.whole()


def test_a_guest_that_sets_its_own_clock_changes_nothing(service: Faulty, kept: DemoGuest) -> None:
    kept.run("date -s 2031-05-05")
    told = service.captures()
    kept.run("date -s 2001-05-05")
    told = service.captures()
    assert "guest" not in told["why"]
    service.whole()


def test_a_volume_that_is_full_fails_captures_in_words_and_nothing_else(service: Faulty, kept: DemoGuest) -> None:
    def fill() -> None:
        with contextlib.suppress(OSError), (service.path.parent / "ballast").open("ab") as file:
            while True:
                file.write(bytes(1 << 20))
                file.flush()

    fill()
    kept.run("dd if=/dev/urandom of=/dev/shm/noise bs=1M count=8")

    def full() -> Any:
        fill()
        told = service.status()
        return told if told["health"] == "trouble" else None

    told = until(full)
    assert "space" in told["last_error"], told
    assert told["free_bytes"] < 8 << 20
    line = f'workbench_health{{guest="{kept.name}",health="trouble"}} 1.0'
    until(lambda: full() and line in service.client.get("/metrics").text, line)
    assert kept.run("echo runs").stdout == "runs\n"
    with Case(service.path) as case:
        assert case.check() == []
    (service.path.parent / "ballast").unlink()
    service.until_status(health="well")
    service.captures()
    service.whole()


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_service_killed_with_its_recorder_leaves_a_clean_guest_and_goes_on_with_the_series(
    service: Faulty, kept: DemoGuest, seconds: float
) -> None:
    service.captures()
    time.sleep(seconds)  # wherever in a capture that is
    service.kill()
    service.clean(kept.domain.UUIDString())
    known = len(service.records())
    service.start()
    service.captures()
    records = service.records()
    baseline, after = stored(records)[0], stored(records)[known:]
    assert max(after) < baseline / 2  # a comparing pass, not all of it anew
    service.whole()


def safety_captures(service: Faulty) -> list[str]:
    return [each.reason for each in service.records() if each.reason.startswith("before the rewind to")]


def stands(guest: DemoGuest) -> bool:
    return bool(guest.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED)


MOMENTS = {
    "as soon as it was asked for": lambda service, kept, known: True,
    "in a pause": lambda service, kept, known: stands(kept),
    "after its safety capture": lambda service, kept, known: len(safety_captures(service)) > known,
}


def audited(service: Faulty, job: str) -> list[dict[str, Any]]:
    """The lines of the audit log on a job."""
    return [line for line in service.client.get("/audit").json()["lines"] if line["facts"].get("job") == job]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_service_killed_during_a_rewind_settles_it_done_or_undone_and_says_which(
    service: Faulty, kept: DemoGuest, moment: str
) -> None:
    kept.run("rm -f /root/later; sync")
    mark = f"here-{len(service.records())}"
    made = service.client.post("/captures", json={"guest": kept.name, "reason": "x", "mark": mark}).json()
    kept.run("echo later > /root/later; sync")
    known, uuid = len(safety_captures(service)), kept.domain.UUIDString()
    asked = {"guest": kept.name, "target": mark, "mode": "production", "confirm": kept.name}
    job = service.client.post("/rewind", json=asked).json()["job"]["id"]
    until(lambda: MOMENTS[moment](service, kept, known), moment)
    service.kill()
    service.start()

    lines = until(lambda: found if len(found := audited(service, job)) > 1 else None, "how it ended is in the log")
    connect_again(kept)
    kept.reconnect()
    there = kept.run("ls /root/later").rc == 0
    if lines[1]["result"] == "done":  # it was quicker than the kill, and the next service knows nothing of it
        assert not there
        service.captures()
        return
    told = service.client.get(f"/jobs/{job}").json()["job"]
    assert told["state"] == "failed"
    assert told["error"]["kind"] == "RewindError"
    assert ("(the guest is as before)" if there else "(the guest is as asked)") in told["error"]["message"]
    assert told["error"]["cure"]
    assert [line["result"] for line in lines] == ["asked", "failed"]
    assert lines[1]["facts"]["told"] == told["error"]["message"]
    assert service.client.get("/audit").json()["damage"] == []

    service.captures()
    records = {each.id: each for each in service.records()}
    assert sum(each.parent is None for each in records.values()) == 1
    assert made["capture"] in records
    with Case(service.path) as case:
        assert case.check() == []
    assert kept.health().ok
    assert kept.domain.UUIDString() == uuid
