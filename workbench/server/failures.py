"""Every error as a status and a body that says what happened and what to do.

Refuses to show an error of its own making in more than words: those go to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from workbench import errors
from workbench.errors import WorkbenchError
from workbench.server.bodies import ErrorBody
from workbench.service.hub import Forbidden

__all__ = ["ANSWERS", "answer", "install", "status_of"]

_STATUS: tuple[tuple[type[WorkbenchError], int], ...] = (
    (Forbidden, 403),
    (errors.MomentNotFoundError, 404),
    (errors.GuestNotFoundError, 404),
    (errors.AmbiguousMomentError, 409),
    (errors.ConfirmationError, 409),
    (errors.GuestBusyError, 409),
    (errors.StoreBusyError, 409),
    (errors.GuestGoneError, 409),
    (errors.HypervisorLostError, 503),
    (errors.UsageError, 400),
    (errors.UnsupportedError, 409),
    (errors.OutcomeUnknownError, 504),
    (errors.StoreFullError, 507),
    (errors.GuestError, 503),
)
_WORDS = {
    400: "the request cannot be meant as it stands", 401: "who asks is not known", 403: "not allowed to the caller",
    404: "no such thing, or not for the caller", 405: "not this method", 409: "not now, or not without more",
    413: "the body is too large", 416: "the file has no such range", 422: "fields are wrong",
    429: "too many requests", 500: "the service failed",
    503: "the guest or libvirt failed", 504: "the outcome is not known", 507: "no space is left",
}  # fmt: skip
_CURES = {
    400: "Send it otherwise: see /openapi.json.", 401: "Send a token (Authorization: Bearer ...), or be a known user.",
    403: "Ask an admin of the service for the role.", 404: "See GET /guests, /timeline and /openapi.json for what is.",
    409: "See GET /capture-status, and ask again.", 429: "Come again after Retry-After seconds.",
    500: "See the service's log.", 503: "See GET /capture-status.", 504: "See GET /timeline for what was done.",
    507: "Make room on the case's volume.",
}  # fmt: skip
"""Where an error has no cure of its own."""
ANSWERS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorBody, "description": words} for code, words in _WORDS.items()
}
"""For the OpenAPI document: every error has the same body."""
_log = logging.getLogger("workbench.server")


def status_of(error: WorkbenchError) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def answer(
    status: int,
    kind: str,
    message: str,
    cure: str = "",
    facts: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error as an answer."""
    told = {name: str(value)[:300] for name, value in (facts or {}).items()}
    cure = cure or _CURES.get(status, "See /openapi.json for what there is.")
    body = {"error": {"kind": kind, "message": message, "cure": cure, "facts": told}}
    return JSONResponse(body, status, headers=dict(headers or {}))


def install(app: FastAPI) -> None:
    """Let an application answer errors so."""

    @app.exception_handler(WorkbenchError)
    async def _ours(_request: Request, error: WorkbenchError) -> JSONResponse:
        return answer(status_of(error), type(error).__name__, error.message, error.cure, error.facts)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        told = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()[:20]]
        return answer(422, "ValidationError", "; ".join(told), "See /openapi.json for what is expected.")

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        words = _WORDS.get(error.status_code, str(error.detail))
        return answer(error.status_code, "HTTPError", words, headers=error.headers)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(500, "InternalError", "the service failed")
