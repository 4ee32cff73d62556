"""Who asks: a bearer token, or the user at the other end of the unix socket; and not too often.

Refuses a wrong token even where the socket's user would do: whoever sends one means it. There are no cookies, so no
page of another origin can borrow a user's rights, and no CORS headers.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from workbench.service.hub import Service
from workbench.service.identity import Caller, Role
from workbench.service.settings import Listen

__all__ = ["Asking", "PeerProtocol", "RateLimit", "Reading", "ServiceOf", "caller_of", "service_of"]

_UID = "uid:"
_MOST_CALLERS = 10_000


class PeerProtocol(H11Protocol):
    """HTTP over a socket whose other end's user the kernel tells (SO_PEERCRED, unix(7))."""

    def connection_made(self, transport: Any) -> None:
        """Take note of who is there."""
        super().connection_made(transport)
        end = transport.get_extra_info("socket")
        if end is not None and end.family == socket.AF_UNIX:
            told = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            _pid, uid, _gid = struct.unpack("3i", told)
            self.client = (f"{_UID}{uid}", 0)


class RateLimit:
    """So many requests a minute for each caller, in bursts of a tenth of that.

    Parameters
    ----------
    per_minute : int
    clock : callable
        Gives seconds, of a steady clock.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._burst = max(1.0, per_minute / 10)
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str) -> float:
        """Take one request of a caller; returns 0, or the seconds after which to come again."""
        now = self._clock()
        with self._lock:
            left, at = self._left.pop(name, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._rate)
            allowed = left >= 1
            self._left[name] = (left - 1 if allowed else left, now)
            if len(self._left) > _MOST_CALLERS:
                self._left.popitem(last=False)
            return 0.0 if allowed else (1 - left) / self._rate


def service_of(request: Request) -> Service:
    """Return the service that answers."""
    found: Service = request.app.state.service
    return found


def caller_of(request: Request) -> Caller:
    """Return who asks for something else than the case's files.

    Raises
    ------
    HTTPException
        As `_caller`.
    """
    return _caller(request, request.app.state.limit)


def _reader_of(request: Request) -> Caller:
    """Return who reads the case's files: small parts of them, so there are many requests."""
    return _caller(request, request.app.state.reading)


def _caller(request: Request, limit: RateLimit) -> Caller:
    """Return who asks.

    Raises
    ------
    HTTPException
        401 if that is not known; 429 if it asks too often.
    """
    service = service_of(request)
    found = _by_token(request, service) or _by_user(request, service.settings.listen)
    seconds = limit.wait(found.name if found else f"nobody:{request.client.host if request.client else ''}")
    if seconds:
        raise HTTPException(429, headers={"Retry-After": str(int(seconds) + 1)})
    if found is None:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
    return found


def _by_token(request: Request, service: Service) -> Caller | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    kind, _, secret = header.partition(" ")
    found = service.tokens.recognise(secret.strip()) if kind.lower() == "bearer" else None
    if found is None:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
    return found


def _by_user(request: Request, listen: Listen) -> Caller | None:
    host = request.client.host if request.client else ""
    if not host.startswith(_UID):
        return None
    uid = int(host.removeprefix(_UID))
    if uid in (0, os.geteuid()):
        return Caller(host, Role.ADMIN)
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    role = listen.users.get(str(uid)) or listen.users.get(name)
    return Caller(host, Role.named(role)) if role else None


Asking = Annotated[Caller, Depends(caller_of)]
Reading = Annotated[Caller, Depends(_reader_of)]
ServiceOf = Annotated[Service, Depends(service_of)]
