"""A recording runs again as it ran: to its end, to any instruction, and on from there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from exactly import AFTER, PLANTED, Linked, qemus_of

from workbench.case import Case, ExactRecording
from workbench.errors import GuestGoneError, UsageError
from workbench.replay.exact.content import ram_digest
from workbench.replay.exact.replaying import HungError


def test_a_recording_replayed_to_its_end_has_the_memory_and_the_console_it_had(work: ExactRecording) -> None:
    outcome = work.replay()
    assert (outcome.icount, outcome.hung) == (work.icount, False)
    assert outcome.ram_digest == work.description.ram_digest
    assert outcome.console == work.console
    assert b"second" in outcome.console


def test_a_recording_goes_on_where_another_ended(boot: ExactRecording, work: ExactRecording) -> None:
    assert boot.description.begins == 0
    assert work.description.begins == boot.icount < work.icount
    assert work.description.parent == boot.id


def test_the_same_instruction_is_the_same_memory_wherever_the_case_lies(boot: ExactRecording, linked: Linked) -> None:
    first, second = boot.replay(100_000_000), linked.open().replay(100_000_000)
    assert first.icount == second.icount == 100_000_000
    assert first.ram_digest == second.ram_digest != boot.description.ram_digest


def test_a_replay_from_a_waypoint_is_the_same_and_a_damaged_one_is_passed_over(boot: ExactRecording) -> None:
    there, on = 100_000_000, 110_000_000
    with boot.begin() as replay:
        replay.to(there)
        kept = replay.keep_waypoint()
        replay.to(on)
        digest = ram_digest(replay.qemu)
    with boot.begin(near=on) as replay:
        assert replay.icount == there
        replay.to(on)
        assert ram_digest(replay.qemu) == digest
    with (kept.place / "state.qcow2").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    with boot.begin(near=on) as replay:
        assert replay.icount == 0


def test_captures_on_the_way_are_moments_like_any_other(case: Case, boot: ExactRecording, work: ExactRecording) -> None:
    with work.begin() as replay:
        earlier = work.capture(replay)
        replay.to(work.icount)
        later = work.capture(replay, "the end")
        assert work.capture(replay).id == later.id
    assert list(case.timeline(guest=work.id)["id"]) == [earlier.id, later.id]
    assert {"init", "sh", "kthreadd"} <= set(later.processes()["name"])
    assert PLANTED not in set(earlier.ls("/root")["path"])
    assert PLANTED in set(later.ls("/root")["path"])
    assert later.read_text(PLANTED) == AFTER
    assert later.facts["exact_icount"] == work.icount


def test_there_is_no_instruction_behind_or_beyond(work: ExactRecording) -> None:
    with pytest.raises(UsageError, match="no such instruction ahead"):
        work.replay(work.icount + 1)
    with pytest.raises(UsageError, match="no such instruction ahead"):
        work.replay(work.description.begins - 1)


def test_a_replay_that_does_not_get_there_in_time_is_a_result(boot: ExactRecording) -> None:
    outcome = boot.replay(timeout=0.2)
    assert outcome.hung
    assert "hung" in outcome.why
    assert 0 <= outcome.icount < boot.icount
    assert outcome.ram_digest == ""
    assert not qemus_of(boot.id)


def test_a_replay_whose_qemu_stands_still_is_hung_and_is_ended(work: ExactRecording) -> None:
    with work.begin(timeout=1.0) as replay:
        os.kill(replay.qemu.pid, signal.SIGSTOP)
        with pytest.raises(HungError, match="hung"):
            replay.to(work.icount)
    assert not replay.run.exists()
    assert not Path(f"/proc/{replay.qemu.pid}").exists()


def test_a_replay_whose_qemu_dies_says_so_and_leaves_nothing(work: ExactRecording) -> None:
    with work.begin() as replay:
        os.kill(replay.qemu.pid, signal.SIGKILL)
        with pytest.raises(GuestGoneError):
            replay.to(work.icount)
    assert not replay.run.exists()
