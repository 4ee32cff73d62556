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


def prompt(lines: Lines, seconds: float) -> Literal["login", "password"] | None:
    """Say what the console asks for within some seconds; None for anything else, such as a shell."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        rest = lines.unfinished
        if _LOGIN.search(rest):
            return "login"
        if _PASSWORD.search(rest):
            return "password"
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
    time.sleep(0.5)
    while time.monotonic() < until:
        if not lines.unfinished.rstrip().lower().endswith(b"password:"):
            break
        time.sleep(0.05)
    if prompt(lines, 3.5) == "login":  # a wrong password is told after three seconds
        raise GuestError(f"{name} does not take the login of {login[0]!r}", cure="Give another login=(user, password)")
    return True
