"""Paths of trials: begin one, look at them, commit, undo.

Refuses nothing itself: roles and confirmations are the hub's.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from workbench.server.acts import plan_told
from workbench.server.callers import Asking, ServiceOf
from workbench.server.trial_bodies import (
    ConfirmBody,
    TrialAnswer,
    TrialBegun,
    TrialBody,
    TrialList,
    TrialUndone,
    UndoBody,
)

__all__ = ["router"]

router = APIRouter()


@router.post("/trials", status_code=202, response_model=TrialBegun, responses={200: {"model": TrialBegun}})
def begin(body: TrialBody, caller: Asking, service: ServiceOf, response: Response) -> dict[str, Any]:
    """Take the guest itself to a moment with a change, and back unless that is committed in time."""
    if body.dry_run:
        response.status_code = 200
        return {"plan": plan_told(service.plan(caller, body.guest, body.target, "production"))}
    plan, job = service.begin_trial(caller, body.guest, body.target, body.asked(), confirm=body.confirm)
    response.headers["Location"] = f"/jobs/{job.id}"
    return {"plan": plan_told(plan), "job": job.plain()}


@router.get("/trials", response_model=TrialList)
def trials(caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Return the trials."""
    return {"trials": service.trials(caller)}


@router.get("/trials/{trial}", response_model=TrialAnswer)
def trial(trial: str, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Return how a trial is."""
    return {"trial": service.trial(caller, trial)}


@router.post("/trials/{trial}/commit", response_model=TrialAnswer)
def commit(trial: str, body: ConfirmBody, caller: Asking, service: ServiceOf) -> dict[str, Any]:
    """Keep the guest as it is."""
    return {"trial": service.commit_trial(caller, trial, confirm=body.confirm)}


@router.post("/trials/{trial}/undo", status_code=202, response_model=TrialUndone)
def undo(trial: str, body: UndoBody, caller: Asking, service: ServiceOf, response: Response) -> dict[str, Any]:
    """Take the guest back now."""
    job = service.undo_trial(caller, trial, why=body.why, confirm=body.confirm)
    response.headers["Location"] = f"/jobs/{job.id}"
    return {"job": job.plain()}
