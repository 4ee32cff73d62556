"""The watchman: a process of its own that takes a guest back from a trial that nobody committed.

`python -m workbench.trial.watchman CASE ID OWNER`. It goes back when the time is over, when probes failed as often in a
row as was said, when it is asked to, and when the process that tries it died (of a detached trial: before it was open).
It has its own session and libvirt connection, and says "ready" before the guest is touched. It never guesses: only the
state in the trial's file counts, and committing and going back exclude each other by that file's lock.

Refuses to do anything to a trial that has ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import StoreError, UsageError, WorkbenchError
from workbench.guest.connection import Guest, Hypervisor
from workbench.trial.acts import WATCHMAN, audit_act
from workbench.trial.going_back import go_back
from workbench.trial.probes import Probe, probe_of
from workbench.trial.state import TrialFile, TrialStatus

__all__ = ["start_watchman"]

_TICK = 0.1
_START_LIMIT = 30.0
_GRACE = 15.0
"""Seconds beyond its own time after which a probe that does not end has failed: killing a command takes some."""
_MOST_NOTED = 500
"""Lines of the audit log about the probes of one trial."""


def start_watchman(case: Path, file: TrialFile, owner: int) -> None:
    """Start the watchman of a trial that the process `owner` tries.

    Raises
    ------
    StoreError
        If it does not come up: nothing may be tried without it.
    """
    words = [str(case.resolve()), file.directory.name, str(owner)]
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench.trial.watchman", *words],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    )
    assert process.stdout is not None
    with process.stdout as told:
        ready, _, _ = select.select([told], [], [], _START_LIMIT)
        if not ready or told.readline() != b"ready\n":
            process.kill()
            process.wait()
            raise StoreError("the watchman of a trial did not come up", cure="Run `workbench doctor`")
    file.note(watchman=process.pid)
    threading.Thread(target=process.wait, name="watchman of a trial", daemon=True).start()  # or it stays a zombie


class _Watch:
    """What the watchman knows between two looks."""

    def __init__(self, case: Path, file: TrialFile, owner: int) -> None:
        self.case, self.file, self.owner = case, file, owner
        self.hypervisor: Hypervisor | None = None
        self.next_probe = 0.0
        self.probing: threading.Thread | None = None
        self.answer: list[str] = []
        self.overdue = 0.0
        self.unwell, self.noted = False, 0

    def run(self) -> None:
        """Look until the trial has ended."""
        while not (status := self.file.read()).ended:
            if status.state == "undoing":
                go_back(self.case, self.file)
                return
            why = self._reason(status)
            if why:
                with contextlib.suppress(UsageError):  # committed, or undone, at the same moment
                    self.file.step("undoing", why=why, ended_by=WATCHMAN)
                continue
            time.sleep(_TICK)

    def _reason(self, status: TrialStatus) -> str:
        """Return why the trial has to end now; nothing where it has not."""
        if status.until and time.monotonic() >= status.until:
            return f"it was not committed within {status.commit_within:g} s"
        needed = not (status.detached and status.state == "open")
        if needed and select.select([self.owner], [], [], 0)[0]:
            return "the process that tried it ended"
        return self._probed(status) if status.state == "open" else ""

    def _probed(self, status: TrialStatus) -> str:
        probe = probe_of(status.probe)
        late = self.probing is not None and time.monotonic() >= self.overdue
        if probe is None or (self.probing is not None and self.probing.is_alive() and not late):
            return ""
        if self.probing is not None:
            failure = "the probe does not end" if late else "the probe itself failed"
            wrong = self.answer.pop() if self.answer else failure
            self.probing, self.answer = None, []  # one that does not end has a list of its own
            self.next_probe = time.monotonic() + status.every
            failed = status.failed + 1 if wrong else 0
            self._note(self.file.note(probed=status.probed + 1, failed=failed), wrong)
            if failed >= status.failures:
                return f"{failed} probes failed in a row: {wrong}"
        elif time.monotonic() >= self.next_probe:
            self.overdue = time.monotonic() + probe.timeout + _GRACE
            self.probing = threading.Thread(target=self._probe, args=(probe, status, self.answer), daemon=True)
            self.probing.start()
        return ""

    def _note(self, status: TrialStatus, wrong: str) -> None:
        """Note a probe that failed, and the first one that is well again; a flapping one not for ever."""
        if self.noted < _MOST_NOTED and (wrong or self.unwell):
            self.noted += 1
            with contextlib.suppress(WorkbenchError):
                audit_act(self.case, status, "probe failed" if wrong else "probe well again", WATCHMAN, wrong)
        self.unwell = bool(wrong)

    def _probe(self, probe: Probe, status: TrialStatus, answer: list[str]) -> None:
        answer.append(probe.check(lambda: self._guest(status)))

    def _guest(self, status: TrialStatus) -> Guest:
        self.hypervisor = self.hypervisor or Hypervisor(status.uri)
        return self.hypervisor.guest(status.guest)


def main(arguments: Sequence[str]) -> None:
    """Watch over a trial: `watchman.py CASE ID OWNER`."""
    case, name, pid = arguments
    try:
        owner = os.pidfd_open(int(pid))
    except ProcessLookupError:
        return  # it died before its watchman was up: nothing was done yet
    watch = _Watch(Path(case), TrialFile(Path(case) / "trials" / name), owner)
    with contextlib.suppress(OSError):
        os.write(1, b"ready\n")
    watch.run()


if __name__ == "__main__":
    main(sys.argv[1:])
