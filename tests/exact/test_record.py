"""A recording is whole or not there; its QEMU lives no longer than it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from exactly import qemus_of, stop_at_handler

from workbench.case import Case, ExactRecording, Machine
from workbench.demo import DemoImage
from workbench.errors import GuestGoneError, OutcomeUnknownError
from workbench.replay.exact.states import sleeps_on_ns

SMALL = Machine(memory_mib=96)


@pytest.fixture
def empty(tmp_path: Path) -> Case:
    return Case.create(tmp_path / "case")


def nothing_is_left(case: Case) -> bool:
    return not list((case.path / "recordings").iterdir()) and not qemus_of(case.path)


def test_nothing_is_kept_when_qemu_dies_while_it_records(empty: Case, demo_image: DemoImage) -> None:
    recorder = empty.record_exactly(SMALL, kernel=demo_image.kernel)
    os.kill(recorder.qemu.pid, signal.SIGKILL)
    with pytest.raises(GuestGoneError), recorder:
        recorder.run(60)
    assert nothing_is_left(empty)


def test_nothing_is_kept_of_a_recording_that_was_given_up(empty: Case, demo_image: DemoImage) -> None:
    recorder = empty.record_exactly(SMALL, kernel=demo_image.kernel)
    assert qemus_of(empty.path) == [recorder.qemu.pid]
    with pytest.raises(KeyboardInterrupt), recorder:
        raise KeyboardInterrupt
    assert nothing_is_left(empty)


def test_nothing_is_kept_where_the_console_does_not_show_what_was_waited_for(
    empty: Case, demo_image: DemoImage
) -> None:
    with pytest.raises(OutcomeUnknownError, match="does not show 'never'"):
        empty.boot_exactly(SMALL, kernel=demo_image.kernel, until="never", seconds=0.2)
    assert nothing_is_left(empty)


def test_a_recording_ends_where_its_guest_sleeps_on(boot: ExactRecording) -> None:
    """What goes on from a place where a sleep is about to end could not be replayed."""
    assert (sleeps_on_ns(boot.place / "state.qcow2", boot.icount) or 0) >= 400_000
    assert sleeps_on_ns(boot.place / "state.qcow2", boot.icount + 1) is None


def test_a_recording_does_not_end_between_an_interrupt_and_its_handler(case: Case, boot: ExactRecording) -> None:
    """What the interrupt pushed is in the guest's memory there, and no replay to that instruction has it."""
    with case.record_exactly(after=boot) as recorder:
        recorder.enter("while :; do echo an interrupt each time; done\n")
        stop_at_handler(recorder)
        stood = recorder.qemu.icount()
        recorder.finish()
    recording = case.exact_recording(recorder.id)
    assert recording.icount > stood
    assert recording.replay().ram_digest == recording.description.ram_digest


def test_a_machine_that_ends_by_itself_is_kept_as_it_ended(empty: Case, demo_image: DemoImage) -> None:
    """It has no root file system: its kernel panics and restarts it."""
    with empty.record_exactly(SMALL, kernel=demo_image.kernel) as recorder:
        recorder.run(240)
        assert recorder.ended
    recording = empty.exact_recording(recorder.id)
    assert b"Kernel panic" in recording.console
    assert recording.replay().ram_digest == recording.description.ram_digest


def test_a_machine_that_qemu_refuses_is_told_in_its_words(empty: Case, demo_image: DemoImage) -> None:
    with pytest.raises(GuestGoneError, match=r"QEMU did not start: .* unsupported machine type"):
        empty.record_exactly(Machine(machine="no-such-machine"), kernel=demo_image.kernel)
    assert nothing_is_left(empty)


def test_what_a_recording_that_died_left_is_swept_when_nobody_can_be_at_work_on_it(
    empty: Case, demo_image: DemoImage
) -> None:
    old, new = empty.path / "recordings" / "old", empty.path / "recordings" / "new"
    for each in (old, new):
        each.mkdir(parents=True)
    os.utime(old, (0, 0))
    with pytest.raises(KeyboardInterrupt), empty.record_exactly(SMALL, kernel=demo_image.kernel):
        raise KeyboardInterrupt
    assert [each.name for each in (empty.path / "recordings").iterdir()] == ["new"]
