"""The rewinding process killed at any point: the guard puts the guest right, before or asked, never between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rewinding import assert_healthy, content, ours_in
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.guest.connection import Hypervisor
from workbench.guest.leftovers import find_leftovers
from workbench.timeline.current import current_capture

pytestmark = pytest.mark.guest

# Runs a rewind and dies by SIGKILL when it comes to the place named in its arguments, for the nth time, before or
# after the call.
VICTIM = """
import importlib, os, signal, sys
from workbench.case import Case
path, guest, target, place, name, when, count = sys.argv[1:]
owner = importlib.import_module(place)
for part in name.split(".")[:-1]:
    owner = getattr(owner, part)
last = name.split(".")[-1]
real, left = getattr(owner, last), [int(count)]
def fatal(*words, **named):
    left[0] -= 1
    if left[0] == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*words, **named)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
with Case(path) as case, case.record(guest) as recording:
    plan = case.plan_rewind(target, "production")
    setattr(owner, last, fatal)
    recording.rewind(plan, confirm=guest)
print("survived")
"""
SESSION, APPLY, PLACE = "workbench.capture.session", "workbench.rewind.apply", "workbench.rewind.in_place"
KILLS = {
    "in the pause, before anything was taken": (SESSION, "CaptureSession.take", "before", 2, {"before"}),
    "after the instant was taken": (SESSION, "CaptureSession.take", "after", 2, {"before"}),
    "before the safety capture is committed": (SESSION, "CaptureSession.keep", "before", 2, {"before"}),
    "after the safety capture": (SESSION, "CaptureSession.keep", "after", 2, {"before"}),
    "before the first disk": (APPLY, "write_clusters", "before", 1, {"before"}),
    "between a disk's writes": ("workbench.guest.disks", "_run_io", "after", 2, {"before"}),
    "between two disks": (APPLY, "write_clusters", "after", 1, {"before"}),
    "after the disks": (APPLY, "write_pages", "before", 1, {"before"}),
    "after some memory": (APPLY, "write_pages", "after", 1, {"before"}),
    "before the devices": (APPLY, "load_device_state", "before", 1, {"before"}),
    "with the devices' image in QEMU": ("workbench.guest.monitor", "Monitor.wait_job", "before", 3, {"before"}),
    "after the devices": (APPLY, "load_device_state", "after", 1, {"before"}),
    "before the note": (PLACE, "note_rewind", "before", 1, {"before"}),
    "after the note, before the guest runs": (PLACE, "note_rewind", "after", 1, {"before"}),
    "while the guest runs, before the farewell": ("workbench.capture.guard", "Guard.disarm", "before", 3, {"asked"}),
    "when all is done": (PLACE, "check_io_moves", "before", 1, {"asked"}),
}


@pytest.fixture(scope="module")
def scene(rew_guest: DemoGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Case, str]]:
    """A case with a moment to go to: there, /root/state says "asked"; since then it says "before"."""
    with Case.create(tmp_path_factory.mktemp("kill") / "case") as case:
        rew_guest.run("echo asked >/root/state; sync")
        with case.record(rew_guest.name) as recording:
            there = recording.capture("asked")
        yield case, there.id


def move_on(guest: DemoGuest) -> None:
    guest.run(
        "echo before >/root/state; dd if=/dev/urandom of=/mnt/data1/noise bs=64k count=4 2>/dev/null;"
        " dd if=/dev/urandom of=/root/noise bs=64k count=4 2>/dev/null; sync; echo before >/tmp/state"
    )


def kill_at(case: Case, guest: DemoGuest, target: str, place: str, name: str, when: str, count: int) -> None:
    words = [sys.executable, "-c", VICTIM, str(case.path), guest.name, target, place, name, when, str(count)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def running_and_clean(case: Case, guest: DemoGuest) -> bool:
    with Hypervisor(case.uri) as hypervisor:
        seen = hypervisor.guest(guest.name)
        return seen.is_running() and find_leftovers(seen.monitor) == []


def recorder_is_gone(guest: DemoGuest) -> bool:
    """Whether no guard or recovery of this guest is at work any more."""
    identity = guest.domain.UUIDString().encode()
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if identity in words and b"workbench." in words:
            return False
    return True


def state_of(guest: DemoGuest) -> str:
    """Where the guest is: its disk, and its memory, which must agree."""
    guest.reconnect()
    disk, memory = (guest.run(f"cat {path} 2>/dev/null").stdout.strip() for path in ("/root/state", "/tmp/state"))
    assert (disk, memory or "asked") in (("before", "before"), ("asked", "asked"))
    return disk


@pytest.mark.parametrize("point", KILLS)
def test_a_killed_rewind_ends_before_or_where_it_was_asked(
    scene: tuple[Case, str], rew_guest: DemoGuest, point: str
) -> None:
    case, target = scene
    place, name, when, count, allowed = KILLS[point]
    move_on(rew_guest)
    qemu = case.hypervisor.guest(rew_guest.name).pid
    kill_at(case, rew_guest, target, place, name, when, count)
    until(lambda: recorder_is_gone(rew_guest), "the guard does its work")
    assert running_and_clean(case, rew_guest)
    assert case.hypervisor.guest(rew_guest.name).pid == qemu, "it was restarted, where in place was possible"
    assert state_of(rew_guest) in allowed
    assert_healthy(rew_guest)


def test_killed_at_any_moment(scene: tuple[Case, str], rew_guest: DemoGuest) -> None:
    """Not at places that we thought of, but by the clock."""
    case, target = scene
    program = VICTIM.replace("setattr(owner, last, fatal)", "print('go', flush=True)")
    for delay in (0.05, 0.12, 0.2, 0.28):
        move_on(rew_guest)
        words = [sys.executable, "-c", program, str(case.path), rew_guest.name, target, "os", "getpid", "before", "0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=dict(os.environ)) as victim:
            assert victim.stdout is not None
            assert victim.stdout.readline() == b"go\n"
            time.sleep(delay)
            victim.kill()
        until(lambda: recorder_is_gone(rew_guest), "the guard does its work")
        assert running_and_clean(case, rew_guest)
        assert state_of(rew_guest) in {"before", "asked"}
        assert_healthy(rew_guest)


def test_after_all_that_the_case_is_whole_and_goes_on(scene: tuple[Case, str], rew_guest: DemoGuest) -> None:
    case, target = scene
    assert case.check() == []
    record = case.store.record(case.moment(target).id)
    parent = current_capture(case.store, record.guest)
    with case.record(rew_guest.name) as recording:
        after = recording.capture("after all")
        assert after.record.parent == parent
        assert ours_in(case, rew_guest) == []
        done = recording.rewind(case.plan_rewind(target, "production"), confirm=rew_guest.name)
        assert content(done.target) == content(record)
    assert state_of(rew_guest) == "asked"
