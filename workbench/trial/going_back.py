"""Take a guest back from a trial to its safety capture, whoever had to do with it last.

Preconditions: the trial's state is "undoing". On success the guest runs as it was before the trial, and what it was
during the trial is a capture of its own. On failure the state is "failed" and says what holds. Whoever else works on
the guest is waited for: nothing can be done beside him. Refuses a guest that was not taken anywhere.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from workbench.errors import GuestBusyError, RewindError, StoreBusyError, WorkbenchError
from workbench.guest.claim import Claim
from workbench.guest.connection import Hypervisor
from workbench.model import CaptureId, Mark
from workbench.rewind.plan import plan_rewind
from workbench.store import CaseStore
from workbench.timeline.current import last_rewind
from workbench.timeline.retention import HOLD
from workbench.trial.acts import note_act
from workbench.trial.state import TrialFile, TrialStatus

__all__ = ["go_back", "hold", "release", "safety_of"]

_TRIES = 3
_QUIET = 1.0
"""Seconds for which nobody has worked on the guest and it has run: then nothing of a dead process is under way."""
_QUIET_AT_MOST = 60.0


def hold(store: CaseStore, status: TrialStatus, safety: CaptureId) -> None:
    """Keep the safety capture whatever the retention says, as long as the trial is open."""
    with contextlib.suppress(WorkbenchError):
        store.add_mark(_held(store, status, safety))


def release(store: CaseStore, status: TrialStatus) -> None:
    """End what `hold` began."""
    if status.safety is not None:
        with contextlib.suppress(WorkbenchError):
            store.remove_mark(_held(store, status, status.safety))


def _held(store: CaseStore, status: TrialStatus, safety: CaptureId) -> Mark:
    return Mark(
        f"hold-trial-{status.id[:8]}", status.guest, store.record(safety).time_ns, safety, HOLD, "an open trial"
    )


def safety_of(store: CaseStore, status: TrialStatus) -> CaptureId | None:
    """Return what undoes the trial; None where the guest was not taken to its moment."""
    if status.safety is not None:
        return status.safety
    mark = last_rewind(store, status.guest)
    if mark is None or mark.capture != status.target or not mark.note.startswith("safety="):
        return None
    safety = CaptureId(mark.note.removeprefix("safety="))
    return safety if store.record(safety).time_ns >= status.begun_ns else None


def go_back(case: Path, file: TrialFile) -> TrialStatus:
    """Go back and return how the trial ended; of several who want to, one does."""
    with file.going_back():
        status = file.read()
        return status if status.ended else _go_back(case, file, status)


def _go_back(case: Path, file: TrialFile, status: TrialStatus) -> TrialStatus:
    store = CaseStore.open(case)
    ended, told = "undone", ""
    try:
        with Hypervisor(status.uri) as hypervisor:
            told = _back(hypervisor, store, status)
    except Exception as error:  # noqa: BLE001  (whatever it is, it has to be told: nobody else is there)
        said = error.message if isinstance(error, WorkbenchError) else repr(error)
        ended, told = "failed", f"; going back did not work: {said}"
    status = file.step("undone" if ended == "undone" else "failed", why=status.why + told)
    note_act(store, status, ended, status.ended_by, status.why)
    if status.state == "undone":
        release(store, status)
    return status


def _back(hypervisor: Hypervisor, store: CaseStore, status: TrialStatus) -> str:
    """Take the guest back, and return what there is to say of it."""
    if status.safety is None:
        _until_quiet(hypervisor, status)
    safety = safety_of(store, status)
    if safety is None:
        return "; the guest had not been taken anywhere"
    tries = 0
    while True:
        try:
            plan = plan_rewind(store, safety, "production")
            plan.execute(hypervisor, store, confirm=status.guest_name)
        except (GuestBusyError, StoreBusyError):
            time.sleep(0.2)
        except RewindError as error:
            if error.guest_is == "as asked":
                return f"; {error.message}"
            tries += 1
            if tries == _TRIES:
                raise
        else:
            return ""


def _until_quiet(hypervisor: Hypervisor, status: TrialStatus) -> None:
    """Wait until what a dead process left under way, and its guard mends, has come to its end."""
    end, since = time.monotonic() + _QUIET_AT_MOST, time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < _QUIET:
        if not _is_quiet(hypervisor, status):
            since = time.monotonic()
        time.sleep(0.1)


def _is_quiet(hypervisor: Hypervisor, status: TrialStatus) -> bool:
    try:
        Claim(status.guest, status.guest_name).close()
        return hypervisor.guest(status.guest).is_running()
    except WorkbenchError:
        return False
