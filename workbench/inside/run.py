"""Run a command in a guest that runs, by the way that it has.

Refuses a guest that stands still: nothing in it would ever answer.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from workbench.errors import CommandTimeoutError, GuestError, UsageError
from workbench.guest.connection import Guest
from workbench.inside.by_agent import offers_commands, run_by_agent
from workbench.inside.by_console import run_by_console
from workbench.inside.login import Login
from workbench.inside.ran import MAX_OUTPUT, How, Ran

__all__ = ["run_in"]

_LONGEST = 86_400.0
_MOST = 1 << 30


def run_in(
    guest: Guest,
    cmd: str | Sequence[str],
    *,
    timeout: float = 30,
    stdin: bytes = b"",
    how: How | None = None,
    max_output: int = MAX_OUTPUT,
    login: Login | None = None,
) -> Ran:
    """Run a command in the guest and return what it did.

    Parameters
    ----------
    cmd : str or sequence of str
        A script for the guest's `sh`, or the words of one command. It works in `/`.
    timeout : float
        Seconds, at most a day. A command that takes longer is killed with all of its session.
    stdin : bytes
        What it reads.
    how : {"agent", "console"}, optional
        The way; by default the guest agent where one answers, else the console.
    max_output : int
        Bytes of standard output, and of standard error, that are kept.
    login : (str, str), optional
        User and password for a console where nobody is logged in.

    Raises
    ------
    UsageError
        If it cannot be meant.
    GuestError
        If the guest stands still, or cannot be spoken to: the command did not begin.
    CommandTimeoutError
        If it was not done in time; `ran` of the error has what was heard.
    OutcomeUnknownError
        If the guest stopped answering.
    """
    script = _script(cmd)
    _refuse(timeout, max_output, how)
    if not guest.is_running():
        raise GuestError(f"{guest.name} stands still", cure="Let it run first: `clone.resume()`")
    if how == "agent" or (how is None and offers_commands(guest)):
        ran = run_by_agent(guest, script, stdin, timeout=timeout, max_output=max_output)
    else:
        ran = run_by_console(guest, script, stdin, timeout=timeout, max_output=max_output, login=login)
    if ran.timed_out:
        raise CommandTimeoutError(
            f"a command in {guest.name} was not done within {timeout:g} s",
            ran=ran,
            killed=ran.killed,
            cure="Give it more time, or see `ran` of the error for what it had said",
        )
    return ran


def _script(cmd: str | Sequence[str]) -> bytes:
    if not cmd:
        raise UsageError("no command is given")
    script = os.fsencode(cmd if isinstance(cmd, str) else "exec " + shlex.join(cmd))
    if b"\0" in script:
        raise UsageError("a command has no NUL bytes")
    return script + b"\n"


def _refuse(timeout: float, max_output: int, how: str | None) -> None:
    if not 0 < timeout <= _LONGEST:
        raise UsageError("a time-out lies between 0 s and a day", found=timeout)
    if not 0 < max_output <= _MOST:
        raise UsageError("output is kept up to 1 GiB", found=max_output)
    if how not in (None, "agent", "console"):
        raise UsageError("a command goes by 'agent' or by 'console'", found=how)
