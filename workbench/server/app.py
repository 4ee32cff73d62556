"""The application: paths, errors, and bounds that hold before a request is read.

Refuses bodies over the limit while they arrive, and has no page, no CORS header and no cookie.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import workbench
from workbench.server import acts, content, looks, trials
from workbench.server.callers import RateLimit
from workbench.server.failures import ANSWERS, answer, install
from workbench.service.content import Contents
from workbench.service.hub import Service

__all__ = ["create_app"]

_PARTS = 50
"""How many parts of the case's files may be read for every other request."""


def create_app(service: Service, clock: Callable[[], float] = time.monotonic) -> FastAPI:
    """Return the application over a service, which the caller starts and closes; `clock` is that of rate limits."""
    app = FastAPI(
        title="rewind workbench",
        version=workbench.__version__,
        description="Capture guests, see how that goes, and go back.",
        docs_url=None,  # its page would ask other machines for its scripts
        redoc_url=None,
        responses=ANSWERS,
    )
    app.state.service = service
    app.state.limit = RateLimit(service.settings.limits.requests_per_minute, clock)
    app.state.reading = RateLimit(_PARTS * service.settings.limits.requests_per_minute, clock)
    app.state.contents = Contents(service.settings.case)
    app.include_router(acts.router)
    app.include_router(looks.router)
    app.include_router(trials.router)
    app.include_router(content.router)
    install(app)
    app.add_middleware(_Bounded, most=service.settings.limits.body_bytes)

    @app.get("/healthz", responses={200: {"description": "the service answers"}})
    def healthz() -> dict[str, str]:
        """Say that the service answers; nothing of guests, so nobody has to be known for it."""
        return {"status": "ok"}

    return app


class _Bounded:
    """Reads a request's body before anything else does, and ends those that are too large, whatever they said."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._read(receive)
        if body is None:
            said = answer(413, "HTTPError", "the body is too large", f"Send at most {self._most} bytes.")
            await said(scope, receive, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()  # only the end of the connection can follow
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    async def _read(self, receive: Receive) -> bytes | None:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                return None
            more = message.get("more_body", False)
        return b"".join(parts)
