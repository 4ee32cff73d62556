"""What tests ask a guest's agent, where a guard may be asking it too, or the agent be away."""

from __future__ import annotations

from workbench.errors import AgentError
from workbench.guest.agent import Agent


def freeze_status(agent: Agent) -> str:
    """Tell whether file systems are "thawed" or "frozen"; "silent" where the agent does not say."""
    try:
        return str(agent.ask("guest-fsfreeze-status", limit=30))
    except AgentError:
        return "silent"
