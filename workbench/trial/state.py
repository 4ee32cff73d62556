"""What is known of a trial, in one file of the case that all who have to do with it read and change under a lock.

`CASE/trials/ID/trial.json`, replaced by rename, so a reader never sees half of it. Refuses steps that are none: what
has ended stays ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from workbench.errors import FormatError, StoreError, UsageError
from workbench.model import CaptureId, GuestId

__all__ = ["ENDED", "STATES", "State", "TrialFile", "TrialStatus", "trial_files"]

State = Literal["rewinding", "applying", "open", "committed", "undoing", "undone", "failed"]
STATES: tuple[State, ...] = get_args(State)
ENDED = {"committed", "undone", "failed"}
_STEPS = {
    "rewinding": {"applying", "undoing"},
    "applying": {"open", "undoing"},
    "open": {"committed", "undoing"},
    "undoing": {"undone", "failed"},
}
_NAME = "trial.json"


@dataclass(frozen=True, slots=True)
class TrialStatus:
    """How a trial is.

    Attributes
    ----------
    id : str
    guest : GuestId
    guest_name, uri : str
    target : CaptureId
        The moment that the guest was taken to.
    safety : CaptureId or None
        The moment that undoes it; None as long as the guest was not taken anywhere.
    state : str
        "rewinding", "applying", "open" (it waits to be committed), "committed", "undoing", "undone", or "failed": going
        back did not work, and `why` says what holds.
    why : str
        What ended it.
    begun_ns : int
        Host clock.
    commit_within : float
        Seconds, from when the guest was at the moment.
    until : float
        `time.monotonic()` at which it goes back; 0 until the guest is there.
    owner : int
        The process that tries it; when that ends, the guest goes back, unless `detached` and the trial is open.
    watchman : int
        The process that takes it back.
    probe : dict
        See `workbench.trial.probes`; empty for none.
    every : float
        Seconds between two probes.
    failures : int
        Failed probes in a row that end it.
    probed, failed : int
        Probes so far, and how many of the last ones failed in a row.
    who, ended_by : str
        Who began it, and who had it ended: a user, a caller of a service, or "watchman".
    """

    id: str
    guest: GuestId
    guest_name: str
    uri: str
    target: CaptureId
    commit_within: float
    begun_ns: int
    owner: int
    detached: bool
    probe: dict[str, Any]
    every: float
    failures: int
    safety: CaptureId | None = None
    state: State = "rewinding"
    why: str = ""
    until: float = 0.0
    watchman: int = 0
    probed: int = 0
    failed: int = 0
    who: str = ""
    ended_by: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until it goes back by itself; None where it does not."""
        if self.state not in ("applying", "open"):
            return None
        return max(0.0, self.until - time.monotonic())

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED


class TrialFile:
    """The file of one trial.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def create(cls, case: Path, **known: Any) -> TrialFile:
        """Make the file of a new trial; its parameters are those of `TrialStatus`.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        name = str(uuid.uuid4())
        made = cls(case / "trials" / name)
        try:
            made.directory.mkdir(mode=0o700, parents=True)
            made._write(TrialStatus(id=name, begun_ns=time.time_ns(), **known))
        except OSError as error:
            raise StoreError(f"a trial cannot be noted: {error}", path=str(made.directory)) from error
        return made

    def read(self) -> TrialStatus:
        """Return what is known.

        Raises
        ------
        FormatError
            If it is no such file.
        """
        try:
            told = json.loads((self.directory / _NAME).read_text())
            status = TrialStatus(**told)
        except (OSError, ValueError, TypeError) as error:
            raise FormatError(f"no trial is described in {self.directory}: {error}") from error
        if status.state not in STATES or status.id != self.directory.name:
            raise FormatError(f"no trial is described in {self.directory}", state=status.state)
        return status

    def step(self, state: State, **changes: Any) -> TrialStatus:
        """Go on to a state.

        Raises
        ------
        UsageError
            If that does not follow on the state that it has now.
        """
        with self._turn():
            now = self.read()
            if state not in _STEPS.get(now.state, set()):
                told = f": {now.why}" if now.why else ""
                raise UsageError(
                    f"the trial of {now.guest_name} is {now.state}{told}", cure="See `workbench trial status`"
                )
            return self._write(dataclasses.replace(now, state=state, **changes))

    def note(self, **changes: Any) -> TrialStatus:
        """Change what is known besides the state."""
        with self._turn():
            return self._write(dataclasses.replace(self.read(), **changes))

    @contextlib.contextmanager
    def going_back(self) -> Iterator[None]:
        """Be the only one who takes the guest back; others wait."""
        with (self.directory / "back").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, status: TrialStatus) -> TrialStatus:
        new = self.directory / f"{_NAME}.new"
        with new.open("w") as file:
            json.dump(dataclasses.asdict(status), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.directory / _NAME)
        return status

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of a moment: nobody holds it while waiting for anything
            yield


def trial_files(case: Path) -> list[TrialFile]:
    """Return the files of all trials of a case, oldest first; what is none is left out."""
    found = []
    place = case / "trials"
    for each in place.iterdir() if place.is_dir() else ():
        if re.fullmatch(r"[0-9a-f-]{36}", each.name):
            with contextlib.suppress(FormatError):
                file = TrialFile(each)
                found.append((file.read().begun_ns, file))
    return [file for _begun, file in sorted(found, key=lambda pair: pair[0])]
