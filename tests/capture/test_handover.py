"""What stands between a pause and its end: guards that hang or die, somebody else's `cont`, the session before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from truth import RECORDER, assert_equal_to_guest, nothing_left, standing
from waiting import until

from workbench.capture import guard as guard_module
from workbench.capture.guard import _Watch
from workbench.case import Case, Recording
from workbench.demo import DemoGuest
from workbench.errors import CaptureError, GuestBusyError, GuestGoneError, OutcomeUnknownError, StoreBusyError


def record_when_free(case: Case, guest: DemoGuest) -> Recording:
    def begun() -> Recording | None:
        with contextlib.suppress(GuestBusyError, StoreBusyError):
            return case.record(guest.name)
        return None

    recording = until(begun, "the dead session's claim is given back")
    assert recording is not None
    return recording


def test_the_guard_of_a_killed_session_has_no_hand_in_the_next_one(guest: DemoGuest, case: Case) -> None:
    """It resumes the guest for a while yet, and sweeps: both would ruin a pause of a session that began earlier."""
    words = [sys.executable, str(RECORDER), str(case.path), guest.uri, guest.name, "60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "paused\n"
        process.kill()
    live = case.hypervisor.guest(guest.name)
    with record_when_free(case, guest) as recording:
        ran = 0
        with recording.session.pause():
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                ran += live.is_running()
                time.sleep(0.005)
        assert ran == 0
        recording.capture("whole")
    assert nothing_left(guest, case)


def commands_of(recording: Recording, monkeypatch: pytest.MonkeyPatch, **instead: Any) -> list[str]:
    """Collect what the session tells QEMU; `instead` has functions to call before a command (hyphens written as _)."""
    monitor = recording.session.guest.monitor
    execute, sent = monitor.execute, []

    def listening(command: str, **words: Any) -> Any:
        sent.append(command)
        instead.get(command.replace("-", "_"), lambda: None)()
        return execute(command, **words)

    monkeypatch.setattr(monitor, "execute", listening)
    return sent


def test_a_guard_that_hangs_is_noticed_before_the_guest_is_paused(
    guest: DemoGuest, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    with case.record(guest.name) as recording:
        recording.capture("first")
        guard = recording.session.guard
        guard._process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(guard_module, "_ANSWER_LIMIT", 0.5)
        sent = commands_of(recording, monkeypatch)
        for _ in range(2):
            with pytest.raises(CaptureError, match="no pause without it"):
                recording.capture("second")
        assert "stop" not in sent
        assert guard._process.returncode == -signal.SIGKILL, "it must not wake later and act on a guest of others"
    assert nothing_left(guest, case)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_guard_lost_inside_the_pause_costs_the_capture_and_not_the_guest(
    guest: DemoGuest, case: Case, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Nobody can tell any more whether it resumed the guest in the middle."""
    with case.record(guest.name) as recording:
        first = recording.capture("first")
        monkeypatch.setattr(guard_module, "_ANSWER_LIMIT", 0.5)
        guard = recording.session.guard
        commands_of(recording, monkeypatch, xen_save_devices_state=lambda: guard._process.send_signal(number))
        with pytest.raises(CaptureError, match="guard"):
            recording.capture("second")
        assert case.hypervisor.guest(guest.name).is_running()
    assert [each.id for each in case.moments()] == [first.id]
    assert nothing_left(guest, case)


def test_a_pause_that_outlasted_its_limit_cannot_be_armed_anew(guest: DemoGuest, case: Case, tmp_path: Path) -> None:
    """A rewind arms again after its safety capture: the guest may run by then, and must not be written to."""
    with case.record(guest.name) as recording:
        recording.capture("first")
        session = recording.session
        live = case.hypervisor.guest(guest.name)
        with pytest.raises(CaptureError, match="outlasted its limit"), session.pause(limit=3.0):  # noqa: PT012
            until(live.is_running)
            with pytest.raises(CaptureError, match="outlasted its limit"):
                session.guard.arm(30.0, ["false"])
        with standing(guest):
            assert_equal_to_guest(case, guest, recording.capture("as ever"), tmp_path)
    assert nothing_left(guest, case)


def test_somebody_elses_cont_in_the_middle_of_a_capture_is_noticed(
    guest: DemoGuest, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with case.record(guest.name) as recording:
        first = recording.capture("first")
        guest.run("dd if=/dev/urandom of=/dev/shm/noise bs=1M count=4 2>/dev/null")
        live = case.hypervisor.guest(guest.name)
        with monkeypatch.context() as patch:
            commands_of(recording, patch, xen_save_devices_state=lambda: live.monitor.execute("cont"))
            with pytest.raises(CaptureError, match=r"somebody let .* go on"):
                recording.capture("torn")
            guest.domain.suspend()
            with pytest.raises(CaptureError, match=r"somebody let .* go on"):
                recording.capture("torn, of a guest that somebody else had paused")
        assert live.is_running()
        assert [each.id for each in case.moments()] == [first.id]
        with standing(guest):
            assert_equal_to_guest(case, guest, recording.capture("whole"), tmp_path)
    assert nothing_left(guest, case)


class Stubborn:
    """Stands for a paused guest whose monitor does not answer at first: libvirt cannot be made to."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.running = False
        self.monitor = self
        self.left = False
        self.commands: list[str] = []

    def guest(self) -> Stubborn:
        return self

    def is_running(self) -> bool:
        if self.failures:
            self.failures -= 1
            raise OutcomeUnknownError("planted")
        return self.running

    def let_run(self) -> None:
        if self.left:
            raise GuestGoneError("planted")
        self.execute("cont")

    def execute(self, command: str, **_words: Any) -> Any:
        self.commands.append(command)
        self.running = self.running or command == "cont"
        return []


@contextlib.contextmanager
def watched_by(guest: Stubborn, pid: int) -> Iterator[socket.socket]:
    """Our end of a guard's channel; at the end the guard has ended too."""
    ours, theirs = socket.socketpair()
    claim, pidfd = socket.socket(socket.AF_UNIX), os.pidfd_open(pid)
    with ours, theirs, claim:
        thread = threading.Thread(target=_Watch(theirs, guest, pidfd, claim).run)  # type: ignore[arg-type]
        thread.start()
        yield ours
        ours.shutdown(socket.SHUT_WR)
        thread.join(60)
        assert not thread.is_alive()
    os.close(pidfd)


def test_a_resume_that_fails_at_the_limit_is_tried_again() -> None:
    stubborn = Stubborn(failures=3)
    with watched_by(stubborn, os.getpid()) as ours:
        ours.sendall(b'{"arm": 0.1, "recovery": null}\n')
        until(lambda: stubborn.running)
        ours.sendall(b'{"disarm": true}\n{"bye": true}\n')
        said = ours.makefile("rb")
        for word in (b"ready", b'"armed": true', b'"acted": true'):
            assert word in said.readline()


def test_a_guest_that_was_migrated_away_in_a_pause_is_not_let_run_here_too() -> None:
    """Its images are its new host's; what QEMU says of it then is planted."""
    guest = Stubborn(failures=0)
    guest.left = True
    with watched_by(guest, os.getpid()) as ours:
        ours.sendall(b'{"arm": 0.1, "recovery": null}\n')
        time.sleep(0.5)
        ours.sendall(b'{"disarm": true}\n{"bye": true}\n')
    assert guest.commands == []


@pytest.mark.parametrize(
    ("job", "status", "left"),
    [
        (libvirt.VIR_DOMAIN_JOB_NONE, "postmigrate", False),  # nobody migrates it: QEMU is not asked
        (libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "postmigrate", True),
        (libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "finish-migrate", True),
        (libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "paused", False),  # it failed, or has not begun
    ],
)
def test_a_migration_that_is_over_is_seen_by_what_qemu_says(
    guest: DemoGuest, case: Case, monkeypatch: pytest.MonkeyPatch, job: int, status: str, left: bool
) -> None:
    live = case.hypervisor.guest(guest.name)
    assert not live.has_left()
    monkeypatch.setattr(type(live.domain), "jobInfo", lambda _self: [job, 0, 0, 0])
    monkeypatch.setattr(live.monitor, "execute", lambda _command: {"status": status})
    assert live.has_left() == left
    if left:
        with pytest.raises(GuestGoneError, match="migrated away"):
            live.let_run()


def test_a_stop_that_comes_after_the_limit_is_undone() -> None:
    """A process that hangs between arming and stopping: the guard has acted, on a guest that ran, and looks on."""
    guest = Stubborn(failures=0)
    guest.running = True
    with watched_by(guest, os.getpid()) as ours:
        said = ours.makefile("rb")
        ours.sendall(b'{"arm": 0.1, "recovery": null}\n')
        for word in (b"ready", b'"armed": true'):
            assert word in said.readline()
        time.sleep(0.5)
        guest.running = False
        until(lambda: guest.running, "the guest is resumed")
        ours.sendall(b'{"disarm": true}\n{"bye": true}\n')
        assert b'"acted": true' in said.readline()


def test_a_guard_that_ran_a_recovery_and_gave_the_guest_back_does_nothing_to_it_any_more(tmp_path: Path) -> None:
    """Another session may have begun: what is found in the guest then is that one's, and no leftover."""
    guest, told = Stubborn(failures=0), tmp_path / "told"
    with subprocess.Popen(["sleep", "1000"]) as hung:
        with watched_by(guest, hung.pid) as ours:
            recovery = ["sh", "-c", f"echo done >{told}"]
            ours.sendall(json.dumps({"arm": 0.1, "recovery": recovery}).encode() + b"\n")
            until(told.exists, "the recovery runs")
        assert hung.wait(60) == -signal.SIGKILL
    assert guest.commands == []
