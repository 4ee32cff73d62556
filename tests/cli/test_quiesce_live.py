"""Application-consistent captures by the command: said when they are, and when and why they are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Command
from waiting import until

from workbench.demo import DemoGuest
from workbench.guest.agent import Agent
from workbench.guest.connection import Hypervisor


@pytest.fixture
def agent(guest: DemoGuest) -> Iterator[Agent]:
    """The guest's agent, up."""
    with Hypervisor(guest.uri) as hypervisor:
        agent = Agent(hypervisor.guest(guest.name))
        until(agent.present, "the agent comes up")
        yield agent


def test_captures_are_consistent_and_a_clone_of_one_writes(
    workbench: Command, guest: DemoGuest, agent: Agent, public_directory: Path
) -> None:
    case = ("--case", public_directory / "case", "--connect", guest.uri)
    quiet = ("--quiesce", "--freeze-limit", "60")
    done = workbench("capture", guest.name, *quiet, *case)
    assert "Application-consistent: its file systems were frozen for " in done.out

    def watched() -> list[str]:
        done = workbench("watch", guest.name, *quiet, "--interval", "0.5", "--count", "2", "--json", *case)
        return [json.loads(line)["consistency"] for line in done.out.splitlines()]

    until(lambda: watched() == ["application"] * 2, "both are consistent")
    cloned = workbench("clone", "run", "latest", *case)
    assert "had been frozen for the capture: thawed." in cloned.out
    assert workbench("clone", "rm", "--all", *case).code == 0


def test_what_fails_is_said_or_refused(
    workbench: Command, guest: DemoGuest, agent: Agent, public_directory: Path
) -> None:
    case = ("--case", public_directory / "case", "--connect", guest.uri)
    guest.domain.fsFreeze()
    try:
        refused = workbench("capture", guest.name, "--require-quiesce", "--freeze-limit", "60", *case)
        said = workbench("capture", guest.name, "--quiesce", "--freeze-limit", "60", *case)
    finally:
        guest.domain.fsThaw()
    assert refused.code == 6
    assert "no application-consistent capture: somebody else froze" in refused.err
    assert said.code == 0
    assert "only crash-consistent: somebody else froze" in said.err
    meant = workbench("capture", guest.name, "--quiesce", "--freeze-limit", "600", *case)
    assert meant.code == 2
