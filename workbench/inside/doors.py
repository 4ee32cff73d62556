"""What the one door gives its Clone of this room: commands and files inside, words at the console, standing still.

Refuses to touch the guest that it is a clone of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from workbench.guest import steps
from workbench.guest.connection import Guest
from workbench.inside.clock import clock
from workbench.inside.files import get_file, put_file
from workbench.inside.login import Login
from workbench.inside.ran import MAX_OUTPUT, How, Ran
from workbench.inside.run import run_in
from workbench.inside.waiting import wait_for

__all__ = ["Inside", "InsideOfClone"]

_FILES = 600.0
"""Seconds that a file may take by default: a serial console carries some ten kilobytes a second."""


class InsideOfClone:
    """What runs inside a clone."""

    @property
    def guest(self) -> Guest:
        """The running domain."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stop its CPUs."""
        raise NotImplementedError

    def ready(self) -> Guest:
        """Return the running domain for something that is to be done inside it."""
        return self.guest

    def run(
        self,
        cmd: str | Sequence[str],
        *,
        timeout: float = 30,
        stdin: bytes = b"",
        how: How | None = None,
        max_output: int = MAX_OUTPUT,
        login: Login | None = None,
    ) -> Ran:
        """Run a command in it and return what it did; a command that fails is a result, `ran.check()` raises.

        Parameters
        ----------
        cmd : str or sequence of str
            A script for its `sh`, or the words of one command. It works in `/`, as root of the agent or whoever is
            logged in at the console.
        timeout : float
            Seconds. A command that takes longer is killed in the clone.
        stdin : bytes
            What it reads.
        how : {"agent", "console"}, optional
            By default its guest agent where one answers, else its serial console, which whoever has it open loses.
        max_output : int
            Bytes of standard output, and of standard error, that are kept; `ran.truncated` says that there were more.
        login : (str, str), optional
            User and password, where nobody is logged in at the console.

        Raises
        ------
        CommandTimeoutError
            If it was not done in time; `ran` of the error has what was heard.
        GuestError
            If the clone stands still, or nothing in it answers.
        OutcomeUnknownError
            If it stopped answering.
        UsageError
        """
        return run_in(self.ready(), cmd, timeout=timeout, stdin=stdin, how=how, max_output=max_output, login=login)

    def put(
        self,
        path: str,
        data: bytes | Path,
        mode: int = 0o644,
        *,
        timeout: float = _FILES,
        how: How | None = None,
        login: Login | None = None,
    ) -> None:
        """Write a file in it, whole or not at all; the clone compares its SHA-256.

        Parameters
        ----------
        path : str
            Its whole path in the clone.
        data : bytes or Path
            The content, or a file of the host.

        Raises
        ------
        UsageError, GuestError
            What was there is there as before.
        """
        put_file(self._runner(timeout, how, login), path, data, mode)

    def get(
        self,
        path: str,
        *,
        max_bytes: int = 256 << 20,
        timeout: float = _FILES,
        how: How | None = None,
        login: Login | None = None,
    ) -> bytes:
        """Return the content of a plain file in it, as it was at one look; its SHA-256 is compared.

        Raises
        ------
        UsageError
        GuestError
            If there is none, or it is longer than `max_bytes`.
        """
        return get_file(self._runner(timeout, how, login), path, max_bytes)

    def _runner(self, timeout: float, how: How | None, login: Login | None) -> _Runner:
        return _Runner(self.ready(), timeout, how, login)

    def wait_for(
        self, pattern: str | re.Pattern[str], *, timeout: float = 60, since: Literal["start", "now"] = "start"
    ) -> re.Match[str]:
        """Wait until its console has written something.

        Parameters
        ----------
        pattern : str or re.Pattern
            A regular expression, searched in what the console wrote, as UTF-8, without carriage returns.
        timeout : float
            Seconds.
        since : {"start", "now"}
            What it wrote since it was started, or from now on. "start" needs a console that keeps a log.

        Raises
        ------
        GuestError
            If it did not write that in time, or has no console.
        UsageError
            If the pattern is none, or "start" was asked of a console without a log.
        """
        return wait_for(self.guest, pattern, timeout=timeout, since=since)

    def freeze(self) -> str | None:
        """Let it stand for good, and return its own clock of just before, in ISO format (UTC); None if it does not say.

        As `pause`, which does not ask the clone first.

        Raises
        ------
        GuestError
            If it cannot be paused.
        """
        found = clock(self.guest)
        self.pause()
        return found


class Inside(InsideOfClone):
    """What runs inside a guest itself, for whoever may change it: `run`, `put`, `get`, `wait_for`."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    @property
    def guest(self) -> Guest:
        """The running domain."""
        return self._guest

    def pause(self) -> None:
        """Stop its CPUs."""
        steps.pause(self._guest)


class _Runner:
    """`run_in` with what all commands of one file have in common."""

    def __init__(self, guest: Guest, timeout: float, how: How | None, login: Login | None) -> None:
        self._guest, self._timeout, self._how, self._login = guest, timeout, how, login

    def __call__(self, script: str, stdin: bytes = b"", max_output: int = MAX_OUTPUT) -> Ran:
        return run_in(
            self._guest,
            script,
            stdin=stdin,
            max_output=max_output,
            timeout=self._timeout,
            how=self._how,
            login=self._login,
        )
