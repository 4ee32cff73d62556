"""One tree of errors, ordered by what the caller can do next.

Every error says what happened, carries the facts (offset, name, expected, found) as attributes, and ends with the
cure. An outcome that is not known is called unknown, never success and never failure. No error carries a secret.

Refuses to import anything of ours.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "AgentError",
    "AgentMissingError",
    "AgentTimeoutError",
    "AmbiguousMomentError",
    "AnalysisError",
    "AuditError",
    "CaptureError",
    "CommandError",
    "CommandTimeoutError",
    "ConfirmationError",
    "DamagedError",
    "DiskError",
    "FormatError",
    "GuestBusyError",
    "GuestError",
    "GuestGoneError",
    "GuestNotFoundError",
    "HypervisorLostError",
    "MissingError",
    "MomentNotFoundError",
    "MonitorError",
    "NoSuchFileError",
    "OutcomeUnknownError",
    "RewindError",
    "StoreBusyError",
    "StoreError",
    "StoreFullError",
    "SymbolsError",
    "UnreadableError",
    "UnsupportedError",
    "UsageError",
    "WorkbenchError",
]


class WorkbenchError(Exception):
    """Whatever the workbench raises on purpose.

    Parameters
    ----------
    message : str
        What happened and where, in one sentence.
    cure : str
        What to do next, in one sentence; printed after the message.
    **facts : object
        Named facts (offset, expected, found, path ...), kept in `facts`.
    """

    exit_code = 1
    default_cure = ""

    def __init__(self, message: str, *, cure: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure or self.default_cure
        self.facts: dict[str, object] = facts

    def __str__(self) -> str:
        told = "".join(f"; {name} {value!r}" for name, value in self.facts.items())
        return f"{self.message}{told}" + (f". {self.cure}" if self.cure else "")


# The request is wrong: ask differently.


class UsageError(WorkbenchError):
    """The request cannot be meant as it stands; nothing was done."""

    exit_code = 2


class MomentNotFoundError(UsageError):
    """No capture lies at or before what was asked; the message says what exists."""


class AmbiguousMomentError(UsageError):
    """More than one capture fits what was asked; the message lists them."""


class ConfirmationError(UsageError):
    """A destructive act was asked without its confirmation; nothing was done."""


# This host or guest cannot: choose another way.


class UnsupportedError(WorkbenchError):
    """The host, QEMU or the guest's devices do not offer what is needed."""

    exit_code = 3


# The guest, QEMU or libvirt.


class GuestError(WorkbenchError):
    """The guest or its hypervisor failed us."""

    exit_code = 4


class GuestNotFoundError(GuestError):
    """No such domain on this connection."""


class GuestGoneError(GuestError):
    """The domain shut down, was destroyed or migrated away while we worked on it."""


class GuestBusyError(GuestError):
    """Another process of ours works on this guest: wait or stop it."""


class MonitorError(GuestError):
    """QEMU answered a monitor command with an error: it did not do it."""


class AgentError(GuestError):
    """The guest's agent refused a command, or answered what is no answer."""


class AgentMissingError(AgentError):
    """The guest has no channel for an agent, or no agent is connected to it."""


class AgentTimeoutError(AgentError):
    """The agent did not answer in time; it may still carry the command out."""


class OutcomeUnknownError(GuestError):
    """A command was sent and no answer came: it may or may not have been done."""


class HypervisorLostError(OutcomeUnknownError):
    """The connection to libvirt broke: of the guest nothing is known, and what was sent may have been done."""

    default_cure = "See whether libvirt's daemon runs; a new connection is needed."


class CommandError(GuestError):
    """A command in the guest ended with another exit code than 0, and its caller cannot do without.

    Attributes
    ----------
    ran : workbench.inside.ran.Ran or None
        What was heard of it.
    """

    def __init__(self, message: str, *, cure: str = "", ran: object = None, **facts: object) -> None:
        super().__init__(message, cure=cure, **facts)
        self.ran = ran


class CommandTimeoutError(CommandError):
    """A command in the guest was not done in time; it was ended there where that was possible."""


# The store.


class StoreError(WorkbenchError):
    """The case on disk could not be read or written."""

    exit_code = 5


class StoreBusyError(StoreError):
    """Another process writes this guest's history: wait or stop it."""


class StoreFullError(StoreError):
    """No space is left for the case; everything committed is whole."""


class DamagedError(StoreError):
    """Bytes in the case are not what their digest says."""

    default_cure = "Run check on the case: it names the captures that this touches; the others are whole."


class MissingError(DamagedError):
    """A file that the case needs is not there."""


class FormatError(StoreError):
    """Not a case, or one of a format this version does not know."""

    default_cure = "Use the workbench that wrote it, or a newer one."


# The acts.


class CaptureError(WorkbenchError):
    """A capture failed; the guest runs on and nothing committed is lost."""

    exit_code = 6


class AuditError(CaptureError):
    """The tracked copy and the guest's memory differ: a page was missed."""


class RewindError(WorkbenchError):
    """A rewind did not end as asked.

    Attributes
    ----------
    guest_is : {"as before", "as asked", "unknown"}
        What holds for the guest now.
    """

    exit_code = 7

    def __init__(
        self,
        message: str,
        *,
        guest_is: Literal["as before", "as asked", "unknown"],
        cure: str = "",
        **facts: object,
    ) -> None:
        super().__init__(f"{message} (the guest is {guest_is})", cure=cure, **facts)
        self.guest_is = guest_is


# What a capture holds: choose another moment, another plugin, other symbols.


class AnalysisError(WorkbenchError):
    """What a capture holds could not be analysed; the capture itself is whole."""

    exit_code = 8


class SymbolsError(AnalysisError):
    """No symbols for the kernel in a capture; the message says what was looked for and was missing."""

    default_cure = "Name a symbol table (ISF) of this kernel, or make one of its vmlinuz: workbench symbols build."


class UnreadableError(AnalysisError):
    """An address is not mapped, or not in memory."""


class DiskError(AnalysisError):
    """A disk, volume, file system or file of a capture could not be read as asked."""


class NoSuchFileError(DiskError):
    """At that moment the guest had nothing at this path."""
