"""What was put into a guest from outside, with its time, so that it can be put into a clone at the same time.

An input is a mark of kind "input" of its guest, whose note is JSON: the way it went ("serial", "agent") and its text.
Only what is sent through here is recorded: what is typed into another console, comes by the network or by a mouse is
not seen. A mark is data of a case that a stranger may have written: one that is no input is passed over, and inputs
are played into clones alone. Refuses texts past 64 KiB; secrets that are typed are recorded like all else.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Literal, get_args

from workbench.errors import UsageError
from workbench.guest.connection import Guest
from workbench.guest.console import Console
from workbench.inside.run import run_in
from workbench.model import GuestId, Mark
from workbench.store import CaseStore

__all__ = ["INPUT", "Input", "Way", "inputs_of", "note_input", "put_in"]

INPUT = "input"
Way = Literal["serial", "agent"]
_MOST = 64 << 10
_NAMED = 40
_TIMEOUT_S = 30.0
_SHOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class Input:
    """Something that was put into a guest.

    Attributes
    ----------
    time_ns : int
        When it was sent (host clock, UTC, ns).
    way : {"serial", "agent"}
        As text typed at its serial console, or as a shell script by its guest agent.
    text : str
    """

    time_ns: int
    way: Way
    text: str


def note_input(store: CaseStore, guest: GuestId, given: Input) -> None:
    """Record an input.

    Raises
    ------
    UsageError
        If there is no such way, or its text is empty or too long.
    StoreFullError, StoreError
    """
    if given.way not in get_args(Way):
        raise UsageError("no such way into a guest", found=given.way, known=get_args(Way))
    if not given.text or len(given.text.encode()) > _MOST:
        raise UsageError("an input is not empty, and at most 64 KiB", found=len(given.text.encode()))
    note = json.dumps({"way": given.way, "text": given.text})
    name = f"input: {' '.join(given.text.split())[:_NAMED] or given.way}"
    store.add_mark(Mark(name, guest, given.time_ns, None, INPUT, note))


def inputs_of(store: CaseStore, guest: GuestId, after_ns: int, until_ns: int) -> list[Input]:
    """Return the inputs of a guest after one instant and up to another, by time.

    Raises
    ------
    DamagedError, StoreError
    """
    marks = [each for each in store.marks(guest) if each.kind == INPUT and after_ns < each.time_ns <= until_ns]
    return [found for found in map(_read, marks) if found is not None]


def _read(mark: Mark) -> Input | None:
    try:
        told = json.loads(mark.note)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("way") not in get_args(Way):
        return None
    text = told.get("text")
    fits = isinstance(text, str) and 0 < len(text.encode(errors="replace")) <= _MOST
    return Input(mark.time_ns, told["way"], str(text)) if fits else None


def put_in(guest: Guest, given: Input) -> None:
    """Put an input into a running guest: typed, or run by its agent; what is typed is waited for until it is shown.

    Raises
    ------
    GuestError
        If there is no such way into it, or the script was not done in half a minute.
    """
    if given.way == "agent":
        run_in(guest, given.text, timeout=_TIMEOUT_S, how="agent")
        return
    _type(Console(guest), given.text)


def _type(console: Console, text: str) -> None:
    """Type a text, and let go of the console once the guest shows its last line, or after a while.

    What libvirt has of a stream that is closed at once never comes in.
    """
    last = text.strip().rsplit("\n", 1)[-1].encode()
    over = threading.Timer(_SHOWN_S, console.close)
    over.start()
    seen = b""
    try:
        console.write(text.encode())
        while (not last or last not in seen) and (data := console.read()):
            seen = (seen + data)[-2 * _MOST :]
    finally:
        over.cancel()
        console.close()
