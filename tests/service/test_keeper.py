"""A keeper has a guest recorded, whatever happens to the guest or to the recorder; orders are answered."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.errors import ConfirmationError, GuestError, OutcomeUnknownError
from workbench.guest.connection import Hypervisor
from workbench.service.configuration import GuestConfiguration
from workbench.service.keeper import Keeper
from workbench.service.status import GuestStatus


@pytest.fixture(scope="module")
def kept(demo_image: DemoImage) -> Iterator[DemoGuest]:
    with DemoGuest.boot(DemoSpec(f"kept-{os.getpid()}", memory_mib=256), image=demo_image) as guest:
        yield guest


@pytest.fixture
def case(public_directory: Path) -> Iterator[Case]:
    with Case.create(public_directory / "case") as made:
        yield made


def keeper_of(guest: DemoGuest, case: Case, **asked: object) -> Keeper:
    def find(name: str) -> tuple[str, str] | None:
        with Hypervisor(case.uri) as hypervisor:
            running = {each.name: each.id for each in hypervisor.guests()}
        return (running[name], name) if name in running else None

    configuration = GuestConfiguration(guest=guest.name, **{"interval_s": 1.0, **asked})
    return Keeper(configuration, case=case.path, connect=case.uri, find=find)


@pytest.fixture
def keeper(kept: DemoGuest, case: Case) -> Iterator[Keeper]:
    made = keeper_of(kept, case)
    made.start()
    yield made
    made.end()


def test_a_guest_is_recorded_and_its_status_says_how(keeper: Keeper, case: Case, kept: DemoGuest) -> None:

    def well() -> GuestStatus | None:
        found = keeper.status()
        return found if found.captures >= 3 and (found.state, found.health) == ("recording", "well") else None

    status = until(well)
    assert status is not None
    assert status.guest == kept.name
    assert status.last_capture == case.moment("latest").id or status.captures < len(
        case.store.captures(case.guest().id)
    )
    assert status.pause_p50_ms is not None
    assert 0 < status.pause_p50_ms <= status.pause_p95_ms
    assert status.rpo_achieved_s is not None
    assert 0 < status.rpo_achieved_s < 120


def test_orders_are_answered_with_what_was_done(keeper: Keeper, case: Case) -> None:
    until(lambda: keeper.status().captures)
    made = keeper.ask(do="capture", mode="manual", reason="before the update", mark="update").result(120)
    moment = case.moment("update")
    assert (moment.id, moment.record.reason, str(moment.record.mode)) == (
        made["capture"],
        "before the update",
        "manual",
    )
    now = time.time_ns()
    event = {"source": "alert", "name": "odd-login", "reason": "somebody came", "time_ns": now}
    taken = keeper.ask(do="event", **event).result(120)
    names = {mark.kind: mark.name for mark in case.marks() if mark.name.startswith("odd-login")}
    assert set(names) == {"event", "look-back"}
    assert case.moment(names["event"]).id == taken["capture"]
    assert case.moment(names["look-back"]).record.time_ns < now


def test_an_interval_changes_without_a_gap(keeper: Keeper) -> None:
    until(lambda: keeper.status().captures)
    pid = keeper.pid
    keeper.configure(keeper.configuration.model_copy(update={"interval_s": 0.4}))
    before = keeper.status().captures
    until(lambda: keeper.status().captures >= before + 4)
    assert keeper.pid == pid
    assert keeper.status().interval_asked_s == 0.4


def test_a_recorder_that_is_killed_is_replaced_and_the_series_goes_on(keeper: Keeper, case: Case) -> None:
    until(lambda: keeper.status().captures)
    first = keeper.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: keeper.pid not in (None, first))
    before = keeper.status().captures
    until(lambda: keeper.status().captures >= before + 2)
    records = [case.store.record(ref.id) for ref in case.store.captures(case.guest().id)]
    assert [each.parent for each in records[1:]] == [each.id for each in records[:-1]]
    assert not case.check()


def test_a_rewind_is_done_by_the_recorder_and_it_goes_on(keeper: Keeper, case: Case, kept: DemoGuest) -> None:
    until(lambda: keeper.status().captures >= 2)
    target = case.moment("latest").id
    kept.run("echo later > /root/later && sync")
    with pytest.raises(ConfirmationError, match="changes the guest itself"):
        keeper.ask(do="rewind", to=target, confirm="somebody else").result(60)
    done = keeper.ask(do="rewind", to=target, confirm=kept.name).result(60)["rewound"]
    assert (done["how"], done["target"]) == ("in place", target)
    assert kept.run("ls /root/later").rc != 0
    before = keeper.status().captures
    until(lambda: keeper.status().captures > before)
    undone = keeper.ask(do="rewind", to=None, confirm=kept.name).result(60)["rewound"]
    assert undone["target"] == done["safety"]
    assert kept.run("cat /root/later").stdout.strip() == "later"


def test_a_guest_that_is_off_is_waited_for(case: Case, demo_image: DemoImage) -> None:
    name = f"coming-{os.getpid()}"
    spec = DemoSpec(name, memory_mib=256)
    with DemoGuest.boot(spec, image=demo_image) as guest:
        keeper = keeper_of(guest, case)
        keeper.start()
        until(lambda: keeper.status().captures)
    try:
        status = until(lambda: keeper.status() if keeper.status().state == "waiting" else None)
        assert status.health == "waiting"
        with pytest.raises(GuestError, match="not being recorded"):
            keeper.ask(do="capture", mode="manual", reason="x")
        with DemoGuest.boot(spec, image=demo_image):
            before = keeper.status().captures
            until(lambda: keeper.status().captures > before)
            keeper.end()
    finally:
        keeper.end()


def test_what_was_asked_of_a_recorder_that_died_is_of_unknown_outcome(keeper: Keeper) -> None:
    until(lambda: keeper.status().captures)
    assert keeper.pid is not None
    os.kill(keeper.pid, signal.SIGSTOP)
    future = keeper.ask(do="capture", mode="manual", reason="x")
    os.kill(keeper.pid, signal.SIGKILL)
    with pytest.raises(OutcomeUnknownError):
        future.result(120)
