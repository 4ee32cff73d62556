"""What requests and answers about trials look like.

Refuses a change and a probe that are said in two ways at once, and fields that it does not know.
"""

from __future__ import annotations

import base64
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from workbench.server.bodies import Body, Guest, JobTold, Plan, When
from workbench.service.trials import TrialAsked

__all__ = ["ConfirmBody", "TrialAnswer", "TrialBegun", "TrialBody", "TrialList", "TrialUndone", "UndoBody"]

_WEEK = 604_800
Confirm = Annotated[str, Field(max_length=200, description="The guest's name.")]


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)
    return text


Content = Annotated[str, AfterValidator(_base64)]
Path = Annotated[str, Field(min_length=2, max_length=1_000, pattern=r"^/[^\x00]*[^/\x00]$")]


class TrialBody(Body):
    """Take the guest itself to a moment with a change, and back unless that is committed in time."""

    guest: Guest
    target: When = "latest"
    script: str = Field(default="", max_length=1 << 20, description="The change: a script for the guest's `sh`.")
    files: dict[Path, Content] = Field(
        default_factory=dict, max_length=100, description="The change, in place of a script: content by path, base64."
    )
    commit_within: float = Field(ge=1, le=_WEEK, allow_inf_nan=False, description="Seconds.")
    probe: str = Field(default="", max_length=100, description="A probe that the service's settings name.")
    probe_command: str = Field(default="", max_length=10_000, description="In place of it: a script for the guest.")
    every: float = Field(default=5.0, ge=0.1, le=_WEEK, allow_inf_nan=False, description="Seconds between probes.")
    failures: int = Field(default=3, ge=1, le=1_000, description="Failed probes in a row that end it.")
    timeout: float = Field(default=60.0, gt=0, le=86_400, allow_inf_nan=False, description="Seconds for the script.")
    dry_run: bool = Field(default=False, description="Only return the plan.")
    confirm: Confirm = ""

    @model_validator(mode="after")
    def _is_said_once(self) -> Self:
        if self.script and self.files:
            raise ValueError("a change is either a script or files")
        if self.probe and self.probe_command:
            raise ValueError("a probe is either probe or probe_command")
        if "\0" in self.script + self.probe_command:
            raise ValueError("a script and a probe_command have no NUL bytes")
        return self

    def asked(self) -> TrialAsked:
        """Return it as the service takes it."""
        names = ("script", "commit_within", "probe", "probe_command", "every", "failures", "timeout")
        told = {name: getattr(self, name) for name in names}
        return TrialAsked(**told, files={path: base64.b64decode(data) for path, data in self.files.items()})


class ConfirmBody(Body):
    """Commit or undo."""

    confirm: Confirm = ""


class UndoBody(ConfirmBody):
    """Take the guest back now."""

    why: str = Field(default="it was asked to", min_length=1, max_length=300)


class TrialTold(BaseModel):
    """How a trial is."""

    id: str
    guest: str
    guest_name: str
    target: str
    safety: str | None
    state: Literal["rewinding", "applying", "open", "committed", "undoing", "undone", "failed"]
    why: str
    begun_ns: int
    commit_within: float
    seconds_left: float | None
    who: str
    ended_by: str
    probed: int
    failed: int
    watched: bool


class TrialBegun(BaseModel):
    """The plan, and the job that carries it out, whose result names the trial; no job for a dry run."""

    plan: Plan
    job: JobTold | None = None


class TrialAnswer(BaseModel):
    """One trial."""

    trial: TrialTold


class TrialUndone(BaseModel):
    """The job that takes the guest back."""

    job: JobTold


class TrialList(BaseModel):
    """Trials, oldest first."""

    trials: list[TrialTold]
