"""Whether a guest is well: asked over HTTP, by a TCP connection, or by a command inside.

A probe says in words what is wrong, or nothing. What answers is the guest: nothing of its answer is read but the
status. Refuses to follow redirects and to use proxies.
"""

from __future__ import annotations

import dataclasses
import http.client
import socket
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
        Seconds.
    """

    url: str
    timeout: float = 5.0

    def check(self, _guest: Callable[[], Guest]) -> str:
        """Return what is wrong; nothing where all is well."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        try:
            connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"{self.url} does not answer: {type(error).__name__}"
        finally:
            connection.close()
        return "" if 200 <= status < 400 else f"{self.url} answers {status}"


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
    if not 0 < probe.timeout <= 3600:
        raise UsageError("a probe takes up to an hour", found=probe.timeout)
    if isinstance(probe, HttpProbe) and (
        urlsplit(probe.url).scheme not in ("http", "https") or not urlsplit(probe.url).hostname
    ):
        raise UsageError("a probe asks an http or https address", found=probe.url)
    if isinstance(probe, TcpProbe) and not 0 < probe.port < 65536:
        raise UsageError("no TCP port", found=probe.port)
    name = next(name for name, kind in _KINDS.items() if isinstance(probe, kind))
    return {"kind": name, **dataclasses.asdict(probe)}


def probe_of(words: dict[str, Any]) -> Probe | None:
    """Return the probe that `words_of` told."""
    if not words:
        return None
    rest = {key: value for key, value in words.items() if key != "kind"}
    return _KINDS[words["kind"]](**rest)
