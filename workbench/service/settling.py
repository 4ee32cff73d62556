"""What a service that was killed had begun and not ended: the next one settles it, in its job and in the audit log.

The audit log says what was asked for; what became of a rewind is read from the case, once nobody works on the guest any
more (the recorder or the guard of the killed service may still bring it to an end). Refuses to do anything again, and
to guess: what the case does not tell is of unknown outcome.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from workbench.errors import GuestBusyError, GuestError, OutcomeUnknownError, RewindError
from workbench.guest.claim import Claim
from workbench.model import GuestId
from workbench.store import CaseStore
from workbench.timeline.current import last_rewind

__all__ = ["Begun", "settle", "unfinished"]

_LOOK_S = 0.5
_LONGEST_S = 1_800.0
_OUTCOMES = ("done", "failed")
_CURES = {"clone": "See GET /clones.", "prune": "The next prune finishes what was begun.", "trial": "See GET /trials."}


@dataclass(frozen=True, slots=True)
class Begun:
    """A job that was asked for, and of whose end nothing is known.

    Attributes
    ----------
    job, what, who, guest : str
        Its id, "rewind" or another, who asked for it, the guest's UUID.
    target : str
        The capture to go to, of a rewind.
    asked_ns : int
        When (UTC, ns).
    """

    job: str
    what: str
    who: str
    guest: str
    target: str
    asked_ns: int


def unfinished(lines: Iterable[dict[str, Any]]) -> list[Begun]:
    """Return what lines of an audit log say was asked for as a job and tell no end of, oldest first."""
    found: dict[str, Begun] = {}
    for line in lines:
        told = line.get("facts")
        facts: dict[str, Any] = told if isinstance(told, dict) else {}
        job = str(facts.get("job", ""))
        if job and line.get("result") == "asked":
            found[job] = Begun(
                job=job,
                what=str(line.get("what", "")),
                who=str(line.get("who", "")),
                guest=str(facts.get("guest", "")),
                target=str(facts.get("target", "")),
                asked_ns=at if isinstance(at := line.get("time_ns"), int) else 0,
            )
        elif line.get("result") in _OUTCOMES:
            found.pop(job, None)
    return list(found.values())


def settle(
    begun: Begun, store: CaseStore, *, recorded: Callable[[], bool], runs: Callable[[], bool], stop: threading.Event
) -> NoReturn:
    """Wait until nobody works on what was begun, and say what became of it.

    Parameters
    ----------
    recorded : callable
        Tells whether the guest is recorded again: then nobody else works on it.
    runs : callable
        Tells whether the guest runs.
    stop : Event
        Ends the waiting.

    Raises
    ------
    RewindError
        What holds for the guest: the rewind was done, or undone.
    OutcomeUnknownError
        For everything else that was begun.
    """
    if begun.what != "rewind":
        cure = _CURES.get(begun.what, "Look for what was done.")
        raise OutcomeUnknownError(f"the service was ended during the {begun.what}", cure=cure)
    left = _LONGEST_S
    while True:
        with contextlib.suppress(GuestError):  # libvirt does not answer yet
            if recorded() or _is_free(begun.guest):
                running = runs()
                break
        left -= _LOOK_S
        if left <= 0 or stop.wait(_LOOK_S):
            raise OutcomeUnknownError(
                "the service was ended during the rewind, and the guest is worked on, or not reached, since then",
                cure="Look at its status and its timeline.",
            )
    _say(begun, store, runs=running)


def _say(begun: Begun, store: CaseStore, *, runs: bool) -> NoReturn:
    mark = last_rewind(store, GuestId(begun.guest))
    done = mark is not None and mark.time_ns > begun.asked_ns and mark.capture == begun.target
    if not runs:
        raise RewindError(
            "the service was ended during the rewind, and the guest is off",
            guest_is="as asked" if done else "unknown",
            cure="Start it, or rewind to where it is wanted.",
        )
    if done:
        raise RewindError(
            "the service was ended during the rewind, which was done",
            guest_is="as asked",
            cure="Nothing has to be done; its safety capture undoes it.",
        )
    raise RewindError(
        "the service was ended during the rewind, which was undone or had not begun",
        guest_is="as before",
        cure="Ask for it again.",
    )


def _is_free(guest: str) -> bool:
    with contextlib.suppress(GuestBusyError):
        Claim(guest, guest).close()
        return True
    return False
