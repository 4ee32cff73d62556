"""Addresses of services, and how one is got at.

Refuses plain HTTP to another machine, and passwords in an address. A token is in no text that is made of what holds it.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workbench.errors import UsageError

__all__ = ["Access", "checked_address", "is_address"]

_SCHEMES = ("unix://", "https://", "http://")


@dataclass(frozen=True, slots=True)
class Access:
    """How a service is got at. Its token is in no text that is made of it.

    Attributes
    ----------
    token : str
        Sent as a bearer token; empty where the socket's user is enough.
    ca : str
        Path of a file of certificates (PEM) that alone vouch for the service; empty for the system's own.
    """

    token: str = field(default="", repr=False)
    ca: str = ""

    @classmethod
    def of_environment(cls) -> Access:
        """Return what `WORKBENCH_TOKEN` (or the file `WORKBENCH_TOKEN_FILE`) and `WORKBENCH_CA` say.

        Raises
        ------
        UsageError
            If the file cannot be read.
        """
        token = os.environ.get("WORKBENCH_TOKEN", "")
        path = os.environ.get("WORKBENCH_TOKEN_FILE", "")
        if not token and path:
            token = _token_in(Path(path))
        return cls(token.strip(), os.environ.get("WORKBENCH_CA", ""))


def _token_in(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the file of the token cannot be read", path=str(path), cure="See WORKBENCH_TOKEN_FILE."
        ) from (
            error if isinstance(error, OSError) else None  # the other one would show what is in it
        )


def is_address(location: object) -> bool:
    """Tell whether this is a service's address rather than a path."""
    return isinstance(location, str) and location.startswith(_SCHEMES)


def checked_address(address: str) -> str:
    """Return an address as it is compared with others.

    Raises
    ------
    UsageError
        If it is none, or plain HTTP to another machine. Its own text is not repeated: it may hold a password.
    """
    parts = _parts(address)
    if parts.scheme == "unix":
        if not parts.path.startswith("/") or parts.netloc or parts.query or parts.fragment:
            raise UsageError("not the address of a socket", cure="Write unix:///run/workbench/api.sock.")
        return f"unix://{parts.path}"
    if parts.username is not None or parts.password is not None:
        raise UsageError("an address holds no user and no password", cure="Give the token by itself.")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError("not the address of a service", cure="Write https://HOST:PORT.")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise UsageError("without TLS only this machine itself can be asked", cure="Write https://.")
    return f"{parts.scheme}://{parts.netloc}"


def _parts(address: str) -> Any:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise UsageError("not the address of a service", cure="Write https://HOST:PORT.") from None
    if parts.scheme not in ("unix", "https", "http") or not address.isprintable():
        raise UsageError("not the address of a service", cure="Write unix:///PATH or https://HOST:PORT.")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
