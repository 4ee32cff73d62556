"""Whether a guest is well: asked over HTTP, by a TCP connection, or by a command inside.

A probe says in words what is wrong, or nothing. What answers is the guest: nothing of its answer is read but the
status. Refuses to follow redirects and to use proxies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from workbench.errors import CommandTimeoutError, UsageError, WorkbenchError
from workbench.guest.connection import Guest
from workbench.inside.run import run_in

__all__ = ["CommandProbe", "HttpProbe", "Probe", "TcpProbe", "probe_of", "words_of"]


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Well if a GET answers with a status from 200 to 399.

    Attributes
    ----------
    url : str
        http or https; certificates are checked.
    timeout : float
        Seconds, for all of it.
    """

    url: str
    timeout: float = 5.0

    def check(self, _guest: Callable[[], Guest]) -> str:
        """Return what is wrong; nothing where all is well."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        over = threading.Event()
        end = threading.Timer(self.timeout, _cut, (connection, over))  # an answer that trickles in would have no end
        end.start()
        try:
            connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
            status = connection.getresponse().status
            if over.is_set():  # what was cut off is no answer
                return f"{self.url} does not answer: TimeoutError"
        except (OSError, ValueError, http.client.HTTPException) as error:
            return f"{self.url} does not answer: {type(error).__name__}"
        finally:
            end.cancel()
            connection.close()
        return "" if 200 <= status < 400 else f"{self.url} answers {status}"


def _cut(connection: http.client.HTTPConnection, over: threading.Event) -> None:
    over.set()  # before whoever reads finds the end
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Well if a connection is accepted.

    Attributes
    ----------
    host : str
    port : int
    timeout : float
        Seconds.
    """

    host: str
    port: int
    timeout: float = 5.0

    def check(self, _guest: Callable[[], Guest]) -> str:
        """Return what is wrong; nothing where all is well."""
        try:
            with socket.create_connection((self.host, self.port), self.timeout):
                return ""
        except OSError as error:
            return f"{self.host}:{self.port} does not accept: {type(error).__name__}"


@dataclass(frozen=True, slots=True)
class CommandProbe:
    """Well if a command in the guest ends with exit code 0.

    Attributes
    ----------
    cmd : str
        A script for its `sh`.
    timeout : float
        Seconds.
    """

    cmd: str
    timeout: float = 10.0

    def check(self, guest: Callable[[], Guest]) -> str:
        """Return what is wrong; nothing where all is well."""
        try:
            code = run_in(guest(), self.cmd, timeout=self.timeout, max_output=4096).exit_code
        except CommandTimeoutError:
            return f"the command is not done within {self.timeout:g} s"
        except WorkbenchError as error:
            return f"the command cannot be run: {error.message}"
        return "" if code == 0 else f"the command ends with {code}"


Probe = HttpProbe | TcpProbe | CommandProbe
_KINDS: dict[str, type[Probe]] = {"http": HttpProbe, "tcp": TcpProbe, "command": CommandProbe}


def words_of(probe: Probe | None) -> dict[str, Any]:
    """Return a probe as JSON has it.

    Raises
    ------
    UsageError
        If it cannot be meant.
    """
    if probe is None:
        return {}
    if not isinstance(probe, HttpProbe | TcpProbe | CommandProbe):
        raise UsageError("no probe", found=str(probe)[:100], cure="A probe by its name is known to a service alone.")
    if not 0 < probe.timeout <= 3600:
        raise UsageError("a probe takes up to an hour", found=probe.timeout)
    if isinstance(probe, HttpProbe) and not _is_address(probe.url):
        raise UsageError("a probe asks an http or https address", found=probe.url)
    if isinstance(probe, TcpProbe) and not 0 < probe.port < 65536:
        raise UsageError("no TCP port", found=probe.port)
    name = next(name for name, kind in _KINDS.items() if isinstance(probe, kind))
    return {"kind": name, **dataclasses.asdict(probe)}


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    told = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    return told and url.isascii() and url.isprintable() and " " not in url and parts.username is None


def probe_of(words: dict[str, Any]) -> Probe | None:
    """Return the probe that `words_of` told."""
    if not words:
        return None
    rest = {key: value for key, value in words.items() if key != "kind"}
    return _KINDS[words["kind"]](**rest)
