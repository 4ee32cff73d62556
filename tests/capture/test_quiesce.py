"""Captures with the file systems frozen: consistent by themselves, thawed whatever happens, and honest when not."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from agents import freeze_status
from truth import RECORDER
from waiting import until

from workbench.capture.quiesce import Quiesce
from workbench.case import Case, Recording
from workbench.demo import DemoGuest
from workbench.errors import CaptureError, DiskError, UsageError
from workbench.guest.agent import Agent
from workbench.model import CaptureMode

WISH = Quiesce(timeout_s=60.0)
HUNG = Quiesce(timeout_s=3.0)
"""For an agent that will not answer."""
FROZEN = RECORDER.with_name("freezing.py")


@pytest.fixture
def agent(guest: DemoGuest, case: Case) -> Iterator[Agent]:
    """The guest's agent, that thaws and answers before the test and after it."""
    agent = Agent(case.hypervisor.guest(guest.name))
    until(lambda: freeze_status(agent) == "thawed")
    yield agent
    guest.run("killall -CONT qemu-ga")
    until(lambda: freeze_status(agent) == "thawed")
    assert guest.health().ok


@pytest.fixture
def recording(guest: DemoGuest, case: Case, agent: Agent) -> Iterator[Recording]:
    with case.record(guest.name) as begun:
        begun.capture("first")
        yield begun


@contextlib.contextmanager
def hung_agent(guest: DemoGuest) -> Iterator[None]:
    guest.run("killall -STOP qemu-ga")
    try:
        yield
    finally:
        guest.run("killall -CONT qemu-ga")


def quiesced(recording: Recording, wish: Quiesce = WISH, mode: CaptureMode = CaptureMode.MANUAL) -> dict[str, object]:
    return dict(recording.session.capture(mode, "quiesced", quiesce=wish).facts)


def test_what_the_guest_wrote_and_never_synced_is_on_the_disk_of_the_moment(
    guest: DemoGuest, case: Case, recording: Recording
) -> None:
    guest.run("mount -o remount,commit=600 /; sync; echo 'planted, not synced' >/root/unsynced")
    crash = recording.capture("as it is")
    guest.run("mount -o remount,commit=5 /")
    with pytest.raises(DiskError):
        crash.read_text("/root/unsynced", source="disk")
    assert crash.facts["consistency"] == "crash"
    record = recording.session.capture(CaptureMode.MANUAL, "quiesced", quiesce=WISH)
    moment = case.moment(f"id:{record.id}")
    assert moment.read_text("/root/unsynced", source="disk") == "planted, not synced\n"
    assert (moment.facts["consistency"], moment.facts["consistency_why"]) == ("application", "")
    assert moment.facts["frozen_file_systems"] == 1


def test_the_time_it_was_frozen_is_told_and_the_pause_lies_in_it(recording: Recording, agent: Agent) -> None:
    facts = quiesced(recording)
    assert 0 < facts["pause_ns"] < facts["frozen_ns"] < WISH.timeout_s * 1e9
    until(lambda: freeze_status(agent) == "thawed", "it is thawed")


def test_a_session_can_wish_for_all_its_captures_but_not_for_those_of_a_rewind(
    guest: DemoGuest, case: Case, agent: Agent
) -> None:
    with case.record(guest.name) as begun:
        begun.session.quiesce = WISH
        assert begun.capture("by wish").facts["consistency"] == "application"
        assert begun.session.capture(CaptureMode.SAFETY).facts["consistency"] == "crash"


def test_an_agent_that_hangs_costs_its_time_and_the_capture_says_so(
    guest: DemoGuest, recording: Recording, agent: Agent
) -> None:
    with hung_agent(guest):
        facts = quiesced(recording, HUNG)
        assert (facts["consistency"], facts["frozen"], facts["frozen_ns"]) == ("crash", False, None)
        assert "did not answer" in str(facts["consistency_why"])
        again = quiesced(recording, HUNG, mode=CaptureMode.CONTINUOUS)
        assert again["consistency_why"] == "the agent did not answer a short time ago"
        with pytest.raises(CaptureError, match="no application-consistent capture"):
            quiesced(recording, Quiesce(3.0, required=True))
    until(lambda: quiesced(recording)["consistency"] == "application")


def test_a_guest_without_its_agent_is_captured_all_the_same(
    guest: DemoGuest, recording: Recording, agent: Agent
) -> None:
    guest.run("mv /sbin/guest-agent /sbin/guest-agent.away; killall qemu-ga")  # init starts it anew otherwise
    try:
        until(lambda: not agent.connected())
        facts = quiesced(recording)
    finally:
        guest.run("mv /sbin/guest-agent.away /sbin/guest-agent")
    assert (facts["consistency"], facts["frozen"]) == ("crash", False)
    assert "no agent" in str(facts["consistency_why"])


def test_what_somebody_else_froze_stays_frozen_and_the_capture_says_so(
    guest: DemoGuest, recording: Recording, agent: Agent
) -> None:
    guest.domain.fsFreeze()
    try:
        facts = quiesced(recording)
        until(lambda: freeze_status(agent) == "frozen", "it is frozen still")
    finally:
        guest.domain.fsThaw()
    assert (facts["consistency"], facts["frozen"]) == ("crash", True)
    assert "somebody else froze" in str(facts["consistency_why"])


def test_what_somebody_thaws_too_early_is_no_consistent_capture(guest: DemoGuest, recording: Recording) -> None:
    with recording.session._freezer.frozen(WISH) as freeze:
        assert guest.domain.fsThaw() == 1
        freeze.at_the_instant()
    assert "somebody else thawed" in freeze.facts()["consistency_why"]


def test_an_agent_that_dies_while_all_is_frozen_comes_back_and_thaws(
    guest: DemoGuest, recording: Recording, agent: Agent
) -> None:
    with recording.session._freezer.frozen(WISH) as freeze:
        freeze.at_the_instant()
        guest.run("killall -9 qemu-ga")  # init starts it anew
        until(agent.present, "it is there again")
    assert freeze.facts()["consistency"] == "application"
    until(lambda: freeze_status(agent) == "thawed", "it is thawed")


def test_an_agent_that_hangs_while_all_is_frozen_is_asked_until_it_thaws(
    guest: DemoGuest, case: Case, agent: Agent
) -> None:
    with case.record(guest.name) as begun:
        begun.capture("first")
        with begun.session._freezer.frozen(Quiesce(5.0)) as freeze:
            freeze.at_the_instant()
            guest.run("killall -STOP qemu-ga")
        facts = freeze.facts()
        assert (facts["consistency"], facts["frozen"], facts["frozen_ns"]) == ("crash", True, None)
        assert "the guard goes on" in facts["consistency_why"]
        stays = begun.session.guard._process
    with case.record(guest.name) as begun:  # the guard that stays for the thaw is in nobody's way
        begun.capture("meanwhile")
    guest.run("killall -CONT qemu-ga")
    until(lambda: freeze_status(agent) == "thawed", "it is thawed")
    until(lambda: stays.poll() is not None, "the guard that stayed ends")


@contextlib.contextmanager
def freezing(case: Case, guest: DemoGuest, limit: float) -> Iterator[subprocess.Popen[str]]:
    """A process that froze the guest, and sits there."""
    words = [sys.executable, str(FROZEN), str(case.path), guest.uri, guest.name, str(limit)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "frozen\n"
            yield process
        finally:
            process.kill()


def test_a_process_killed_in_the_frozen_time_leaves_a_thawed_guest(guest: DemoGuest, case: Case, agent: Agent) -> None:
    with freezing(case, guest, limit=60) as process:
        until(lambda: freeze_status(agent) == "frozen", "it is frozen")
        process.kill()
        until(lambda: freeze_status(agent) == "thawed", "the guard thaws")


def test_a_process_that_hangs_does_not_hold_it_frozen_beyond_the_limit(
    guest: DemoGuest, case: Case, agent: Agent
) -> None:
    with freezing(case, guest, limit=10) as process:
        until(lambda: freeze_status(agent) == "thawed", "the guard thaws at the limit of 10 s")
        assert process.poll() is None
        assert process.stdin is not None
        said, _ = process.communicate("go on\n", timeout=120)
    assert "the guard thawed it" in said


@pytest.mark.parametrize("seconds", [0, -1, 61, float("nan"), float("inf")])
def test_a_time_that_cannot_be_meant_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError):
        Quiesce(seconds)
