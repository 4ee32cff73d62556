"""HTTP to a service: connections that are kept, answers within bounds, errors with their cure.

Refuses redirects, encodings, answers longer than was agreed or slower than a deadline, and a host whose certificate
does not fit. What only looks is asked again where a connection is lost; what acts is not: its outcome is then called
unknown.
"""

from __future__ import annotations

import json
import ssl
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2

from workbench.errors import OutcomeUnknownError, StoreError, UsageError, WorkbenchError
from workbench.store.address import Access, checked_address
from workbench.store.told import as_error

__all__ = ["Link", "Reply"]

_WAITS = (0.1, 0.4, 1.6, 3.2)
"""Seconds before what only looks is asked again."""
_LONGEST_WAIT = 30.0
_ERROR_BYTES = 64 << 10
_ANSWER_BYTES = 16 << 20
_LINE_BYTES = 1 << 20
_CALL_S = 180.0
"""Seconds that an answer of ordinary size may take."""
_SLOWEST = 100_000
"""Bytes a second below which a large answer is given up."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, its headers by lower-case name, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Link:
    """A service that can be asked, by many threads; connections are kept.

    Parameters
    ----------
    address : str
        `unix:///PATH`, `https://HOST:PORT`, or `http://` on loopback.
    access : Access
    patience : float
        Seconds that a connection, or the next bytes of an answer, may take.

    Raises
    ------
    UsageError
        If the address or the file of certificates is none.
    """

    def __init__(self, address: str, access: Access, *, patience: float = 60.0) -> None:
        self.address = checked_address(address)
        self.access = access
        headers = {"Accept-Encoding": "identity", "User-Agent": "rewind-workbench"}
        if access.token:
            if not access.token.isascii() or not access.token.isprintable() or " " in access.token:
                raise UsageError("that is no token", cure="Give the token as it was shown when it was made.")
            headers["Authorization"] = f"Bearer {access.token}"
        unix = self.address.startswith("unix://")
        transport = httpx2.HTTPTransport(
            verify=_trust(access.ca) if self.address.startswith("https://") else False,
            uds=self.address.removeprefix("unix://") if unix else None,
            trust_env=False,
        )
        self._client = httpx2.Client(
            transport=transport,
            base_url="http://service" if unix else self.address,
            headers=headers,
            timeout=patience,
            trust_env=False,
        )
        weakref.finalize(self, self._client.close)  # whoever forgets to close leaves no connection behind

    def __repr__(self) -> str:
        return f"<Link {self.address!r}>"

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    # Looking.

    def read(
        self,
        path: str,
        *,
        most: int = _ANSWER_BYTES,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Reply:
        """Return the answer to a GET, whatever its status below 300; a lost connection is asked again.

        Parameters
        ----------
        most : int
            Bytes that the body may have.

        Raises
        ------
        StoreError
            If the service cannot be reached, is not to be trusted, or its answer is not as agreed.
        WorkbenchError
            What the service says is wrong: as it says it.
        """
        return self._patiently(lambda: self._once("GET", path, None, dict(params or {}), dict(headers or {}), most))

    def look(self, path: str, **params: str | int) -> dict[str, Any]:
        """Return the JSON object that a GET answers.

        Raises
        ------
        As `read`.
        """
        return _object(self.read(path, params=params))

    # Acting.

    def act(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], str]:
        """Do something, once; return the JSON object and the address of the job, where there is one.

        Raises
        ------
        StoreError
            If the service cannot be reached: nothing was done.
        OutcomeUnknownError
            If the answer was lost.
        WorkbenchError
            What the service says is wrong.
        """
        failure: WorkbenchError
        try:
            reply = self._once(method, path, body, {}, {}, _ANSWER_BYTES)
            return (_object(reply) if reply.body else {}), reply.headers.get("location", "")
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failure = self._unreachable(error)
        except httpx2.TransportError as error:
            failure = OutcomeUnknownError(
                "the service did not answer", service=self.address, cause=_words(error), cure="Look at its timeline."
            )
        raise failure  # as in `_patiently`

    def follow(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the JSON objects of a stream of events (server-sent events, HTML standard 9.2) until it ends.

        Raises
        ------
        StoreError
            If the connection is lost; whoever follows asks again.
        """
        try:
            with self._client.stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
                self._check(response)
                for line in _lines(response):
                    if line.startswith(b"data:"):
                        yield _decoded(line[5:])
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None

    # What both share.

    def _patiently(self, act: Callable[[], T]) -> T:
        for wait in (*_WAITS, None):
            try:
                return act()
            except httpx2.TransportError as error:
                failure, least, hopeless = self._unreachable(error), 0.0, _distrusts(error) is not None
            except _BusyError as error:
                failure, least, hopeless = error, min(_LONGEST_WAIT, error.seconds), False
            if wait is None or hopeless:
                raise failure  # out here: an error that is kept must not keep the library's sockets
            time.sleep(max(wait, least))
        raise AssertionError("the last turn returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: dict[str, str | int],
        headers: dict[str, str],
        most: int,
    ) -> Reply:
        end = time.monotonic() + _CALL_S + most / _SLOWEST
        with self._client.stream(method, path, json=body, params=params, headers=headers) as response:
            self._check(response)
            data = _body(response, most, end)
            return Reply(response.status_code, {key.lower(): value for key, value in response.headers.items()}, data)

    def _check(self, response: httpx2.Response) -> None:
        """Raise what an answer that is an error says."""
        status = response.status_code
        if 200 <= status < 300:
            return
        if status == 429:
            raise _BusyError(_seconds(response.headers.get("retry-after", "")))
        if status == 401:
            raise UsageError(
                "the service does not know who asks",
                service=self.address,
                cure="Give a token that it made: token=..., or WORKBENCH_TOKEN.",
            )
        if 300 <= status < 400:
            raise StoreError(
                "the service answers with a redirect", service=self.address, cure="Name the service itself."
            )
        body = _body(response, _ERROR_BYTES, time.monotonic() + _CALL_S)
        raise as_error(_told(body), status)

    def _unreachable(self, error: httpx2.TransportError) -> StoreError:
        why = _distrusts(error)
        if why is not None:
            return StoreError(
                f"the service's certificate is not to be trusted: {why}",
                service=self.address,
                cure="Name the certificates that vouch for it: ca=..., or WORKBENCH_CA.",
            )
        return StoreError(
            "the service cannot be reached",
            service=self.address,
            cause=_words(error),
            cure="See that `workbench serve` runs there and may be reached.",
        )


class _BusyError(StoreError):
    """The service asks to come again later."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the service is asked too often", cure="Wait, or raise its requests_per_minute.")
        self.seconds = seconds


def _trust(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError("the file of certificates cannot be read", path=ca, cure="Name a PEM file.") from error


def _distrusts(error: BaseException) -> str | None:
    """Return why a certificate was refused, where that is what failed."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return str(seen.verify_message)[:200]
        seen = seen.__cause__ or seen.__context__
    return None


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() and len(text) < 6 else 1.0


def _body(response: httpx2.Response, most: int, end: float) -> bytes:
    """Return a body of at most `most` bytes as it came.

    Raises
    ------
    StoreError
        If it is longer, encoded, or not there in time.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise StoreError("the service answers in an encoding that was not asked for", cure="Ask who runs it.")
    data = bytearray()
    for part in response.iter_raw():
        data += part
        if len(data) > most:
            raise StoreError("the service's answer is longer than was agreed", most=most, cure="Ask who runs it.")
        if time.monotonic() > end:
            raise StoreError("the service's answer takes too long", bytes=len(data), cure="Try again later.")
    return bytes(data)


def _lines(response: httpx2.Response) -> Iterator[bytes]:
    rest = b""
    for part in response.iter_raw():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise StoreError("the service's answer is longer than was agreed", most=_LINE_BYTES)
        yield from lines


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise StoreError("the service's answer is not what a workbench says", cure="See that the address is right.")
    return found


def _object(reply: Reply) -> dict[str, Any]:
    return _decoded(reply.body)


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)["error"]
        return told if isinstance(told, dict) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
