"""Every step of a rewind made to fail: the guest is as before, running, and nothing of ours is left in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
from rewinding import assert_healthy, content, differing_pages, held, ours_in

from workbench.case import Case, Moment, Recording
from workbench.demo import DemoGuest
from workbench.errors import GuestError, MonitorError, RewindError, StoreError, StoreFullError
from workbench.guest.monitor import Monitor
from workbench.model import PAGE
from workbench.progress import ProgressEvent
from workbench.rewind import apply as applying
from workbench.rewind import in_place, recover, restart
from workbench.rewind.content import Blocks, Content
from workbench.rewind.in_place import rewind_in_place
from workbench.store import RegionView

pytestmark = pytest.mark.guest

Fault = Callable[[pytest.MonkeyPatch, Callable[[], None]], None]


def once(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, wrong: Callable[..., Any], times: int = 1) -> None:
    """Have the first calls of `place.name` go to `wrong(real, ...)`, the later ones be real."""
    real, left = getattr(place, name), [times]

    def instead(*words: Any, **named: Any) -> Any:
        if left[0] <= 0:
            return real(*words, **named)
        left[0] -= 1
        return wrong(real, *words, **named)

    monkeypatch.setattr(place, name, instead)


def half_of_the_clusters(real: Any, guest: Any, disk: Any, runs: Iterator[Any]) -> None:
    real(guest, disk, islice(runs, 1))
    raise GuestError("write failed half way")


def half_of_the_pages(real: Any, reader: Any, block: Any, pages: Blocks) -> None:
    half = len(pages.indices) // 2
    real(reader, block, Blocks(pages.indices[:half], pages.content[:half]))
    raise GuestError("no more pages")


def wrong_pages(real: Any, reader: Any, block: Any, content: Content, touched: Any) -> None:
    """A page that does not hold what was written, as the proof would find it."""
    real(reader, block, Blocks(np.array([5]), np.full((1, PAGE), 0xA5, np.uint8)))


def refuse_load(real: Any, monitor: Monitor, stream: bytes) -> None:
    """QEMU itself refuses: the stream ends in the middle of a device, after the machine's reset."""
    real(monitor, stream[: len(stream) // 2])
    raise AssertionError("QEMU took half a stream")


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_words: Any, **_named: Any) -> Any:
        raise error

    return fail


FAULTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "disks half way": (applying, "write_clusters", half_of_the_clusters),
    "pages half way": (applying, "write_pages", half_of_the_pages),
    "QEMU refuses the devices": (applying, "load_device_state", refuse_load),
    "the monitor is silent": (applying, "load_device_state", failing(GuestError("no answer"))),
    "memory is not what was written": (applying, "_prove_memory", failing(RewindError("no", guest_is="unknown"))),
    "the case is full": (in_place, "note_rewind", failing(StoreFullError("no space"))),
    "a programming error": (applying, "write_hidden", failing(ZeroDivisionError())),
    "Ctrl-C at the worst place": (applying, "write_hidden", failing(KeyboardInterrupt())),
}


@pytest.fixture(scope="module")
def shared(rew_guest: DemoGuest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Case, Recording, Moment]]:
    """A recording of the guest, with a moment to go to; the guest has moved on since."""
    with Case.create(tmp_path_factory.mktemp("faults") / "case") as case, case.record(rew_guest.name) as recording:
        rew_guest.run("rm -f /root/moved")
        there = recording.capture("there")
        rew_guest.run("echo moved >/root/moved; dd if=/dev/urandom of=/mnt/data1/moved bs=64k count=20; sync")
        yield case, recording, there
    rew_guest.run("rm -f /mnt/data1/moved")


def assert_as_before(case: Case, guest: DemoGuest) -> None:
    assert_healthy(guest)
    assert guest.run("cat /root/moved").stdout == "moved\n"
    assert ours_in(case, guest) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_fails_leaves_the_guest_as_before(
    shared: tuple[Case, Recording, Moment], rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    case, recording, there = shared
    place, name, wrong = FAULTS[fault]
    with held(rew_guest):  # so that the guest can be compared with its safety capture before it moves on
        once(monkeypatch, place, name, wrong)
        with pytest.raises(RewindError) as raised:
            rewind_in_place(recording.session, there.id)
        assert raised.value.guest_is == "as before"
        safety = case.store.record(case.store.captures(there.record.guest)[-1].id)
        assert not any(differing_pages(case, safety, case.hypervisor.guest(rew_guest.name)).values())
        after = recording.capture("after the failure")
        assert content(after.record) == content(safety)
        assert after.record.parent == safety.id
    assert rew_guest.run("cat /root/moved").stdout == "moved\n"
    assert_healthy(rew_guest)


def test_a_running_guest_runs_on_after_a_failure(
    shared: tuple[Case, Recording, Moment], rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, recording, there = shared
    once(monkeypatch, applying, "load_device_state", refuse_load)
    with pytest.raises(RewindError) as raised:
        rewind_in_place(recording.session, there.id)
    assert raised.value.guest_is == "as before"
    assert isinstance(raised.value.__cause__, MonitorError)
    assert_as_before(case, rew_guest)


@pytest.mark.parametrize("when", ["before the pause", "in the pause"])
def test_a_case_that_cannot_be_read_changes_nothing(
    shared: tuple[Case, Recording, Moment], rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    case, recording, there = shared
    wrote: list[str] = []
    once(monkeypatch, applying, "write_clusters", lambda *_: wrote.append("disk"))
    if when == "before the pause":
        once(monkeypatch, RegionView, "read_blocks", failing(StoreError("the volume is gone")))
    else:
        once(monkeypatch, in_place, "_complete", failing(StoreError("the volume is gone")))
    with pytest.raises(StoreError, match="the volume is gone"):
        rewind_in_place(recording.session, there.id)
    assert wrote == []
    assert_as_before(case, rew_guest)


def test_neither_there_nor_back_is_started_again_from_the_safety_capture(
    shared: tuple[Case, Recording, Moment], rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, _recording, there = shared
    _recording.close()
    told: list[ProgressEvent] = []
    with Case(case.path) as other, other.record(rew_guest.name, progress=told.append) as recording:
        old = other.hypervisor.guest(rew_guest.name).pid
        # Pages half way, twice: on the way there and on the way back.
        once(monkeypatch, applying, "write_pages", half_of_the_pages, times=2)
        with pytest.raises(RewindError) as raised:
            rewind_in_place(recording.session, there.id)
        assert raised.value.guest_is == "as before"
        assert raised.value.facts["restarted"] is True
        assert any("restarting QEMU" in event.note for event in told)
        assert other.hypervisor.guest(rew_guest.name).pid != old
    assert_as_before(case, rew_guest)
    with Case(case.path) as other, other.record(rew_guest.name) as recording:
        newest = other.store.captures(there.record.guest)[-1].id
        assert recording.capture("afterwards").record.parent == newest
    assert case.check() == []


def test_an_ended_guest_that_cannot_be_started_is_unknown_and_off(
    case: Case, rew_guest: DemoGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with case.record(rew_guest.name) as recording:
        there = recording.capture("there")
        rew_guest.run("echo later >/root/later; sync")
        with monkeypatch.context() as patch:
            once(patch, applying, "load_device_state", failing(GuestError("no answer")), times=2)
            patch.setattr(restart, "start_moment", failing(GuestError("no memory on this host")))
            with pytest.raises(RewindError) as raised:
                rewind_in_place(recording.session, there.id)
        assert raised.value.guest_is == "unknown"
        assert "clone" in raised.value.cure
        assert rew_guest.name not in [each.name for each in case.hypervisor.guests()]
        safety = case.store.captures(there.record.guest)[-1].id
    # With the host in order again, the recovery that the guard would have run does what it can do at any time.
    recover.main([case.uri, there.record.guest, str(case.path), safety, there.id, "run"])
    assert_healthy(rew_guest)
    assert rew_guest.run("cat /root/later").stdout == "later\n"
    with case.record(rew_guest.name) as recording:
        assert recording.capture("afterwards").record.parent == safety
