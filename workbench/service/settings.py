"""`workbench.toml`: where the service's case is, where it listens, and its limits.

What is done for each guest is not here: that changes while the service runs (`configuration`). Refuses an address that
others reach without TLS, and keys that it does not know.
"""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workbench.errors import UsageError
from workbench.service.configuration import explain
from workbench.trial.probes import HttpProbe, TcpProbe, words_of

__all__ = ["BudgetSettings", "Limits", "Listen", "ProbeSettings", "Settings", "read_settings"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Strict):
    """Where the service listens: a unix socket, and TCP only on loopback or with TLS.

    Attributes
    ----------
    socket : Path or None
    users : dict of str to role
        Users of this machine (names or ids) who may use the socket, and as what; root and the service's own user are
        admins.
    address, port : str, int
        TCP; port 0 for none.
    certificate, key : Path or None
        TLS.
    """

    socket: Path | None = Path("/run/workbench/api.sock")
    users: dict[str, Literal["viewer", "operator", "admin"]] = Field(default_factory=dict)
    address: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _is_safe(self) -> Listen:
        try:
            loopback = ipaddress.ip_address(self.address).is_loopback
        except ValueError as error:
            raise ValueError("address must be an IP address") from error
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.port and not loopback and self.certificate is None:
            raise ValueError("TCP that others reach needs a certificate and a key")
        if self.socket is None and not self.port:
            raise ValueError("neither a socket nor a port to listen on")
        return self


class Limits(_Strict):
    """Bounds for callers, and the room that must stay.

    Attributes
    ----------
    body_bytes : int
        The largest request.
    requests_per_minute : int
        Of one caller.
    free_bytes : int
        Free space of the case's volume below which intervals are stretched.
    silent_s : float
        Seconds without a sign of life after which a recorder is taken for hung, and replaced.
    """

    body_bytes: int = Field(default=1 << 20, ge=1_024, le=1 << 30)
    requests_per_minute: int = Field(default=1_200, ge=1, le=1_000_000)
    free_bytes: int = Field(default=2 << 30, ge=0)
    silent_s: float = Field(default=30.0, ge=2, le=3_600)


class BudgetSettings(_Strict):
    """What captures of all guests may take together; whoever needs more than its share is captured less often.

    Attributes
    ----------
    cpu : float or None
        Cores, by the processor time of the recorders.
    bandwidth : int or None
        Bytes written to the store per second.
    """

    cpu: float | None = Field(default=None, gt=0, le=10_000, allow_inf_nan=False)
    bandwidth: int | None = Field(default=None, ge=1_024, le=1 << 50)


class ProbeSettings(_Strict):
    """What the service's host asks to see whether a guest on trial is well: an address, or a port.

    Attributes
    ----------
    url : str
        http or https; well if it answers with a status from 200 to 399.
    tcp : str
        HOST:PORT; well if it accepts a connection.
    timeout : float
        Seconds.
    """

    url: str = ""
    tcp: str = ""
    timeout: float = Field(default=5.0, gt=0, le=3_600)

    @model_validator(mode="after")
    def _is_one(self) -> ProbeSettings:
        host, _, port = self.tcp.rpartition(":")
        if bool(self.url) == bool(self.tcp) or (self.tcp and not (host and port.isdecimal() and len(port) < 6)):
            raise ValueError("a probe has either a url or tcp, which is HOST:PORT")
        try:
            words_of(self.probe())
        except UsageError as error:
            raise ValueError(error.message) from error
        return self

    def probe(self) -> HttpProbe | TcpProbe:
        """Return what asks it."""
        if self.url:
            return HttpProbe(self.url, self.timeout)
        host, _, port = self.tcp.rpartition(":")
        return TcpProbe(host.strip("[]"), int(port), self.timeout)


class Settings(_Strict):
    """The service's settings.

    Attributes
    ----------
    case : Path
        The case that all guests are recorded into; made where there is none.
    connect : str
        libvirt's address.
    state : Path
        Where configuration, tokens and audit log are.
    check_every_s : float
        Seconds between checks of the whole case; 0 for none.
    probes : dict of str to ProbeSettings
        By the names that callers give for trials.
    rules : Path or None
        A directory of YARA rules, whose files configurations may name.
    audit_every : int
        In one of so many captures of each guest, prove in the pause that no page was missed, which makes that pause
        longer by a reading of all memory; 0 for none.
    """

    case: Path
    connect: str = "qemu:///system"
    state: Path = Path("/var/lib/workbench")
    check_every_s: float = Field(default=86_400.0, ge=0)
    prune_every_s: float = Field(default=60.0, ge=1)
    listen: Listen = Listen()
    probes: dict[str, ProbeSettings] = Field(default_factory=dict)
    rules: Path | None = None
    audit_every: int = Field(default=0, ge=0)
    limits: Limits = Limits()
    budget: BudgetSettings = BudgetSettings()


def read_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises
    ------
    UsageError
        If it cannot be read, or is wrong: saying each field.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        return Settings.model_validate(told)
    except OSError as error:
        raise UsageError(f"{error.strerror}: {path}", cure="Name a settings file with --settings.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not TOML: {error}", path=str(path)) from error
    except ValidationError as error:
        raise UsageError(f"wrong settings: {explain(error)}", path=str(path), cure="Mend these fields.") from error
