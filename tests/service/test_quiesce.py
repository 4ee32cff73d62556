"""The service takes application-consistent captures where it is told to, and says of the last one what it was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

sys.path.insert(0, os.path.dirname(__file__))

from agents import freeze_status
from test_keeper import keeper_of
from waiting import until

from workbench.case import Case
from workbench.demo import DemoGuest
from workbench.guest.agent import Agent
from workbench.guest.connection import Hypervisor
from workbench.server.metrics import exposition
from workbench.service.configuration import QuiesceSettings
from workbench.service.keeper import Keeper
from workbench.service.status import GuestStatus


@pytest.fixture
def case(public_directory: Path) -> Iterator[Case]:
    with Case.create(public_directory / "case") as made:
        yield made


@pytest.fixture
def agent(guest: DemoGuest) -> Iterator[Agent]:
    """The guest's agent, which answers before the test and has thawed everything after it."""
    with Hypervisor(guest.uri) as hypervisor:
        agent = Agent(hypervisor.guest(guest.name))
        until(agent.present)
        yield agent
        guest.run("killall -CONT qemu-ga")
        until(lambda: freeze_status(agent) == "thawed")


def kept(guest: DemoGuest, case: Case, enabled: bool) -> Iterator[Keeper]:
    made = keeper_of(guest, case, quiesce={"enabled": enabled, "timeout_s": 10.0})
    made.start()
    yield made
    made.end()


@pytest.fixture
def quiescing(guest: DemoGuest, case: Case, agent: Agent) -> Iterator[Keeper]:
    yield from kept(guest, case, enabled=True)


@pytest.fixture
def plain(guest: DemoGuest, case: Case, agent: Agent) -> Iterator[Keeper]:
    yield from kept(guest, case, enabled=False)


def status_of_a_silent_agent(keeper: Keeper, guest: DemoGuest) -> GuestStatus:
    """Stop the agent between two captures; of one that is stopped while the guest is frozen, other words are said."""
    for _ in range(10):
        guest.run("killall -STOP qemu-ga")
        status = until(lambda: keeper.status() if keeper.status().consistency == "crash" else None)
        if "thawed" not in status.consistency_why:
            return status
        guest.run("killall -CONT qemu-ga")
        until(lambda: keeper.status().consistency == "application")
    raise AssertionError("the agent was always stopped in the middle of a capture")


def test_every_capture_is_consistent_and_status_and_metrics_say_it_until_the_agent_hangs(
    quiescing: Keeper, guest: DemoGuest, case: Case
) -> None:

    def consistent() -> GuestStatus | None:
        found = quiescing.status()
        return found if found.consistent_captures >= 2 and found.consistency == "application" else None

    status = until(consistent)
    assert status is not None
    assert status.consistency_why == ""
    assert status.frozen_ms is not None
    facts = case.moment(f"id:{status.last_capture}").facts
    assert facts["frozen_ns"] > facts["pause_ns"]
    told = exposition([status], None).decode()
    assert f'workbench_consistent_captures_total{{guest="{guest.name}"}} {status.consistent_captures}.0' in told
    assert f'workbench_frozen_milliseconds{{guest="{guest.name}"}}' in told

    status = status_of_a_silent_agent(quiescing, guest)
    assert "answer" in status.consistency_why
    assert (status.state, status.failures, status.frozen_ms) == ("recording", 0, None)


def test_one_capture_can_be_consistent_where_the_others_are_not(plain: Keeper, case: Case) -> None:
    status = until(lambda: plain.status() if plain.status().captures else None)
    assert (status.consistency, status.consistency_why, status.frozen_ms) == ("crash", "", None)
    once = plain.ask(do="capture", mode="manual", reason="before the backup", mark=None, quiesce=True).result(120)
    assert (once["consistency"], once["consistency_why"]) == ("application", "")
    assert case.moment(f"id:{once['capture']}").facts["frozen"] is True
    again = plain.ask(do="capture", mode="manual", reason="as ever", mark=None, quiesce=False).result(120)
    assert again["consistency"] == "crash"


@pytest.mark.parametrize("asked", [{"timeout_s": 0}, {"timeout_s": 61}, {"enabled": "perhaps"}, {"freeze": True}])
def test_settings_that_cannot_be_meant_are_refused(asked: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        QuiesceSettings.model_validate(asked)
