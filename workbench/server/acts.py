"""Paths that change something: captures, events, marks, rewinds, clones, pruning, configuration.

Refuses nothing itself: roles and confirmations are the hub's.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from workbench.case import RewindPlan
from workbench.server.bodies import (
    CaptureAnswer,
    CaptureBody,
    CloneAnswer,
    CloneBody,
    ConfigurationAnswer,
    EventAnswer,
    EventBody,
    MarkAnswer,
    MarkBody,
    PruneAnswer,
    PruneBody,
    ReleaseAnswer,
    ReleaseBody,
    RewindAnswer,
    RewindBody,
)
from workbench.server.callers import Asking, ServiceOf
from workbench.service.configuration import GuestConfiguration

__all__ = ["plan_told", "router"]

router = APIRouter()


@router.post("/rewind", status_code=202, response_model=RewindAnswer, responses={200: {"model": RewindAnswer}})
def rewind(body: RewindBody, caller: Asking, service: ServiceOf, response: Response) -> dict[str, Any]:
    """Go back: a clone in test mode; the guest itself in production, with its name as `confirm`."""
    plan = service.plan(caller, body.guest, body.target, body.mode)
    if body.dry_run:
        response.status_code = 200
        return {"plan": plan_told(plan)}
    job = service.rewind(caller, body.guest, body.target, body.mode, confirm=body.confirm, network=body.options.network)
    response.headers["Location"] = f"/jobs/{job.id}"
    return {"plan": plan_told(plan), "job": job.plain()}


@router.post("/capture-config", response_model=ConfigurationAnswer, response_model_by_alias=True)
def configure(body: GuestConfiguration, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Make this the guest's configuration, whole; earlier versions are kept."""
    service.configure(caller, body)
    version, current = service.configuration(caller)
    return {"version": version, "guests": current.guests}


@router.post("/captures", status_code=201, response_model=CaptureAnswer)
def capture(body: CaptureBody, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Capture a guest now."""
    return service.capture(caller, body.guest, body.reason, body.mark, quiesce=body.quiesce)


@router.post("/events", response_model=EventAnswer)
def event(body: EventBody, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Take an event, and a capture where the guest's gate lets it pass."""
    return service.event(caller, body.guest, body.event)


@router.post("/marks", status_code=201, response_model=MarkAnswer)
def mark(body: MarkBody, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Name a moment, or hold it."""
    made = service.mark(caller, body.guest, body.target, body.name, kind=body.kind, note=body.note)
    return {"guest": made.guest, "mark": made}


@router.post("/marks/release", response_model=ReleaseAnswer)
def release(body: ReleaseBody, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """End the holds of a moment."""
    ended = service.release(caller, body.guest, body.target)
    return {"guest": ended[0].guest, "marks": ended}


@router.post("/clones", status_code=202, response_model=CloneAnswer)
def clone(body: CloneBody, caller: Asking, service: ServiceOf, response: Response) -> dict[str, Any]:
    """Start a clone of a moment."""
    job = service.clone(caller, body.guest, body.target, body.options())
    response.headers["Location"] = f"/jobs/{job.id}"
    return {"job": job.plain()}


@router.post("/prune", status_code=202, response_model=PruneAnswer, responses={200: {"model": PruneAnswer}})
def prune(body: PruneBody, caller: Asking, service: ServiceOf, response: Response) -> dict[str, Any]:
    """Say which captures a retention drops and what that frees; then, with the plan's word as `confirm`, drop them."""
    if body.dry_run:
        plan, word = service.plan_prune(caller, body.guest, body.retention)
        response.status_code = 200
        return {"plan": plan, "confirm": word}
    job = service.prune(caller, body.guest, body.confirm)
    response.headers["Location"] = f"/jobs/{job.id}"
    return {"job": job.plain()}


@router.delete("/clones/{name}", status_code=204)
def remove_clone(name: str, caller: Asking, service: ServiceOf) -> None:
    """Destroy a clone and its files."""
    service.remove_clone(caller, name)


def plan_told(plan: RewindPlan) -> dict[str, Any]:
    """Return a plan as it is told."""
    return {
        "guest": plan.guest_name,
        "mode": plan.mode,
        "target": plan.target.id,
        "target_ns": plan.target.time_ns,
        "present": plan.present.id,
        "pages": plan.pages,
        "clusters": plan.clusters,
        "reshaped": list(plan.reshaped),
        "left_behind": plan.left_behind,
        "seconds_expected": plan.seconds_expected,
        "text": str(plan),
    }
