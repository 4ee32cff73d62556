"""The guard: no pause without it, no pause that outlasts its limit, nobody else's pause ended."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from truth import RECORDER, nothing_left, standing
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.errors import CaptureError, GuestBusyError
from workbench.guest.claim import Claim
from workbench.guest.leftovers import sweep


def test_without_its_guard_nothing_is_paused(guest: DemoGuest, case: Case) -> None:
    with case.record(guest.name) as recording:
        recording.capture("first")
        recording.session.guard._process.kill()
        recording.session.guard._process.wait()
        live = case.hypervisor.guest(guest.name)
        stops = []
        execute = recording.session.guest.monitor.execute
        recording.session.guest.monitor.execute = (  # type: ignore[method-assign]
            lambda command, **words: stops.append(command) or execute(command, **words)
        )
        with pytest.raises(CaptureError, match="guard"):
            recording.capture("second")
        assert "stop" not in stops
        assert live.is_running()
    assert nothing_left(guest, case)


@contextlib.contextmanager
def hanging(case: Case, guest: DemoGuest, seconds: float, *recovery: str) -> Iterator[subprocess.Popen[str]]:
    """A process that stands still in the middle of a pause whose limit is 3 s."""
    words = [sys.executable, str(RECORDER), str(case.path), guest.uri, guest.name, str(seconds), *recovery]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "paused\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_hung_process_does_not_hold_the_guest_and_its_capture_is_dropped(guest: DemoGuest, case: Case) -> None:
    live = case.hypervisor.guest(guest.name)
    with hanging(case, guest, 8) as process:
        assert not live.is_running()
        process.send_signal(signal.SIGSTOP)
        until(live.is_running, "the guard resumes the guest at the limit of 3 s")
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=120)
    assert said.startswith("dropped: the pause outlasted its limit")
    until(lambda: nothing_left(guest, case))


def test_a_process_hung_in_a_rewind_is_killed_before_the_recovery_runs(
    guest: DemoGuest, case: Case, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    script = f"open({str(told)!r}, 'w').write('recovery')"
    with hanging(case, guest, 60, sys.executable, "-c", script) as process:
        until(lambda: process.poll() is not None, "the hung process is killed")
    assert process.returncode == -signal.SIGKILL
    until(told.exists, "the recovery runs")
    live = case.hypervisor.guest(guest.name)
    assert not live.is_running(), "a guest that a rewind left half way is resumed by its recovery alone"
    live.monitor.execute("cont")
    # The next session sweeps what the killed one left.
    until(lambda: not claimed(live.id), "the guard gives the claim back")
    with case.record(guest.name) as recording:
        recording.capture("after")
    assert nothing_left(guest, case)


def test_a_recovery_that_fails_is_run_again_and_nobody_begins_before_it(
    guest: DemoGuest, case: Case, tmp_path: Path
) -> None:
    told, live = tmp_path / "told", case.hypervisor.guest(guest.name)
    go = tmp_path / "go"
    script = f"import os; open({str(told)!r}, 'a').write('tried '); raise SystemExit(not os.path.exists({str(go)!r}))"
    with hanging(case, guest, 60, sys.executable, "-c", script) as process:
        until(told.exists, "the recovery runs")
        with pytest.raises(GuestBusyError):
            Claim(live.id, guest.name)
        go.touch()
        until(lambda: told.read_text().count("tried") >= 2, "the recovery runs again")
        process.wait()
    live.monitor.execute("cont")
    until(lambda: not claimed(live.id), "the guard gives the claim back")
    sweep(live.monitor)
    assert nothing_left(guest, case)


def claimed(uuid: str) -> bool:
    try:
        Claim(uuid, uuid).close()
    except GuestBusyError:
        return True
    return False


def test_somebody_elses_pause_is_left_alone(guest: DemoGuest, case: Case) -> None:
    with case.record(guest.name) as recording, standing(guest):
        moment = recording.capture("while it stands")
        live = case.hypervisor.guest(guest.name)
        assert not live.is_running()
        assert moment.facts["pause_ns"] == 0 or "stop" not in moment.facts["pause_parts_ns"]
    assert nothing_left(guest, case)
