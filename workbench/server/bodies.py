"""What requests and answers look like; FastAPI makes the OpenAPI document of it.

Refuses fields that it does not know: a misspelt option must not be taken for its default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workbench.case import Identity
from workbench.service.budget import BudgetState
from workbench.service.configuration import GuestConfiguration, RetentionSettings
from workbench.service.status import GuestStatus
from workbench.service.upkeep import UpkeepState

__all__ = [
    "AuditLines", "Body", "CaptureAnswer", "CaptureBody", "CaptureList", "CaptureTold", "CloneAnswer", "CloneBody",
    "CloneList", "ConfigurationAnswer", "ErrorBody", "EventAnswer", "EventBody", "GuestList", "GuestTold", "JobAnswer",
    "MarkAnswer", "MarkBody", "Plan", "PruneAnswer", "PruneBody", "PrunePlanTold", "ReleaseAnswer", "ReleaseBody",
    "RewindAnswer", "RewindBody", "StatusAnswer",
]  # fmt: skip

Guest = Annotated[str, Field(min_length=1, max_length=200, description="Name or UUID of a guest.")]
When = Annotated[
    str, Field(min_length=1, max_length=200, description="A time, -30s, `2 captures ago`, an id, a mark, latest.")
]


class Body(BaseModel):
    """What a request says."""

    model_config = ConfigDict(extra="forbid")


class ErrorTold(BaseModel):
    """What is wrong, and what to do."""

    kind: str
    message: str
    cure: str
    facts: dict[str, str] = {}


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorTold


class RewindOptions(Body):
    """Options of a rewind."""

    network: bool = Field(default=False, description="Leave a clone its network.")


class RewindBody(Body):
    """Go back: `test` starts a clone, `production` takes the guest itself back."""

    guest: Guest
    target: When
    mode: Literal["test", "production"] = "test"
    dry_run: bool = Field(default=False, description="Only return the plan.")
    confirm: str = Field(default="", max_length=200, description="The guest's name, for production.")
    options: RewindOptions = RewindOptions()


class Plan(BaseModel):
    """What a rewind would do."""

    guest: str
    mode: str
    target: str
    target_ns: int
    present: str
    pages: int
    clusters: int
    reshaped: list[str]
    left_behind: int
    seconds_expected: float
    text: str


class JobTold(BaseModel):
    """A job."""

    id: str
    what: str
    who: str
    guest: str
    state: Literal["waiting", "running", "done", "failed"]
    asked_ns: int
    ended_ns: int | None
    progress: list[Any]
    result: dict[str, Any] | None
    error: ErrorTold | None


class JobAnswer(BaseModel):
    """One job."""

    job: JobTold


class RewindAnswer(BaseModel):
    """The plan, and the job that carries it out; no job for a dry run."""

    plan: Plan
    job: JobTold | None = None


class PruneBody(Body):
    """Drop captures: first `dry_run`, which gives the plan and its word; then that word as `confirm`."""

    guest: Guest
    retention: RetentionSettings | None = Field(
        default=None, description="What to keep, for the plan; without it, what the guest's configuration says."
    )
    dry_run: bool = Field(default=False, description="Only return the plan.")
    confirm: str = Field(default="", max_length=200, description="The word that a plan gave.")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> PruneBody:
        if self.dry_run and self.confirm:
            raise ValueError("dry_run makes a plan and confirm carries one out: send one of them")
        if self.retention is not None and not self.dry_run:
            raise ValueError("retention is for the plan: send it with dry_run")
        return self


class PrunePlanTold(BaseModel):
    """What a prune would do: captures that go and when they were taken (UTC, ns), packs, bytes; why others stay."""

    guest: str
    as_of_ns: int
    dropped: int
    oldest_ns: int | None
    newest_ns: int | None
    kept: int
    rebase: int
    remove: int
    rewrite: int
    moving: int
    frees: int
    over: int
    reasons: dict[str, int]
    text: str


class PruneAnswer(BaseModel):
    """The plan and its word; or the job that carries it out."""

    plan: PrunePlanTold | None = None
    confirm: str = ""
    job: JobTold | None = None


class StatusAnswer(BaseModel):
    """Every guest that the caller sees, the budget of all (for callers who see all), and the case's upkeep."""

    guests: list[GuestStatus]
    budget: BudgetState | None
    upkeep: UpkeepState


class ConfigurationAnswer(BaseModel):
    """The current configuration and its number."""

    version: int
    guests: list[GuestConfiguration]


class CaptureBody(Body):
    """Capture a guest now."""

    guest: Guest
    reason: str = Field(min_length=1, max_length=500)
    mark: str | None = Field(default=None, min_length=1, max_length=200)
    quiesce: bool = Field(default=False, description="Freeze its file systems for this capture; see its configuration.")


class CaptureAnswer(BaseModel):
    """A capture that was taken."""

    capture: str
    time_ns: int
    consistency: str
    consistency_why: str


class EventBody(Body):
    """An event of the application or an alert of a SIEM: plain, or as Falco or Wazuh write it."""

    guest: Guest
    event: dict[str, Any] = Field(
        description='{"name": ..., "reason": ..., "severity": ...}, or an alert as Falco or Wazuh writes it.',
        examples=[{"name": "deploy", "reason": "version 4.2", "severity": "notice"}],
    )


class EventAnswer(BaseModel):
    """Whether an event was worth a capture."""

    taken: bool
    why: str = ""
    folded: int = 0
    capture: str = ""
    time_ns: int | None = None


class MarkBody(Body):
    """Name a moment; a mark of kind "hold" keeps it whatever the retention says."""

    guest: Guest
    target: When = "latest"
    name: str = Field(min_length=1, max_length=200, pattern=r"\S")
    kind: Literal["note", "hold", "event", "alert", "yara"] = Field(default="note", description="What it is for.")
    note: str = Field(default="", max_length=2_000)


class ReleaseBody(Body):
    """End the holds of a moment."""

    guest: Guest
    target: When


class CaptureTold(BaseModel):
    """One capture."""

    id: str
    guest: str
    parent: str | None
    branch: int
    depth: int
    time_ns: int
    mode: str
    reason: str
    regions: list[dict[str, Any]]
    facts: dict[str, Any]


class CaptureRow(BaseModel):
    """One capture of a timeline."""

    id: str
    time_ns: int


class MarkRow(BaseModel):
    """One mark of a timeline."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    kind: str
    note: str
    time_ns: int
    capture: str | None


class MarkAnswer(BaseModel):
    """A mark that was set."""

    guest: str
    mark: MarkRow


class ReleaseAnswer(BaseModel):
    """The holds that were ended."""

    guest: str
    marks: list[MarkRow]


class CaptureList(BaseModel):
    """A stretch of a guest's timeline, oldest first; `more` says that it goes on."""

    guest: str
    captures: list[CaptureRow]
    marks: list[MarkRow]
    more: bool


class GuestTold(BaseModel):
    """A guest that runs, is configured, or has captures."""

    name: str
    uuid: str
    running: bool
    configured: bool
    captures: int


class GuestList(BaseModel):
    """Every guest that the caller sees."""

    guests: list[GuestTold]


class IdentityBody(Body):
    """What is to be new in a clone: true for a value of our choice, a string for that one."""

    hostname: bool | Annotated[str, Field(max_length=64)] = False
    mac: bool | Annotated[str, Field(max_length=17)] = False
    machine_id: bool | Annotated[str, Field(max_length=32)] = False
    address: bool | Annotated[str, Field(max_length=18)] = False


class CloneBody(Body):
    """Start a clone of a moment."""

    guest: Guest
    target: When = "latest"
    network: bool | Literal["none", "as-guest", "shared"] = Field(
        default="none",
        description="Cut off (or false), as the guest has it (or true), or on a segment with other clones.",
    )
    segment: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="For shared.")
    identity: Literal["new"] | IdentityBody | None = Field(default=None, description="Who it shall be; else its guest.")
    clock: Literal["kept", "now"] = "kept"

    @model_validator(mode="after")
    def _is_on_its_segment(self) -> CloneBody:
        if self.segment is not None and self.network != "shared":
            raise ValueError("a segment is for a shared network: send network shared, or no segment")
        return self

    def options(self) -> dict[str, Any]:
        """Return what `Moment.clone` takes."""
        identity = Identity(**dict(self.identity)) if isinstance(self.identity, IdentityBody) else self.identity
        return {"network": self.network, "segment": self.segment, "identity": identity, "clock": self.clock}


class CloneTold(BaseModel):
    """A clone."""

    name: str
    uuid: str
    capture: str
    started_ns: int
    seconds: float
    memory: str = "written"
    network: str = "none"
    segment: str = ""
    identity: dict[str, str] = {}
    clock: str = "kept"
    thaw: str = ""


class CloneAnswer(BaseModel):
    """The job that starts a clone."""

    job: JobTold


class CloneList(BaseModel):
    """Clones."""

    clones: list[CloneTold]


class AuditLines(BaseModel):
    """The newest lines of the audit log, oldest first."""

    lines: list[dict[str, Any]]
    damage: list[str]
