"""Paths that only look: status, guests, timelines, captures, clones, jobs, the audit log, metrics, health.

Refuses to return a timeline of any length at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from workbench.server.bodies import (
    AuditLines,
    CaptureList,
    CaptureTold,
    CloneList,
    ConfigurationAnswer,
    GuestList,
    JobAnswer,
    StatusAnswer,
)
from workbench.server.callers import Asking, ServiceOf
from workbench.server.metrics import KIND, exposition
from workbench.service.jobs import Job

__all__ = ["router"]

router = APIRouter()
_BEAT_S = 10.0
_LOOK_S = 0.1
Guest = Annotated[str, Query(min_length=1, max_length=200)]
Many = Annotated[int, Query(ge=1, le=10_000)]
Since = Annotated[int, Query(ge=0, le=2**63 - 1, description="UTC, ns since the epoch.")]


@router.get("/capture-status", response_model=StatusAnswer)
def status(caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Tell of every guest what was asked, what is achieved, and how it is in one word."""
    return {"guests": service.status(caller), "budget": service.budgeted(caller), "upkeep": service.upkeep.state}


@router.get("/capture-config", response_model=ConfigurationAnswer, response_model_by_alias=True)
def configuration(caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Return the current configuration."""
    version, current = service.configuration(caller)
    return {"version": version, "guests": current.guests}


@router.get("/guests", response_model=GuestList)
def guests(caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Return every guest that runs, is configured, or has captures."""
    return {"guests": service.guests(caller)}


@router.get("/timeline", response_model=CaptureList)
def timeline(guest: Guest, caller: Asking, service: ServiceOf, since_ns: Since = 0, limit: Many = 1_000) -> Any:
    """Return captures of a guest from an instant on, oldest first."""
    return service.timeline(caller, guest, since_ns, limit)


@router.get("/captures/{capture}", response_model=CaptureTold)
def capture(capture: str, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Return one capture by its id or the beginning of it."""
    record = service.capture_record(caller, capture)
    regions = [
        {"name": each.spec.name, "kind": str(each.spec.kind), "bytes": each.spec.length, "digest": each.digest}
        for each in record.regions
    ]
    names = ("id", "guest", "parent", "branch", "depth", "time_ns", "reason")
    told = {name: getattr(record, name) for name in names}
    return {**told, "mode": str(record.mode), "regions": regions, "facts": dict(record.facts)}


@router.get("/clones", response_model=CloneList)
def clones(caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Return the clones."""
    return {"clones": service.clones(caller)}


@router.get("/jobs/{job}", response_model=JobAnswer)
def job(job: str, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Return a job."""
    return {"job": service.job(caller, job).plain()}


@router.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def job_events(job: str, caller: Asking, service: ServiceOf) -> StreamingResponse:
    """Follow a job by server-sent events, each the whole job, until its end."""
    found = await asyncio.to_thread(service.job, caller, job)
    return StreamingResponse(_events(found), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/audit", response_model=AuditLines)
def audit(caller: Asking, service: ServiceOf, limit: Many = 100) -> dict[str, Any]:
    """Return the newest lines of the audit log, and what is wrong with it."""
    lines, damage = service.audit_lines(caller, limit)
    return {"lines": lines, "damage": damage}


@router.get("/metrics", response_class=Response, responses={200: {"content": {KIND: {"schema": {"type": "string"}}}}})
def metrics(caller: Asking, service: ServiceOf) -> Response:
    """Return metrics as Prometheus reads them."""
    return Response(exposition(service.status(caller), service.budgeted(caller)), media_type=KIND)


async def _events(job: Job) -> AsyncIterator[bytes]:
    seen, quiet = -1, 0.0
    while True:
        if job.changes != seen:
            seen, quiet, told = job.changes, 0.0, job.plain()
            yield f"event: job\ndata: {json.dumps(told)}\n\n".encode()
            if told["ended_ns"] is not None:
                return
        elif quiet >= _BEAT_S:
            quiet = 0.0
            yield b": still there\n\n"
        await asyncio.sleep(_LOOK_S)
        quiet += _LOOK_S
