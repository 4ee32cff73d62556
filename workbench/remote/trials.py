"""Trials by a service, from afar: asked for, looked at, committed and undone there.

The service watches, so a trial goes on whatever becomes of this process. Refuses a change that is a function, since it
would have to run there, and probes of HTTP and TCP that the service's settings do not name.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.errors import UnsupportedError
from workbench.model import CaptureId, GuestId
from workbench.progress import silent
from workbench.remote.answers import making_sense
from workbench.remote.jobs import finished
from workbench.store.link import Link
from workbench.trial.probes import CommandProbe, Probe
from workbench.trial.state import STATES, TrialStatus
from workbench.trial.trial import Trial
from workbench.trial.variant import Variant, refuse_no_variant

__all__ = ["RemoteTrial", "change_told", "probe_told", "trial_of"]


class RemoteTrial(Trial):
    """A trial of a guest by a service; as a context manager it is undone at the end, unless it was committed."""

    _look_s = 1.0

    def __init__(self, link: Link, status: TrialStatus) -> None:
        self._link, self._first = link, status

    @property
    def id(self) -> str:
        """What it is called."""
        return self._first.id

    @property
    def status(self) -> TrialStatus:
        """How it is, by the service."""
        return trial_of(self._told(), self._link.address)

    @property
    def watched(self) -> bool:
        """Whether its watchman lives; the service gives it another one where he does not."""
        return bool(self._told().get("watched"))

    def commit(self, *, who: str = "") -> TrialStatus:
        """Keep the guest as it is; the service knows itself who asks.

        Raises
        ------
        UsageError
            If it is not open, or no more.
        """
        _refuse_who(who)
        told, _ = self._link.act("POST", f"{self._path}/commit", {"confirm": self._first.guest_name})
        with making_sense("a trial"):
            return trial_of(told["trial"], self._link.address)

    def undo(self, why: str = "it was asked to", timeout: float = 300, *, who: str = "") -> TrialStatus:
        """Have the guest taken back, and wait until it is; the service knows itself who asks.

        Raises
        ------
        UsageError
            If it has ended.
        RewindError
            If it did not work; `guest_is` says what holds.
        OutcomeUnknownError
            If the service is not heard of any more.
        """
        _refuse_who(who)
        body = {"confirm": self._first.guest_name, "why": why}
        _, job = self._link.act("POST", f"{self._path}/undo", body)
        finished(self._link, job, silent)
        return self.wait(timeout)

    def watch_again(self) -> bool:
        """Do nothing: the service does."""
        return False

    def _looked_at(self) -> TrialStatus:
        return self.status

    @property
    def _path(self) -> str:
        return f"/trials/{quote(self.id, safe='')}"

    def _told(self) -> dict[str, Any]:
        with making_sense("a trial"):
            return dict(self._link.look(self._path)["trial"])


def _refuse_who(who: str) -> None:
    if who:
        raise UnsupportedError("a service knows itself who asks", cure="Leave `who` out.")


def trial_of(told: Mapping[str, Any], address: str) -> TrialStatus:
    """Return how a trial is, from what a service tells.

    Raises
    ------
    StoreError
        If it makes no sense.
    """
    with making_sense("a trial"):
        left = told["seconds_left"]
        return TrialStatus(
            id=str(told["id"]),
            guest=GuestId(str(told["guest"])),
            guest_name=str(told["guest_name"]),
            uri=address,
            target=CaptureId(str(told["target"])),
            safety=None if told["safety"] is None else CaptureId(str(told["safety"])),
            state=STATES[STATES.index(told["state"])],
            why=str(told["why"])[:1000],
            begun_ns=int(told["begun_ns"]),
            commit_within=float(told["commit_within"]),
            until=0.0 if left is None else time.monotonic() + float(left),
            owner=0,
            detached=True,
            probe={},
            every=0.0,
            failures=0,
            probed=int(told["probed"]),
            failed=int(told["failed"]),
            who=str(told["who"])[:200],
            ended_by=str(told["ended_by"])[:200],
        )


def change_told(variant: Variant) -> dict[str, Any]:
    """Return a change as a service takes it.

    Raises
    ------
    UsageError, UnsupportedError
    """
    refuse_no_variant(variant)
    if variant is None:
        return {}
    if isinstance(variant, Path):
        return {"script": variant.read_text()}
    if isinstance(variant, str):
        return {"script": variant}
    if not isinstance(variant, Mapping):
        raise UnsupportedError("a function cannot be a change from afar", cure="Give a script or files.")
    content = {path: data.read_bytes() if isinstance(data, Path) else data for path, data in variant.items()}
    return {"files": {path: base64.b64encode(data).decode() for path, data in content.items()}}


def probe_told(probe: Probe | str | None) -> dict[str, Any]:
    """Return a probe as a service takes it: by its name, or a command.

    Raises
    ------
    UnsupportedError
        If it is another.
    """
    if probe is None:
        return {}
    if isinstance(probe, CommandProbe):
        return {"probe_command": probe.cmd}
    if isinstance(probe, str):
        return {"probe": probe}
    raise UnsupportedError(
        "a service connects only to what its settings name", cure="Give the name of a probe of [probes], or a command."
    )
