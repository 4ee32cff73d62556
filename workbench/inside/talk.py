"""A conversation with the serving program on a guest's console: requests, answers, and whatever is written in between.

The kernel, daemons and other users write to the same console at any byte. So each request has a number and each answer
names it in a line of its own; an answer that does not come is asked for again, and the guest does nothing twice.
Content goes as base64 in pieces with a SHA-256 each; a piece that was written into is asked for again, smaller.

Refuses to believe in an answer that does not carry the conversation's random token.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from typing import Self

from workbench.errors import GuestError, OutcomeUnknownError
from workbench.inside.guestside import SERVE, START
from workbench.inside.login import Login, log_in, prompt
from workbench.inside.pump import Lines, Terminal

__all__ = ["Talk"]

_LINE = 960
"""Characters of a line that is sent: a terminal takes 4095 at most."""
_PIECE = 12 << 10
"""Bytes sent before an answer is waited for: the kernel drops what a terminal has not read beyond 64 KiB."""
_LEAST, _MOST = 1 << 10, 256 << 10
"""Bytes of a piece that is asked for."""
_PATIENCE = 4.0
"""Seconds without a line of the answer after which it is asked for again."""
_TRIES = 8
_OPENED = 5.0
_HELLO = 3.0
_HELLOS = 4
_CURE = "Look at `clone.console()`: a shell of root has to stand at its prompt there"


class Talk:
    """A conversation, from the shell's prompt back to it; a context manager.

    Parameters
    ----------
    terminal : Terminal
        The console; it is closed at the end.
    name : str
        The guest's, for errors.
    login : (str, str), optional
        User and password, for a console that asks for them; logged out again at the end.

    Raises
    ------
    GuestError
        If no shell answers, or nobody is logged in.
    """

    def __init__(self, terminal: Terminal, name: str, login: Login | None = None) -> None:
        self._terminal, self._name = terminal, name
        self._token = secrets.token_hex(8)
        self._number = 0
        self._logged_in = False
        self._piece = _MOST // 8
        self._answer = re.compile(rf"{self._token} (\d+) (.*) \.".encode())
        self._data = re.compile(rf"{self._token[:4]}:([A-Za-z0-9+/=]{{1,100}})".encode())
        self._lines = Lines(terminal)
        try:
            self._begin(login)
        except BaseException:
            self._lines.close()
            raise

    # Beginning and end.

    def _begin(self, login: Login | None) -> None:
        first, program = _wrapped(START.encode()), _wrapped(SERVE.encode())
        for attempt in range(1, _HELLOS + 1):
            token = secrets.token_hex(8)
            halves = token[:8], token[8:]
            # Erase what stands half typed; end a conversation that was left standing by a process of ours that died.
            self._terminal.write(b"\x15" + b"\n" * (1 if attempt < 3 else 40))
            # QEMU looks once a second whether a console was opened; what is typed too soon at a login is a user's name.
            where = prompt(self._lines, _OPENED, or_else=True)
            if where == "login":
                self._logged_in = log_in(self._terminal, self._lines, self._name, login)
            self._terminal.write(
                b" o=$(stty -g 2>/dev/null);stty -echo 2>/dev/null;printf '\\n%s%s\\n' "
                + f"{halves[0]} {halves[1]};".encode()
                + f'sh -c "$(head -n {len(first)}|base64 -d)" rwb {self._token} "$o" {len(program)}'.encode()
                + b';stty "$o" 2>/dev/null\n'
            )
            if self._heard(token.encode()):
                self._terminal.write(b"".join(first + program))
                if self._ready():
                    return
        raise GuestError(
            f"no shell answers at the console of {self._name}",
            last=self._lines.unfinished[-80:].decode("ascii", "backslashreplace"),
            cure=_CURE,
        )

    def _heard(self, token: bytes) -> bool:
        until = time.monotonic() + _HELLO
        while (line := self._lines.next(until)) is not None:
            if line.endswith(token):
                return True
        return False

    def _ready(self) -> bool:
        words = self._words(0, _HELLO)
        if words == ["nodir"]:
            raise GuestError(f"{self._name} has no directory to work in", cure="Make /tmp writable in it")
        return words == ["ready"]

    def close(self) -> None:
        """Have the guest remove its directory, and leave the console at its prompt."""
        try:
            self.ask("q")
            if self._logged_in:
                self._terminal.write(b"exit\n")
                prompt(self._lines, 1.0)
        except GuestError:
            self._terminal.write(b"\n.\n")  # whatever stands there: this is no request of ours, and ends it
        finally:
            self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # Requests.

    def ask(self, *words: object, payload: bytes = b"") -> list[str]:
        """Return the words of the answer to a request.

        Raises
        ------
        OutcomeUnknownError
            If none comes.
        """
        self._number += 1
        request = f"{self._token} {self._number} {' '.join(map(str, words))}\n".encode()
        for attempt in range(_TRIES):
            self._terminal.write(b"\n" * (40 if payload and attempt else 0) + request + payload)
            found = self._words(self._number, _PATIENCE)
            if found is not None:
                return found
        raise self._silent()

    def _words(self, number: int, patience: float) -> list[str] | None:
        until = time.monotonic() + patience
        while (line := self._lines.next(until)) is not None:
            found = self._answer.search(line)
            if found is not None and int(found[1]) == number:
                return found[2].decode("ascii", "replace").split()
        return None

    def _silent(self) -> OutcomeUnknownError:
        ended = " (the console has ended)" if self._lines.ended else ""
        return OutcomeUnknownError(
            f"the shell at the console of {self._name} does not answer any more{ended}", cure=_CURE
        )

    def wait_ended(self, seconds: float) -> bool:
        """Wait until the guest says of itself that the command has ended, or for some seconds."""
        return self._words(0, seconds) == ["ended"]

    # Content.

    def send(self, name: str, data: bytes) -> None:
        """Append data to a file in the guest's directory; every piece is compared there.

        Raises
        ------
        GuestError
            If the guest has no room, or pieces do not arrive whole.
        """
        for start in range(0, len(data), _PIECE):
            part = data[start : start + _PIECE]
            lines = _wrapped(part)
            for _ in range(_TRIES):
                answer = self.ask("w", name, len(lines), hashlib.sha256(part).hexdigest(), payload=b"".join(lines))
                if answer != ["bad"]:
                    break
            if answer != ["ok"]:
                why = "it has no room" if answer == ["full"] else "what is sent does not arrive whole"
                raise GuestError(f"writing into {self._name} failed: {why}", cure=_CURE)

    def fetch(self, name: str, size: int) -> bytes:
        """Return the first `size` bytes of a file in the guest's directory.

        Raises
        ------
        GuestError
            If they do not arrive whole.
        """
        found = bytearray()
        while len(found) < size:
            piece = self._piece_at(name, len(found), size - len(found))
            if not piece:
                raise GuestError(f"{name} of {self._name} is shorter than it was", expected=size, found=len(found))
            found += piece
        return bytes(found[:size])

    def _piece_at(self, name: str, offset: int, left: int) -> bytes:
        """Return a piece, asking again for one that was written into; offsets are whole KiB but at the end."""
        for _ in range(4 * _TRIES):
            length = min(self._piece, -(-left // 1024) * 1024)
            piece = self._try_piece(name, offset // 1024, length // 1024)
            if piece is not None:
                self._piece = min(_MOST, self._piece * 2)
                return piece
            self._piece = max(_LEAST, self._piece // 4)
        raise self._silent()

    def _try_piece(self, name: str, skip: int, count: int) -> bytes | None:
        self._number += 1
        self._terminal.write(f"{self._token} {self._number} r {name} {skip} {count}\n".encode())
        parts: list[bytes] = []
        until = time.monotonic() + _PATIENCE
        while (line := self._lines.next(until)) is not None:
            until = time.monotonic() + _PATIENCE if (data := self._data.fullmatch(line)) else until
            if data is not None and len(parts) * 57 <= count * 1024:
                parts.append(data[1])
            ended = self._answer.search(line)
            if ended is not None and int(ended[1]) == self._number:
                return _checked(parts, ended[2].decode("ascii", "replace").split())
        return None


def _checked(parts: list[bytes], answer: list[str]) -> bytes | None:
    try:
        piece = b"".join(base64.b64decode(each, validate=True) for each in parts)
    except ValueError:
        return None
    return piece if answer == ["data", hashlib.sha256(piece).hexdigest()] else None


def _wrapped(data: bytes) -> list[bytes]:
    plain = base64.b64encode(data)
    return [plain[start : start + _LINE] + b"\n" for start in range(0, len(plain), _LINE)]
