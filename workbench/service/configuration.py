"""What the service does for each guest, and every earlier version of it.

A configuration is validated whole and applied whole: a new numbered file is written, then the name `current` is moved
to it. Earlier ones stay, so that what was asked for at 14:03 can be told. Refuses fields that it does not know.
"""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workbench.errors import DamagedError, StoreError, UsageError
from workbench.service.files import private_directory, replace
from workbench.timeline.retention import Retention

__all__ = [
    "AlertRules", "Configuration", "ConfigurationBook", "GateSettings", "GuestConfiguration", "IncrementSettings",
    "QuiesceSettings",
    "RetentionSettings", "ThresholdSettings", "TierSettings", "TriggerSettings", "explain",
]  # fmt: skip

Severity = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
Detector = Literal["hidden_processes", "hidden_modules", "hooks", "deleted_binaries", "memfd_executables", "mimics"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
_SPAN = "[1-9][0-9]{0,5}[smhd]"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TierSettings(_Strict):
    """Keep one capture every so often, for so long: `every` "all" or "1m", `for` "10m", "1d", "30d"."""

    every: str = Field(default="all", pattern=f"^(all|{_SPAN})$", examples=["all", "1m"])
    span: str = Field(alias="for", pattern=f"^{_SPAN}$", examples=["10m", "30d"])
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class RetentionSettings(_Strict):
    """Which captures stay; without tiers, all."""

    tiers: tuple[TierSettings, ...] = Field(default=(), max_length=10)
    max_bytes: int | None = Field(default=None, ge=1 << 20, le=1 << 60)

    @model_validator(mode="after")
    def _makes_sense(self) -> RetentionSettings:
        if not self.tiers and self.max_bytes is not None:
            raise ValueError("max_bytes needs tiers: say what to keep, then how much of it")
        if self.tiers:
            try:
                Retention.of(**self.plain())
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self

    def plain(self) -> dict[str, Any]:
        """Return it as `Retention.of` takes it."""
        return {"tiers": [{"every": each.every, "for": each.span} for each in self.tiers], "max_bytes": self.max_bytes}


class GateSettings(_Strict):
    """How often triggers may ask for a capture."""

    debounce_s: float = Field(default=2.0, ge=0, le=86_400)
    cool_down_s: float = Field(default=30.0, ge=0, le=86_400)
    budget_per_hour: int = Field(default=120, ge=0, le=100_000)


class ThresholdSettings(_Strict):
    """A measurement that is too high for long enough."""

    measure: Literal["cpu", "dirty", "disk_write", "disk_latency", "network"]
    above: float = Field(gt=0, allow_inf_nan=False)
    over_s: float = Field(default=10.0, ge=1, le=3_600)
    rearm_below: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_ordered(self) -> ThresholdSettings:
        if self.rearm_below is not None and self.rearm_below > self.above:
            raise ValueError("rearm_below must not be above the threshold")
        return self


class AlertRules(_Strict):
    """Which alerts over `POST /events` ask for a capture."""

    least: Severity = "warning"


class IncrementSettings(_Strict):
    """What each increment is looked at for, beside the captures and never in their way.

    Attributes
    ----------
    rules : str
        Text of YARA rules, for the pages of memory that changed.
    rule_files : tuple of str
        Names of files in the service's directory of rules.
    detectors : tuple of str
        Detectors, of which findings that are new count.
    whole_first : bool
        Have the rules scan all memory of a guest's very first capture, too.
    backlog : int
        Captures that may wait; when there are more, all but the newest are skipped.
    limit_s : float
        Processor time for one increment.
    patience_s : float
        Time for one increment by the clock: it is longer where the host has other things to do.
    """

    rules: str = Field(default="", max_length=500_000)
    rule_files: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")], ...] = Field(
        default=(), max_length=50
    )
    detectors: tuple[Detector, ...] = Field(default=(), max_length=20)
    whole_first: bool = False
    backlog: int = Field(default=4, ge=1, le=100)
    limit_s: float = Field(default=60.0, ge=1, le=3_600)
    patience_s: float = Field(default=600.0, ge=1, le=36_000)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self.rules.strip() or self.rule_files or self.detectors)


class TriggerSettings(_Strict):
    """What asks for captures by itself.

    Attributes
    ----------
    hold : bool
        Hold the guest at a panic or when its watchdog fires, until it was captured; needs `events`.
    hold_s : float
        After so many seconds it is let go, whatever happens.
    """

    channel: bool = True
    events: bool = True
    console: dict[Name, Annotated[str, Field(max_length=500)]] | None = None
    thresholds: tuple[ThresholdSettings, ...] = Field(default=(), max_length=20)
    hold: bool = False
    hold_s: float = Field(default=30.0, ge=1, le=600)
    alerts: AlertRules = AlertRules()
    increments: IncrementSettings = IncrementSettings()
    look_back_s: float = Field(default=10.0, ge=0, le=3_600)
    gate: GateSettings = GateSettings()

    @model_validator(mode="after")
    def _can_hold(self) -> TriggerSettings:
        if self.hold and not self.events:
            raise ValueError("hold needs events: it is they that ask for the capture")
        return self

    @field_validator("console")
    @classmethod
    def _are_expressions(cls, patterns: dict[str, str] | None) -> dict[str, str] | None:
        for name, pattern in (patterns or {}).items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: not a regular expression: {error}") from error
        return patterns


class QuiesceSettings(_Strict):
    """Freeze the guest's file systems through its agent for every capture.

    Attributes
    ----------
    enabled : bool
        For every capture; a manual one can ask for it by itself.
    timeout_s : float
        After so many seconds they are thawed, whatever happened.
    required : bool
        Take no capture where that fails, instead of one that is crash-consistent and says why.
    """

    enabled: bool = False
    timeout_s: float = Field(default=2.0, gt=0, le=60)
    required: bool = False


class GuestConfiguration(_Strict):
    """What is done for one guest.

    Attributes
    ----------
    guest : str
        Its name or UUID.
    enabled : bool
        Whether it is recorded when it runs.
    interval_s : float
        Seconds between captures.
    modes : tuple
        Which kinds of captures are taken.
    """

    guest: Name
    enabled: bool = True
    interval_s: float = Field(default=5.0, ge=0.2, le=86_400, allow_inf_nan=False)
    modes: tuple[Literal["continuous", "event", "manual"], ...] = ("continuous", "event", "manual")
    triggers: TriggerSettings = TriggerSettings()
    retention: RetentionSettings = RetentionSettings()
    quiesce: QuiesceSettings = QuiesceSettings()


class Configuration(_Strict):
    """All guests."""

    guests: tuple[GuestConfiguration, ...] = Field(default=(), max_length=1_000)

    @model_validator(mode="after")
    def _names_each_once(self) -> Configuration:
        names = [each.guest for each in self.guests]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return self

    def of(self, *names: str) -> GuestConfiguration | None:
        """Return what is asked for a guest known by one of these names."""
        return next((each for each in self.guests if each.guest in names), None)

    def with_guest(self, changed: GuestConfiguration) -> Configuration:
        """Return this with one guest's part replaced or added."""
        others = tuple(each for each in self.guests if each.guest != changed.guest)
        return Configuration(guests=(*others, changed))


def explain(error: ValidationError) -> str:
    """Return what is wrong with a configuration, a field at a time, without its values."""
    told = [f"{'.'.join(str(part) for part in each['loc']) or 'all'}: {each['msg']}" for each in error.errors()]
    return "; ".join(told[:20])


class ConfigurationBook:
    """The versions of a configuration in a directory.

    Parameters
    ----------
    directory : Path
        Made where it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = private_directory(directory)
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """The number of the current version; 0 where there is none yet."""
        try:
            return int(os.readlink(self.directory / "current").partition(".")[0])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise DamagedError("the current configuration is not told", path=str(self.directory)) from error

    def current(self) -> Configuration:
        """Return what holds now.

        Raises
        ------
        DamagedError
            If it cannot be read as one; earlier versions are beside it.
        """
        version = self.version
        return self.at(version) if version else Configuration()

    def at(self, version: int) -> Configuration:
        """Return an earlier version.

        Raises
        ------
        UsageError
            If there is none of that number.
        DamagedError
        """
        path = self._path(version)
        try:
            return Configuration.model_validate(json.loads(path.read_text())["configuration"])
        except FileNotFoundError:
            raise UsageError("no such version of the configuration", version=version, current=self.version) from None
        except (ValueError, KeyError, TypeError) as error:
            cure = "Point `current` to an earlier version beside it."
            raise DamagedError("the configuration cannot be read", path=str(path), cure=cure) from error

    def put(self, configuration: Configuration, who: str, time_ns: int) -> int:
        """Make a configuration the current one, and return its number.

        Raises
        ------
        StoreFullError, StoreError
            The one before holds.
        """
        with self._lock:
            version = self.version + 1
            told: dict[str, Any] = {"who": who, "time_ns": time_ns, "configuration": _plain(configuration)}
            replace(self._path(version), json.dumps(told, indent=1).encode())
            pointer = self.directory / f".current.{version}"
            try:
                pointer.unlink(missing_ok=True)
                pointer.symlink_to(self._path(version).name)
                pointer.replace(self.directory / "current")
            except OSError as error:
                raise StoreError(f"{error.strerror}: {pointer}", cure="The configuration before holds.") from error
            return version

    def _path(self, version: int) -> Path:
        return self.directory / f"{version:06d}.json"


def _plain(configuration: Configuration) -> dict[str, Any]:
    return configuration.model_dump(mode="json", by_alias=True)
