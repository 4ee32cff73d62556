"""Who asks: named tokens with a role, and users of this machine by their user id.

A token is 32 random bytes; only its SHA-256 is kept (a random secret of that length needs no slow hash), and tokens are
compared in constant time. Refuses to keep, print or log a token: it is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from workbench.errors import DamagedError, UsageError
from workbench.service.files import replace

__all__ = ["Caller", "Role", "Token", "Tokens"]

_PREFIX = "wb_"
_NAME = 64


class Role(IntEnum):
    """What a caller may do; each may do what those below may.

    A viewer looks; an operator captures, marks, clones and rewinds; an admin changes configuration and tokens.
    """

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, word: str) -> Role:
        """Return the role called `word`.

        Raises
        ------
        UsageError
            If there is none.
        """
        try:
            return cls[word.upper()]
        except KeyError:
            raise UsageError(f"no role {word!r}", known=", ".join(each.name.lower() for each in cls)) from None


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was recognised.

    Attributes
    ----------
    name : str
        For the audit log: "token:siem", "uid:1000".
    role : Role
    guests : frozenset of str
        Names or UUIDs of the guests that it may see; empty for all.
    """

    name: str
    role: Role
    guests: frozenset[str] = frozenset()

    def sees(self, *names: str) -> bool:
        """Tell whether a guest of one of these names is for this caller."""
        return not self.guests or any(name in self.guests for name in names)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept.

    Attributes
    ----------
    name, role : str
    digest : str
        SHA-256 of the token, hexadecimal.
    guests : tuple of str
        Empty for all.
    made_ns : int
        When (UTC, ns since the epoch).
    """

    name: str
    role: str
    digest: str
    guests: tuple[str, ...] = ()
    made_ns: int = 0


class Tokens:
    """The tokens of a service, in one file; read again when it changed.

    Parameters
    ----------
    path : Path
        A JSON file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read_at: tuple[int, int] | None = None
        self._tokens: tuple[Token, ...] = ()

    def all(self) -> tuple[Token, ...]:
        """Return every token as it is kept.

        Raises
        ------
        DamagedError
            If the file is no list of tokens.
        """
        with self._lock:
            return self._fresh()

    def make(self, name: str, role: str, guests: Iterable[str] = ()) -> str:
        """Make a token and return it: the only time that it is seen.

        Raises
        ------
        UsageError
            If the name is taken or cannot be one, or there is no such role.
        """
        if not name or len(name) > _NAME or not name.isprintable():
            raise UsageError("a token needs a printable name", found=name[:80], most=_NAME)
        secret = _PREFIX + secrets.token_urlsafe(32)
        kept = Token(name, Role.named(role).name.lower(), _digest(secret), tuple(guests), time.time_ns())
        with self._lock:
            known = self._fresh()
            if any(each.name == name for each in known):
                raise UsageError(f"a token {name!r} exists", cure="Remove it first, or choose another name.")
            self._write((*known, kept))
        return secret

    def remove(self, name: str) -> None:
        """Make a token worthless.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        with self._lock:
            known = self._fresh()
            left = tuple(each for each in known if each.name != name)
            if len(left) == len(known):
                raise UsageError(f"no token {name!r}", known=", ".join(each.name for each in known) or "none")
            self._write(left)

    def recognise(self, secret: str) -> Caller | None:
        """Return whose token this is, or None."""
        digest, found = _digest(secret), None
        for token in self.all():  # all of them, so that the time tells nothing
            if hmac.compare_digest(token.digest, digest):
                found = token
        if found is None:
            return None
        return Caller(f"token:{found.name}", Role.named(found.role), frozenset(found.guests))

    def _fresh(self) -> tuple[Token, ...]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._tokens, self._read_at = (), None
            return ()
        sign = (stat.st_mtime_ns, stat.st_size)
        if sign != self._read_at:
            self._tokens = tuple(_decoded(self.path))
            self._read_at = sign
        return self._tokens

    def _write(self, tokens: tuple[Token, ...]) -> None:
        replace(self.path, json.dumps([asdict(each) for each in tokens], indent=1).encode())
        self.path.chmod(0o600)
        self._read_at = None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _decoded(path: Path) -> Iterable[Token]:
    try:
        return [_token(each) for each in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError, UsageError) as error:
        raise DamagedError("the file of tokens cannot be read", path=str(path), cure="Make new tokens.") from error


def _token(told: Mapping[str, Any]) -> Token:
    role = Role.named(str(told["role"])).name.lower()
    guests = tuple(str(each) for each in told["guests"])
    return Token(str(told["name"]), role, str(told["digest"]), guests, int(told["made_ns"]))
