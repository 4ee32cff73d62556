"""Commands by the serial console: a shell that stands at its prompt there serves for a while.

Preconditions: the guest runs; a shell stands at the prompt of its first console, or a login that `login` opens. On
success and on failure the console is at its prompt again, echo as before, and nothing of ours is left in the guest, as
long as its shell lives. Whoever had the console open loses it.
"""

from __future__ import annotations

import time

from workbench.errors import GuestError, OutcomeUnknownError
from workbench.guest.connection import Guest
from workbench.guest.console import Console
from workbench.inside.login import Login
from workbench.inside.ran import Ran
from workbench.inside.talk import Talk

__all__ = ["run_by_console"]

_POLL = 1.0
_ENDING = 10.0
"""Seconds for a killed command to be gone."""


def run_by_console(
    guest: Guest, script: bytes, stdin: bytes, *, timeout: float, max_output: int, login: Login | None = None
) -> Ran:
    """Run a shell script in the guest by its console.

    Raises
    ------
    GuestError
        If no shell answers.
    OutcomeUnknownError
        If it stops answering.
    """
    began = time.monotonic()
    with Talk(Console(guest), guest.name, login) as talk:
        talk.send("cmd", script)
        if stdin:
            talk.send("in", stdin)
        if talk.ask("x", max_output + 1) != ["ok"]:
            raise GuestError(f"{guest.name} did not begin the command", cure="Look at `clone.console()`")
        ended = _wait(talk, time.monotonic() + timeout)
        killed = False
        if ended is None:
            killed = talk.ask("k") == ["ok"]
            ended = _wait(talk, time.monotonic() + _ENDING)
            if ended is None:
                raise OutcomeUnknownError(f"a command in {guest.name} does not end though it was killed")
            code = None
        else:
            code = ended[0]
        out, err = (
            talk.fetch(name, min(size, max_output)) for name, size in zip(("out", "err"), ended[1:], strict=True)
        )
        seconds = time.monotonic() - began
    return Ran(
        code, out, err, seconds, "console", timed_out=code is None, killed=killed, truncated=max(ended[1:]) > max_output
    )


def _wait(talk: Talk, until: float) -> tuple[int, int, int] | None:
    """Return exit code and the sizes of output and errors; None where the command runs on."""
    while True:
        talk.wait_ended(max(0.0, min(_POLL, until - time.monotonic())))
        answer = talk.ask("p")
        if answer[:1] == ["ended"] and len(answer) == 4 and all(each.isdigit() for each in answer[1:]):
            code, out, err = (int(each) for each in answer[1:])
            return code, out, err
        if answer != ["running"]:
            raise OutcomeUnknownError("what the guest says of a command cannot be understood", answer=answer[:4])
        if time.monotonic() >= until:
            return None
