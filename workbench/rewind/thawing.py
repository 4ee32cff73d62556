"""Thaw a guest that came up as it was captured: with its file systems frozen for the capture's sake.

Memory of an application-consistent moment is of the frozen time, and so is the guest that is made of it. Preconditions:
it runs. On success its file systems can be written to. On failure it runs frozen, and what is returned says so. Refuses
to ask the agent of a moment that was not frozen.
"""

from __future__ import annotations

import contextlib

from workbench.capture.session import CaptureSession
from workbench.capture.thaw import thaw
from workbench.errors import CaptureError, GuestError, WorkbenchError
from workbench.guest.agent import Agent
from workbench.guest.connection import Guest
from workbench.model import CaptureRecord

__all__ = ["NOT_YET", "THAWED", "comes_up_frozen", "guard_thaw", "thaw_guarded", "thaw_moment"]

_LIMIT = 20.0
"""Seconds: after a rewind libvirt takes a moment to see the agent again."""
THAWED = "thawed"
NOT_YET = "not yet: it stands still"


def comes_up_frozen(record: CaptureRecord) -> bool:
    """Tell whether a guest at this moment may have frozen file systems."""
    return record.facts.get("frozen") is True


def thaw_moment(guest: Guest, record: CaptureRecord, *, limit: float | None = None) -> str:
    """Thaw a guest that runs on from a moment, where that is needed.

    Returns
    -------
    str
        "" where nothing was frozen, "thawed", or "frozen still: " and why.
    """
    if not comes_up_frozen(record):
        return ""
    try:
        thaw(Agent(guest), limit=_LIMIT if limit is None else limit)
    except WorkbenchError as error:
        return f"frozen still: {error.message}"
    return THAWED


def guard_thaw(session: CaptureSession, target: CaptureRecord) -> None:
    """Have the guard thaw the guest if we die between `cont` and the thaw; before `cont`."""
    if comes_up_frozen(target):
        with contextlib.suppress(CaptureError):  # it is thawing already, until an agent that runs says that it did
            session.guard.freezing(_LIMIT)


def thaw_guarded(session: CaptureSession, guest: Guest, target: CaptureRecord, *, ran: bool) -> str:
    """Thaw the guest of a rewind, and tell what came of it as `Rewound.thaw` does.

    Raises
    ------
    GuestError
        It stays frozen; the guard goes on.
    """
    if not comes_up_frozen(target):
        return ""
    if not ran:
        return NOT_YET
    told = thaw_moment(guest, target)
    session.guard.thawed(take_over=told != THAWED)
    if told != THAWED:
        raise GuestError(f"its file systems are {told}; the guard goes on asking")
    return told
