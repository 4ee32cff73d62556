"""What a command in a guest did: exit code, output, errors, time.

A command that fails is a result; `Ran.check` makes an error of it. Output is the guest's own bytes: refuses to take
them for anything else, and to show them with control characters or as markup.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Literal

from workbench.errors import CommandError

__all__ = ["MAX_OUTPUT", "How", "Ran"]

How = Literal["agent", "console"]
MAX_OUTPUT = 16 << 20
"""Bytes of standard output, and of standard error, that are kept unless more is asked for."""
_SHOWN = 2000
"""Characters of output that a repr shows at most."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command in a guest did.

    Attributes
    ----------
    exit_code : int or None
        As the shell has it: 128 and more for a signal. None where the command was ended because its time was over.
    stdout, stderr : bytes
        The first `max_output` bytes of each.
    seconds : float
        From sending the command to having its answer, by the host's clock.
    how : {"agent", "console"}
        The way it went.
    timed_out : bool
        Whether its time was over.
    killed : bool
        Whether the guest said that it ended the command whose time was over.
    truncated : bool
        Whether it wrote more than was kept.
    """

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    how: How
    timed_out: bool = False
    killed: bool = False
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.exit_code == 0

    @property
    def text(self) -> str:
        """Standard output as UTF-8; bytes that are none are shown as hexadecimal escapes."""
        return self.stdout.decode("utf-8", "backslashreplace")

    def check(self) -> Ran:
        """Return itself where the exit code is 0.

        Raises
        ------
        CommandError
            Else; it carries this result as `ran`.
        """
        if not self.ok:
            last = _inert(self.stderr or self.stdout).strip().splitlines()[-1:]
            raise CommandError(
                f"a command in the guest ended with {self.exit_code}: {(last or ['(nothing said)'])[0][:200]}",
                ran=self,
                cure="See `ran.stdout` and `ran.stderr` of the error",
            )
        return self

    def __repr__(self) -> str:
        ended = "timed out" if self.timed_out else f"exit code {self.exit_code}"
        sizes = f"{len(self.stdout)} B out, {len(self.stderr)} B err" + (", truncated" if self.truncated else "")
        return f"<Ran {ended}, {sizes}, {self.seconds:.2f} s by {self.how}>"

    def _repr_html_(self) -> str:
        parts = [f"<code>{html.escape(repr(self))}</code>"]
        for name, data in (("stdout", self.stdout), ("stderr", self.stderr)):
            if data:
                shown = _inert(data[: _SHOWN * 4])[:_SHOWN]
                parts.append(f'<pre title="{name}">{html.escape(shown)}</pre>')
        return "".join(parts)


def _inert(data: bytes) -> str:
    """Return text without control characters but line ends and tabs, and without marks of direction."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\u{ord(c):04x}" for c in text)
