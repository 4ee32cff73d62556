"""The application: paths, errors, and bounds that hold before a request is read.

Refuses bodies over the limit while they arrive, and has no page, no CORS header and no cookie.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import workbench
from workbench.server import acts, looks
from workbench.server.callers import RateLimit
from workbench.server.failures import ANSWERS, answer, install
from workbench.service.hub import Service

__all__ = ["create_app"]


def create_app(service: Service) -> FastAPI:
    """Return the application over a service, which the caller starts and closes."""
    app = FastAPI(
        title="rewind workbench",
        version=workbench.__version__,
        description="Capture guests, see how that goes, and go back.",
        docs_url=None,  # its page would ask other machines for its scripts
        redoc_url=None,
        responses=ANSWERS,
    )
    app.state.service = service
    app.state.limit = RateLimit(service.settings.limits.requests_per_minute)
    app.include_router(acts.router)
    app.include_router(looks.router)
    install(app)
    app.add_middleware(_Bounded, most=service.settings.limits.body_bytes)

    @app.get("/healthz", responses={200: {"description": "the service answers"}})
    def healthz() -> dict[str, str]:
        """Say that the service answers; nothing of guests, so nobody has to be known for it."""
        return {"status": "ok"}

    return app


class _TooLargeError(Exception):
    """A body went over the limit while it arrived."""


class _Bounded:
    """Ends requests whose body is larger than allowed, whatever they said of its length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if self._stated(scope) > self._most:
                raise _TooLargeError
            await self._app(scope, counted, noted)
        except _TooLargeError:
            if begun:
                raise
            said = answer(413, "HTTPError", "the body is too large", f"Send at most {self._most} bytes.")
            await said(scope, receive, send)

    @staticmethod
    def _stated(scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and len(value) < 20:
                return int(value)
        return 0
