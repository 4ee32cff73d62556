"""Jobs: what takes longer than a request: rewinds, clones, checks, pruning. Each can be asked for, and listened to.

Refuses to keep more than `_KEPT` ended jobs, and to run more than a few at once.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import UsageError, WorkbenchError
from workbench.progress import Progress, ProgressEvent
from workbench.service.wire import tell_error

__all__ = ["Job", "Jobs"]

_KEPT = 1_000
_AT_ONCE = 4
_CURE = "See the service's log."
_log = logging.getLogger("workbench.service")
State = Literal["waiting", "running", "done", "failed"]
Deed = Callable[[Progress], dict[str, Any]]


@dataclass(slots=True)
class Job:
    """One job.

    Attributes
    ----------
    id, what, who : str
    guest : str
        Its UUID, or "".
    state : {"waiting", "running", "done", "failed"}
    progress : list
        Task, done, total, unit of the last step.
    result : dict or None
    error : dict or None
        Kind, message, cure, facts.
    """

    id: str
    what: str
    who: str
    guest: str
    asked_ns: int
    state: State = "waiting"
    ended_ns: int | None = None
    progress: list[Any] = field(default_factory=list)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    changes: int = 0

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        names = ("id", "what", "who", "guest", "state", "asked_ns", "ended_ns", "progress", "result", "error")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """The jobs of a service."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="job")

    @staticmethod
    def number() -> str:
        """Return an id for a job that is to be begun, so that it can be noted before."""
        return str(uuid.uuid4())

    def start(
        self, what: str, who: str, deed: Deed, *, guest: str = "", number: str = "", ended: Callable[[Job], None]
    ) -> Job:
        """Begin a job; `ended` hears of its end, whatever that is.

        Parameters
        ----------
        number : str
            Its id, where it has one already.
        """
        job = Job(number or self.number(), what, who, guest, time.time_ns())
        with self._lock:
            self._jobs[job.id] = job
            self._forget()
        self._pool.submit(self._run, job, deed, ended)
        return job

    def get(self, job: str) -> Job:
        """Return a job.

        Raises
        ------
        UsageError
            If there is none of that id, or it ended long ago.
        """
        with self._lock:
            found = self._jobs.get(job)
        if found is None:
            raise UsageError("no such job", job=job[:80], cure="Jobs are kept for a while after their end.")
        return found

    def close(self) -> None:
        """Wait for what runs; begin nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job, deed: Deed, ended: Callable[[Job], None]) -> None:
        self._change(job, state="running")

        def progress(event: ProgressEvent) -> None:
            self._change(job, progress=[event.task, event.done, event.total, event.unit])

        try:
            changes: dict[str, Any] = {"result": deed(progress), "state": "done"}
        except WorkbenchError as error:
            changes = {"error": tell_error(error), "state": "failed"}
        except Exception as error:  # noqa: BLE001  (whoever waits must hear of it)
            _log.error("the %s of job %s failed", job.what, job.id, exc_info=error)
            told = {
                "kind": type(error).__name__,
                "message": "an error of the service's own",
                "cure": _CURE,
                "facts": {},
            }
            changes = {"error": told, "state": "failed"}
        try:
            self._note(job, changes, ended)
        finally:
            self._change(job, **changes, ended_ns=time.time_ns())

    @staticmethod
    def _note(job: Job, changes: dict[str, Any], ended: Callable[[Job], None]) -> None:
        told = Job(job.id, job.what, job.who, job.guest, job.asked_ns, **changes)
        try:
            ended(told)
        except WorkbenchError as error:  # it was done and cannot be noted: say so
            changes["error"] = tell_error(error)

    def _change(self, job: Job, **changes: Any) -> None:
        with self._lock:
            for name, value in changes.items():
                setattr(job, name, value)
            job.changes += 1

    def _forget(self) -> None:
        ended = [each for each in self._jobs.values() if each.ended_ns is not None]
        for each in ended[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[each.id]
