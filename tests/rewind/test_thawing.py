"""A moment captured with frozen file systems comes up frozen: what is made of it is thawed, or says that it is not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import freeze_status
from rewinding import assert_disk_sound, assert_healthy, supervisor_of
from test_kill import VICTIM
from waiting import until

from workbench.capture.quiesce import Quiesce
from workbench.case import Case, Clone, Moment, Recording, Rewound
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import RewindError
from workbench.guest.agent import Agent
from workbench.model import CaptureMode
from workbench.rewind import thawing
from workbench.rewind.restart import rewind_by_restart

pytestmark = pytest.mark.guest

WISH = Quiesce(timeout_s=20.0)


@pytest.fixture(scope="module")
def guest(demo_image: DemoImage) -> Iterator[DemoGuest]:
    """A small guest with an agent, left running and thawed by every test."""
    with DemoGuest.boot(DemoSpec(f"thaw-{os.getpid()}", memory_mib=128, agent=True), image=demo_image) as running:
        yield running


@pytest.fixture
def recording(guest: DemoGuest, case: Case) -> Iterator[Recording]:
    until(Agent(case.hypervisor.guest(guest.name)).present, "the agent is up")
    with case.record(guest.name) as begun:
        yield begun


def frozen_moment(case: Case, recording: Recording) -> Moment:
    record = recording.session.capture(CaptureMode.MANUAL, "frozen", quiesce=WISH)
    assert (record.facts["consistency"], record.facts["frozen"]) == ("application", True)
    return case.moment(f"id:{record.id}")


def assert_healthy_clone(clone: Clone, guest: DemoGuest) -> None:
    with contextlib.closing(supervisor_of(clone, guest)) as supervisor:
        assert_healthy(supervisor)


def writes(guest: DemoGuest) -> bool:
    return guest.run("echo written >/root/after && sync", timeout=60).rc == 0


def test_a_clone_is_thawed_and_writes(guest: DemoGuest, case: Case, recording: Recording, tmp_path: Path) -> None:
    moment = frozen_moment(case, recording)
    assert_disk_sound(case, case.store.record(moment.id), "disk:vda", tmp_path)
    with moment.clone() as clone:
        assert clone.record.thaw == "thawed"
        assert_healthy_clone(clone, guest)
        assert [each.record.thaw for each in case.clones()] == ["thawed"]


def test_a_clone_that_stands_is_thawed_when_it_goes_on(guest: DemoGuest, case: Case, recording: Recording) -> None:
    with frozen_moment(case, recording).clone(run=False) as clone:
        assert clone.record.thaw == "not yet: it stands still"
        clone.resume()
        assert clone.record.thaw == "thawed"
        assert_healthy_clone(clone, guest)


def test_a_clone_that_is_advanced_is_thawed_first(guest: DemoGuest, case: Case, recording: Recording) -> None:
    with frozen_moment(case, recording).clone(run=False) as clone:
        clone.advance(0.2)
        assert (clone.record.thaw, clone.running) == ("thawed", False)
        clone.resume()
        assert_healthy_clone(clone, guest)


KILLED = """
import os, signal, sys
from workbench.case import Case
from workbench.rewind import clone
clone.thaw_moment = lambda *_words: os.kill(os.getpid(), signal.SIGKILL)
with Case(sys.argv[1]) as case:
    case.moment("id:" + sys.argv[2]).clone()
"""


def test_a_clone_whose_maker_was_killed_before_it_was_thawed_says_so_and_is_thawed_by_the_next_command(
    case: Case, recording: Recording
) -> None:
    moment = frozen_moment(case, recording)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(case.path), moment.id], check=False)
    assert killed.returncode == -signal.SIGKILL
    (clone,) = case.clones()
    with clone:
        assert (clone.running, clone.record.thaw) == (True, "not yet: it stands still")
        assert clone.run("echo written >/root/after && sync; cat /root/after", how="agent").text == "written\n"
        assert [each.record.thaw for each in case.clones()] == ["thawed"]


def test_a_guest_rewound_in_place_is_thawed_and_writes(guest: DemoGuest, case: Case, recording: Recording) -> None:
    moment = frozen_moment(case, recording)
    guest.run("echo later >/root/later; sync")
    done = recording.rewind(case.plan_rewind(moment, "production"), confirm=guest.name)
    assert (done.how, done.thaw) == ("in place", "thawed")
    assert_healthy(guest)
    assert guest.run("cat /root/later").rc == 1
    assert writes(guest)
    back = recording.rewind(case.plan_undo(guest.name), confirm=guest.name)
    assert (back.thaw, back.target.facts["consistency"]) == ("", "crash")
    assert_healthy(guest)


def test_a_guest_that_somebody_holds_is_told_to_be_frozen_when_it_goes_on(
    guest: DemoGuest, case: Case, recording: Recording
) -> None:
    moment = frozen_moment(case, recording)
    guest.domain.suspend()
    done = recording.rewind(case.plan_rewind(moment, "production"), confirm=guest.name)
    assert done.thaw == "not yet: it stands still"
    guest.domain.resume()
    until(lambda: thawing.thaw_moment(recording.session.guest, done.target), "thawed by whoever held it")
    assert_healthy(guest)


def test_a_guest_whose_agent_hung_in_the_moment_is_rewound_and_said_to_be_frozen(
    guest: DemoGuest, case: Case, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = recording.session
    session.begin()
    with session._freezer.frozen(WISH) as freeze, session.prepare() as prepared:
        guest.run("killall -STOP qemu-ga")
        with session.pause() as laps:
            taken = session.take(prepared, laps)
        guest.run("killall -CONT qemu-ga")
        record = session.keep(prepared, taken, CaptureMode.MANUAL, "hung", {"frozen": freeze.maybe_frozen})
    monkeypatch.setattr(thawing, "_LIMIT", 2.0)
    with pytest.raises(RewindError, match="frozen still") as raised:
        recording.rewind(case.plan_rewind(f"id:{record.id}", "production"), confirm=guest.name)
    assert raised.value.guest_is == "as asked"
    guest.reconnect()
    guest.run("killall -CONT qemu-ga")
    agent = Agent(session.guest)
    until(lambda: freeze_status(agent) == "thawed", "the guard thawed it")
    assert_healthy(guest)


def test_a_rewind_killed_before_it_thawed_is_thawed_by_the_guard(
    guest: DemoGuest, case: Case, recording: Recording
) -> None:
    moment = frozen_moment(case, recording)
    recording.close()
    place = ["workbench.rewind.thawing", "thaw_moment", "before", "1"]
    words = [sys.executable, "-c", VICTIM, str(case.path), guest.name, f"id:{moment.id}", *place]
    dead = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert dead.returncode == -9, dead.stdout + dead.stderr
    agent = Agent(case.hypervisor.guest(guest.name))
    until(lambda: freeze_status(agent) == "thawed", "the guard thawed it")
    assert_healthy(guest)


def test_a_restarted_guest_is_thawed_and_writes(guest: DemoGuest, case: Case, recording: Recording) -> None:
    moment = frozen_moment(case, recording)
    guest.run("echo later >/root/restarted; sync")
    done = rewind_by_restart(recording.session, moment.id)
    assert isinstance(done, Rewound)
    assert (done.how, done.thaw) == ("restarted", "thawed")
    assert_healthy(guest)
    assert guest.run("cat /root/restarted").rc == 1
    assert writes(guest)
