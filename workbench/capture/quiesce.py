"""Freeze the guest's file systems for an instant, through its agent, so that its disks are consistent by themselves.

Preconditions: a live guard, and a guest that runs. Between `stop` and `cont` nothing is added: the freeze comes before
the one and the thaw after the other. On success the file systems were frozen at the instant, by us, and are thawed. On
failure the capture is what it would have been without, crash-consistent, and says why; or, where the wish says so, it
is refused. Whatever happens here, the guard thaws at the limit and does not leave off before the agent says so.

Refuses to thaw what somebody else froze, and to freeze twice.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workbench.capture.guard import Guard, GuardThaw
from workbench.capture.thaw import Thawed, thaw
from workbench.errors import AgentError, AgentTimeoutError, CaptureError, GuestError, UsageError, WorkbenchError
from workbench.guest.agent import Agent
from workbench.guest.connection import Guest

__all__ = ["Freeze", "Freezer", "Quiesce"]

_LONGEST = 60.0
_ASK = 1.0
"""Seconds in which an agent that is well says whether anything is frozen; who asked for one capture waits longer."""
_SILENCE = 30.0
"""Seconds for which captures on an interval do not ask an agent again that did not answer."""
_LEAST_THAW = 1.0


@dataclass(frozen=True, slots=True)
class Quiesce:
    """The wish for application-consistent captures.

    Attributes
    ----------
    timeout_s : float
        Seconds that file systems may stay frozen while the guest runs; then they are thawed, whatever became of us.
    required : bool
        Rather take no capture than one that is only crash-consistent.

    Raises
    ------
    UsageError
        If the time cannot be meant.
    """

    timeout_s: float = 2.0
    required: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.timeout_s) and 0 < self.timeout_s <= _LONGEST):
            raise UsageError("file systems can be frozen for up to 60 s", found=self.timeout_s)


@dataclass(slots=True)
class Freeze:
    """What became of one wish; without a wish, nothing.

    Attributes
    ----------
    wish : Quiesce or None
    why : str
        Why the capture is not application-consistent; "" while nothing speaks against it.
    maybe_frozen : bool
        Whether the guest's file systems are, or may be, frozen at the instant: it comes up frozen then.
    count : int
        File systems that the agent said it froze.
    instant_ns, began_ns, ended_ns : int
        When the guest stood still, and when freezing was asked for and thawing answered; monotonic; 0 for never.
    """

    wish: Quiesce | None
    why: str = ""
    maybe_frozen: bool = False
    count: int = 0
    instant_ns: int = 0
    began_ns: int = 0
    ended_ns: int = 0

    def at_the_instant(self) -> None:
        """Take note that the guest stands still now."""
        self.instant_ns = time.monotonic_ns()

    def facts(self) -> dict[str, Any]:
        """Return it for the capture's record.

        Returns
        -------
        dict
            `consistency` ("application" or "crash"); where it was wished for, `consistency_why`, `frozen` (whether the
            moment comes up frozen), `frozen_ns` (None where nobody knows, or nothing was) and `frozen_file_systems`.

        Raises
        ------
        CaptureError
            If the wish was required and is not fulfilled.
        """
        if self.wish is None:
            return {"consistency": "crash"}
        self.refuse_if_required()
        return {
            "consistency": "crash" if self.why else "application",
            "consistency_why": self.why,
            "frozen": self.maybe_frozen,
            "frozen_ns": self.ended_ns - self.began_ns if self.ended_ns else None,
            "frozen_file_systems": self.count,
        }

    def refuse_if_required(self) -> None:
        """Raise `CaptureError` if the wish was required and is not fulfilled."""
        if self.wish is not None and self.wish.required and self.why:
            raise CaptureError(
                f"no application-consistent capture: {self.why}",
                cure="Do not require it, and the capture is taken as crash-consistent",
            )


class Freezer:
    """Freezes and thaws one guest for the captures of one session."""

    def __init__(self, guest: Guest, guard: Guard) -> None:
        self._guest = guest
        self._guard = guard
        self._agent = Agent(guest)
        self._silent_until = 0.0

    @contextlib.contextmanager
    def frozen(self, wish: Quiesce | None, *, patient: bool = True) -> Iterator[Freeze]:
        """Hold the file systems frozen for the body, if that is wished for and can be.

        Parameters
        ----------
        patient : bool
            Ask an agent also where it did not answer a short time ago.

        Raises
        ------
        CaptureError
            If it is required and cannot be: the body is not entered.
        """
        freeze = Freeze(wish)
        if wish is None:
            yield freeze
            return
        try:
            if patient or time.monotonic() >= self._silent_until:
                self._freeze(freeze, wish, wish.timeout_s if patient else min(_ASK, wish.timeout_s))
            else:
                freeze.why = "the agent did not answer a short time ago"
            freeze.refuse_if_required()
            yield freeze
        finally:
            if freeze.began_ns:
                self._thaw(freeze, wish)

    def _freeze(self, freeze: Freeze, wish: Quiesce, limit: float) -> None:
        """Freeze, or note why not; an agent has `limit` seconds to say whether anything is frozen."""
        try:
            if self._may_freeze(freeze, limit):
                self._guard.freezing(wish.timeout_s)
                freeze.began_ns, freeze.maybe_frozen = time.monotonic_ns(), True
                freeze.count = self._agent.typed(int, "guest-fsfreeze-freeze", limit=wish.timeout_s)
                freeze.why = "" if freeze.count > 0 else "the agent found no file system to freeze"
        except (AgentError, CaptureError) as error:
            freeze.why = error.message
            if isinstance(error, AgentTimeoutError):
                self._silent_until = time.monotonic() + _SILENCE

    def _may_freeze(self, freeze: Freeze, limit: float) -> bool:
        if not self._guest.is_running():
            freeze.why = "the guest stands still, and its agent with it"
            return False
        status = self._agent.typed(str, "guest-fsfreeze-status", limit=limit)
        self._silent_until = 0.0
        if status != "thawed":
            freeze.maybe_frozen = True
            freeze.why = "somebody else froze its file systems, and was left alone"
        return status == "thawed"

    def _thaw(self, freeze: Freeze, wish: Quiesce) -> None:
        """Thaw what was, or may have been, frozen, and hold what the agent says against what it said before."""
        ours = None
        with contextlib.suppress(GuestError):  # the guard goes on where we cannot
            if time.monotonic() >= self._silent_until:
                left = wish.timeout_s - (time.monotonic_ns() - freeze.began_ns) / 1e9
                ours = thaw(self._agent, limit=max(_LEAST_THAW, left))
                freeze.ended_ns = time.monotonic_ns()
        try:
            guards = self._guard.thawed(take_over=ours is None)
        except WorkbenchError as error:
            freeze.why = freeze.why or error.message
            return
        if ours is not None and freeze.why and not ours.count + guards.count:
            freeze.maybe_frozen = False  # it was refused, and nothing was left frozen
        freeze.why = freeze.why or _doubt(freeze, ours, guards)


def _doubt(freeze: Freeze, ours: Thawed | None, guards: GuardThaw) -> str:
    """Return why it cannot be known that everything was frozen at the instant; "" where it can."""
    if ours is None:
        return "the agent did not say that it thawed; the guard goes on asking it to"
    if guards.began_ns is not None and guards.began_ns < freeze.instant_ns:
        return "the time was over before the guest stood still, and the guard thawed it"
    if ours.count + guards.count < freeze.count:
        return "somebody else thawed its file systems meanwhile"
    return ""
