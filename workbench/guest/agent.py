"""Ask QEMU's guest agent, where a guest has one.

The agent's channel has one host end and libvirt holds it, so questions go through libvirt, which keeps answers and
questions in step (`guest-sync`) also after a rewind and in a clone. An agent is a program of the guest: it may be
missing, hang, be stopped, or answer anything. Refuses to believe an answer of another type than was asked for, to wait
longer than it was told, and to need an agent: callers learn by the error's class that there is none.

Commands: QEMU Guest Agent Protocol Reference (docs/interop/qemu-ga-ref).
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree as ET

from workbench.errors import (
    AgentError,
    AgentMissingError,
    AgentTimeoutError,
    GuestError,
    GuestGoneError,
    HypervisorLostError,
)
from workbench.guest import virt
from workbench.guest.connection import Guest
from workbench.guest.monitor import is_lost

if TYPE_CHECKING:
    import libvirt

__all__ = ["Agent"]

T = TypeVar("T")

_PORT = "org.qemu.guest_agent.0"
_LONGEST = 1 << 20
"""Characters of an answer that are looked at; libvirt itself takes 10 MB of a guest."""
_LONGEST_REASON = 300
_HERE, _MISSING = "connected", "missing"
_LOOK = 0.05
_CURE = "Install qemu-guest-agent in the guest, and give the domain its channel (org.qemu.guest_agent.0)"


class Agent:
    """The agent of one guest.

    Attributes
    ----------
    guest : Guest
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._under_way: threading.Thread | None = None

    def connected(self) -> bool:
        """Tell whether libvirt says that a program in the guest has the channel open; that it answers is another thing.

        Raises
        ------
        GuestError
        """
        return self._channel() == _HERE

    def appears(self, *, limit: float = 1.0) -> bool:
        """Wait until libvirt says that the channel is open, for at most `limit` seconds; not where there is none.

        libvirt hears of it a moment after a guest that was loaded with an open channel began to run.

        Raises
        ------
        GuestError
        """
        until = time.monotonic() + limit
        while (channel := self._channel()) == _MISSING and time.monotonic() < until:
            time.sleep(_LOOK)
        return channel == _HERE

    def present(self, *, limit: float = 1.0) -> bool:
        """Tell whether the agent answers a ping within `limit` seconds.

        Raises
        ------
        GuestGoneError
        """
        try:
            self.ask("guest-ping", limit=limit)
        except GuestGoneError:
            raise
        except GuestError:
            return False
        return True

    def ask(self, command: str, *, limit: float, **arguments: Any) -> Any:
        """Give the agent one command and return what it answers; its type is for the caller to check, see `typed`.

        Parameters
        ----------
        command : str
            Such as "guest-fsfreeze-status".
        limit : float
            Seconds to wait. libvirt counts whole seconds and waits five for an agent to get in step, so it is left to
            itself when they are over: until then, this object sends nothing else.
        **arguments : Any
            The command's arguments; underscores are written as hyphens.

        Raises
        ------
        AgentMissingError
            No channel, or nobody there. The command was not carried out.
        AgentTimeoutError
            No answer: the command may be carried out later, whenever the agent goes on.
        AgentError
            The agent refused, or its answer is none.
        GuestGoneError
        """
        deadline = time.monotonic() + limit
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        words = json.dumps({"execute": command, **({"arguments": named} if named else {})})
        self._wait_for_the_one_before(command, limit)
        answer = self._within(deadline, command, limit, lambda: self._send(words, limit))
        return _parse(self.guest.name, command, answer)

    def typed(self, kind: type[T], command: str, *, limit: float, **arguments: Any) -> T:
        """Ask, and take only an answer of this type (a bool is no int).

        Raises
        ------
        AgentError
            As `ask`, or for another type.
        """
        answer = self.ask(command, limit=limit, **arguments)
        if type(answer) is not kind:
            raise AgentError(
                f"the agent of {self.guest.name} answered {command} with what is no answer",
                expected=kind.__name__,
                found=type(answer).__name__,
            )
        return answer

    def _channel(self) -> str | None:
        """Return "connected", "missing" (nobody is there), or None where the guest has no channel for an agent."""
        for target in ET.fromstring(self.guest.xml()).iterfind("./devices/channel/target[@type='virtio']"):
            if target.get("name") == _PORT:
                return _HERE if target.get("state") == "connected" else _MISSING
        return None

    def _wait_for_the_one_before(self, command: str, limit: float) -> None:
        """Let an earlier command that was given up come to its end: libvirt takes one at a time."""
        if self._under_way is not None:
            self._under_way.join(limit)
            if self._under_way.is_alive():
                raise AgentTimeoutError(
                    f"{command}: the agent of {self.guest.name} has not answered what was asked before"
                )
            self._under_way = None

    def _within(self, deadline: float, command: str, limit: float, call: Callable[[], str]) -> str:
        """Call in a thread of its own, and go on without it when the time is over."""
        done: list[str | BaseException] = []

        def run() -> None:
            try:
                done.append(call())
            except BaseException as error:  # noqa: BLE001  (raised by whoever waits)
                done.append(error)

        self._under_way = threading.Thread(target=run, name="ask the agent", daemon=True)
        self._under_way.start()
        self._under_way.join(max(0.05, deadline - time.monotonic()))
        if not done:
            raise self._silent(command, limit)
        self._under_way = None
        if isinstance(done[0], BaseException):
            raise done[0]
        return done[0]

    def _silent(self, command: str, limit: float) -> AgentTimeoutError:
        return AgentTimeoutError(
            f"the agent of {self.guest.name} did not answer {command} within {limit:g} s",
            cure="See whether qemu-guest-agent runs in the guest",
        )

    def _send(self, words: str, limit: float) -> str:
        try:
            return str(virt.qemuAgentCommand(self.guest.domain, words, max(1, math.ceil(limit)), 0))
        except virt.libvirtError as error:
            raise self._failure(json.loads(words)["execute"], limit, error) from error

    def _failure(self, command: str, limit: float, error: libvirt.libvirtError) -> GuestError:
        code, name = error.get_error_code(), self.guest.name
        if is_lost(error):
            return HypervisorLostError(f"{name}: libvirt was lost during {command}: {error}")
        if code == virt.VIR_ERR_NO_DOMAIN or (code == virt.VIR_ERR_OPERATION_INVALID and not self._alive()):
            return GuestGoneError(f"{name} ended during {command}")
        if code in (virt.VIR_ERR_ARGUMENT_UNSUPPORTED, virt.VIR_ERR_AGENT_UNRESPONSIVE):
            try:
                channel = self._channel()
            except GuestError as gone:
                return gone
            if channel is None:
                return AgentMissingError(f"{name} has no channel for an agent", cure=_CURE)
            if channel == _MISSING:
                return AgentMissingError(f"no agent of {name} has its channel open", cure=_CURE)
        if code in (virt.VIR_ERR_AGENT_UNRESPONSIVE, virt.VIR_ERR_AGENT_UNSYNCED, virt.VIR_ERR_OPERATION_TIMEOUT):
            return self._silent(command, limit)
        return AgentError(f"the agent of {name} refused {command}: {str(error)[:_LONGEST_REASON]}")

    def _alive(self) -> bool:
        try:
            return bool(self.guest.domain.isActive())
        except virt.libvirtError:
            return False


def _parse(name: str, command: str, answer: str) -> Any:
    """Take the value out of an answer.

    Raises
    ------
    AgentError
        If it is too long, no JSON, or has no value.
    """
    if len(answer) > _LONGEST:
        raise AgentError(f"the agent of {name} answered {command} at too great length", found=len(answer))
    try:
        return json.loads(answer)["return"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AgentError(f"the agent of {name} answered {command} with what is no answer") from error
