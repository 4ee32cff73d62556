"""Between two captures: clones are run on, captured and bisected; then they are gone, and the guest never noticed."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import until

from workbench.case import Case, Moment, file_exists
from workbench.demo import DemoGuest
from workbench.errors import UsageError, WorkbenchError
from workbench.progress import ProgressEvent
from workbench.replay.refine import refine

pytestmark = pytest.mark.guest


@dataclass
class Recorded:
    """A guest that made a file by itself between two captures."""

    case: Case
    a: Moment
    b: Moment
    guest: DemoGuest


def reachable(place: Path) -> Path:
    """Let QEMU's user find its way through."""
    place.chmod(0o711)
    return place


@pytest.fixture(scope="module")
def recorded(guest: DemoGuest) -> Iterator[Recorded]:
    with (
        tempfile.TemporaryDirectory(prefix="rewind-test-") as name,
        Case.create(reachable(Path(name)) / "case", uri=guest.uri) as case,
    ):
        with case.record(guest.name) as recording:
            recording.capture("the first takes long, the next does not")
            guest.run("(sleep 4; touch /root/came) >/dev/null 2>&1 &")
            a = recording.capture("not yet")
            until(lambda: "came" in guest.run("ls /root").stdout, "the file is there")
            time.sleep(4)  # a clone may be slower than the guest was
            b = recording.capture("there")
        yield Recorded(case, a, b, guest)
    guest.run("rm -f /root/came; sync")


@pytest.fixture(autouse=True)
def nothing_is_left(recorded: Recorded) -> Iterator[None]:
    """No clone is there afterwards, in the case or on the host, and the guest runs and is well."""
    yield
    assert recorded.case.clones() == []
    running = [each.name for each in recorded.case.hypervisor.guests() if each.name.startswith(recorded.guest.name)]
    assert running == [recorded.guest.name]
    assert recorded.guest.health().ok
    assert recorded.case.hypervisor.guest(recorded.guest.name).is_running()


def test_clones_narrow_the_span(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.replay.refine._ROUNDS", 2)  # the third would do what the second does
    predicate = file_exists("/root/came")
    found = recorded.case.bisect(predicate, (recorded.a, recorded.b), refine=True)
    assert (found.last_before.id, found.first.id, found.refused) == (recorded.a.id, recorded.b.id, "")
    refined = found.refinement
    assert refined is not None
    assert refined.held
    assert 0 < refined.span < found.span / 4
    assert not predicate(refined.last_before)
    assert predicate(refined.first)
    assert set(refined.evaluations["capture"]).isdisjoint({recorded.a.id, recorded.b.id})


def test_that_it_never_holds_is_a_result(recorded: Recorded) -> None:
    found = recorded.case.bisect(lambda moment: moment.id == recorded.b.id, (recorded.a, recorded.b), refine=True)
    refined = found.refinement
    assert refined is not None
    assert not refined.held
    assert refined.span == found.span
    assert refined.driven >= found.span
    assert "a clone's future is not the original's" in str(refined)


def test_a_clone_that_dies_half_way_costs_the_refinement_alone(recorded: Recorded) -> None:
    killed: list[str] = []

    def kill(event: ProgressEvent) -> None:
        with contextlib.suppress(WorkbenchError):
            for clone in recorded.case.clones():
                if event.task == f"reading memory of {clone.name}" and not killed:
                    os.kill(clone.guest.pid, signal.SIGKILL)
                    killed.append(clone.name)

    found = recorded.case.bisect(file_exists("/root/came"), (recorded.a, recorded.b), refine=True, progress=kill)
    assert killed
    assert found.first.id == recorded.b.id
    assert found.refinement is None
    assert found.refused


def test_an_interval_that_is_too_long_is_refused(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.replay.refine._LONGEST_S", 0.01)
    predicate = file_exists("/root/came")
    found = recorded.case.bisect(predicate, (recorded.a, recorded.b))
    with pytest.raises(UsageError, match="too long"):
        refine(found, predicate)
