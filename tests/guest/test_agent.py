"""The guest's agent: asked through libvirt, told apart from one that is not there, and not believed more than it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from waiting import until

from workbench.demo import DemoGuest, DemoSpec
from workbench.errors import AgentError, AgentMissingError, AgentTimeoutError, GuestGoneError
from workbench.guest.agent import Agent, _parse
from workbench.guest.connection import Hypervisor


def agent_of(guest: DemoGuest, hypervisor: Hypervisor) -> Agent:
    """The shared guest's agent, once it is up."""
    agent = Agent(hypervisor.guest(guest.name))
    until(agent.present, "the agent comes up")
    return agent


@pytest.fixture
def agent(guest: DemoGuest) -> Iterator[Agent]:
    with Hypervisor(guest.uri) as hypervisor:
        yield agent_of(guest, hypervisor)


def test_answers_what_the_guest_says_of_itself(guest: DemoGuest, agent: Agent) -> None:
    assert agent.connected()
    assert agent.ask("guest-get-host-name", limit=5) == {"host-name": guest.run("hostname").stdout.strip()}
    assert agent.typed(str, "guest-fsfreeze-status", limit=5) == "thawed"


def test_arguments_reach_it_by_their_own_names(guest: DemoGuest, agent: Agent) -> None:
    guest.run("echo planted >/run/planted")
    handle = agent.typed(int, "guest-file-open", limit=5, path="/run/planted")
    assert agent.ask("guest-file-read", limit=5, handle=handle)["buf-b64"] == "cGxhbnRlZAo="
    agent.ask("guest-file-close", limit=5, handle=handle)


def test_a_refusal_says_why_in_the_agents_words_but_not_at_any_length(agent: Agent) -> None:
    with pytest.raises(AgentError, match=r"refused guest-file-open.*No such file"):
        agent.ask("guest-file-open", limit=5, path="/no/such/file")
    with pytest.raises(AgentError) as raised:
        agent.ask("guest-file-open", limit=5, path="/" + "x" * 200 + "/y" * 20_000)
    assert len(raised.value.message) < 500


def test_an_answer_of_another_type_is_none(agent: Agent) -> None:
    with pytest.raises(AgentError, match="no answer"):
        agent.typed(int, "guest-fsfreeze-status", limit=5)


@pytest.mark.parametrize("answer", ["", "[", "3", "{}", "[1]", "{" * 100_000, '{"return": "' + "x" * (1 << 20) + '"}'])
def test_what_is_no_answer_is_an_error_of_the_agent(answer: str) -> None:
    with pytest.raises(AgentError):
        _parse("web1", "guest-info", answer)


def test_a_hung_agent_costs_the_limit_and_answers_again_when_it_goes_on(guest: DemoGuest, agent: Agent) -> None:
    guest.run("killall -STOP qemu-ga")
    try:
        assert agent.connected()
        with pytest.raises(AgentTimeoutError):
            agent.ask("guest-ping", limit=0.3)
        assert not agent.present(limit=0.2), "the one before has not come to its end"
    finally:
        guest.run("killall -CONT qemu-ga")
    until(agent.present, "it answers again")
    assert agent.ask("guest-get-host-name", limit=5)["host-name"]


def test_an_agent_that_does_not_run_is_missing(guest: DemoGuest, agent: Agent) -> None:
    guest.run("mv /sbin/guest-agent /sbin/guest-agent.away; killall qemu-ga")  # init starts it anew otherwise
    try:
        until(lambda: not agent.connected(), "its channel is closed")
        with pytest.raises(AgentMissingError, match="has its channel open"):
            agent.ask("guest-ping", limit=2)
    finally:
        guest.run("mv /sbin/guest-agent.away /sbin/guest-agent")
    agent_of(guest, agent.guest.hypervisor)


def test_a_guest_without_the_channel_has_no_agent_and_a_guest_that_ended_is_gone(boot_guest) -> None:
    guest = boot_guest(DemoSpec("agentless", memory_mib=128))
    with Hypervisor(guest.uri) as hypervisor:
        agent = Agent(hypervisor.guest(guest.name))
        assert not agent.connected()
        assert not agent.present()
        with pytest.raises(AgentMissingError, match="no channel"):
            agent.ask("guest-ping", limit=2)
        guest.domain.destroy()
        with pytest.raises(GuestGoneError):
            agent.ask("guest-ping", limit=2)
