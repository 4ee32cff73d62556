"""Thaw a guest's file systems, and not leave off before its agent says that they are.

Used by whoever froze them, by the guard in its place, and for moments that come up frozen. Preconditions: the guest
runs, or will; until then no agent answers. On success every file system that an agent can thaw is thawed. On failure
they may be frozen still, and the error says why. Refuses to take a time-out for an end: what was asked may yet be done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from workbench.errors import AgentError, GuestError, GuestGoneError
from workbench.guest.agent import Agent

__all__ = ["Thawed", "Thawing", "thaw"]

_TRY = 1.0
"""Seconds that one question may take."""
_PAUSE, _LONGEST_PAUSE = 0.02, 2.0
_WATCH, _LOOKS = 1.0, 20
"""Seconds, and answers in that time at least, after which no freeze of a dead process can arrive any more."""


@dataclass(frozen=True, slots=True)
class Thawed:
    """What came of it.

    Attributes
    ----------
    count : int
        File systems that the agent says it thawed.
    began_ns : int
        When thawing was first asked for, by the host's monotonic clock.
    """

    count: int
    began_ns: int


def thaw(agent: Agent, *, limit: float) -> Thawed:
    """Thaw, and try again for `limit` seconds until the agent says that nothing is frozen.

    Raises
    ------
    GuestGoneError
        There is nothing to thaw.
    GuestError
        What the agent did last; the guest may still be frozen.
    """
    began_ns, end = time.monotonic_ns(), time.monotonic() + limit
    count, pause = 0, _PAUSE
    while True:
        try:
            count += _once(agent, max(_PAUSE, min(_TRY, end - time.monotonic())))
        except GuestGoneError:
            raise
        except GuestError:
            if time.monotonic() + pause > end:
                raise
        else:
            return Thawed(count, began_ns)
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _once(agent: Agent, limit: float) -> int:
    """Ask for it once, and for what came of it.

    Raises
    ------
    AgentError
        If they are still frozen, and as `Agent.ask`.
    """
    count = agent.typed(int, "guest-fsfreeze-thaw", limit=limit)
    status = agent.typed(str, "guest-fsfreeze-status", limit=limit)
    if status != "thawed" or count < 0:
        raise AgentError(f"the agent of {agent.guest.name} does not say that it thawed", found=status[:100])
    return count


class Thawing:
    """Thawing in a thread, without an end but the agent's word or the guest's: for the guard.

    It goes on for a second after the first success: libvirt may still carry out a freeze that a dead process had sent.

    Parameters
    ----------
    agent : callable
        Gives the agent, over another connection where the one before broke.

    Attributes
    ----------
    began_ns : int
        As `Thawed.began_ns`.
    count : int
        As `Thawed.count`, so far.
    """

    def __init__(self, agent: Callable[[], Agent]) -> None:
        self.began_ns = time.monotonic_ns()
        self.count = 0
        self._agent = agent
        self._thread = threading.Thread(target=self._run, name="thaw", daemon=True)
        self._thread.start()

    @property
    def settled(self) -> bool:
        """Whether it has come to its end."""
        return not self._thread.is_alive()

    def wait(self, limit: float | None = None) -> bool:
        """Wait for its end, for so many seconds or for ever; tell whether it came."""
        self._thread.join(limit)
        return self.settled

    def _run(self) -> None:
        looks, pause = 0, _PAUSE
        while time.monotonic_ns() - self.began_ns < _WATCH * 1e9 or looks < _LOOKS:
            try:
                self.count += _once(self._agent(), _TRY)
                looks, pause = looks + 1, _PAUSE
            except GuestGoneError:
                return
            except GuestError:
                looks, pause = 0, min(pause * 1.5, _LONGEST_PAUSE)
            time.sleep(pause)
