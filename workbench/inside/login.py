"""A console that asks who is there: told apart from a shell, and logged in to on request.

Refuses to guess: without `login` nobody is logged in, and a password is in no error, log or repr.
"""

from __future__ import annotations

import re
import time
from typing import Literal

from workbench.errors import GuestError
from workbench.inside.pump import Lines, Terminal

__all__ = ["Login", "log_in", "prompt"]

Login = tuple[str, str]
_LOGIN = re.compile(rb"login: ?$", re.IGNORECASE)
_PASSWORD = re.compile(rb"password: ?$", re.IGNORECASE)
_WAIT = 10.0
_STANDS = 0.1


def prompt(lines: Lines, seconds: float, *, or_else: bool = False) -> Literal["login", "password"] | None:
    """Say what the console asks for within some seconds; None for anything else, such as a shell.

    With `or_else` anything else that stands there for a tenth of a second, as a shell's prompt does, is not waited on.
    """
    until, before, since = time.monotonic() + seconds, b"", 0.0
    while (now := time.monotonic()) < until:
        rest = lines.unfinished
        if rest != before:
            before, since = rest, now
        if _LOGIN.search(rest):
            return "login"
        if _PASSWORD.search(rest):
            return "password"
        if or_else and rest.strip() and now - since >= _STANDS:
            return None
        time.sleep(0.02)
    return None


def log_in(terminal: Terminal, lines: Lines, name: str, login: Login | None) -> bool:
    """Log in where the console asks for it, and say so.

    Raises
    ------
    GuestError
        If no `login` was given, or it is not taken.
    """
    if login is None:
        raise GuestError(
            f"nobody is logged in at the console of {name}",
            cure="Give login=(user, password), or log in through `clone.console()`",
        )
    user, password = (each.encode() + b"\n" for each in login)
    terminal.write(user)
    until = time.monotonic() + _WAIT
    asked = None
    while asked != "password" and time.monotonic() < until:
        asked = prompt(lines, 1.0)
        if asked is None:  # a user without a password
            return True
    terminal.write(password)
    if not _taken(lines, until):
        raise GuestError(f"{name} does not take the login of {login[0]!r}", cure="Give another login=(user, password)")
    return True


def _taken(lines: Lines, until: float) -> bool:
    """Tell whether a shell's prompt follows on the password; a wrong one brings another login, after some seconds."""
    time.sleep(0.3)  # until the question for the password has ended
    while time.monotonic() < until:
        rest = lines.unfinished.strip()
        if _LOGIN.search(rest):
            return False
        if rest and not _PASSWORD.search(rest):
            return True
        time.sleep(0.05)
    return True  # a shell without a prompt, perhaps: the conversation will tell
