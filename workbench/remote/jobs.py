"""Jobs of a service, followed to their end.

Refuses to take silence for an end: where the stream of events breaks off, the job is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from workbench.errors import OutcomeUnknownError, StoreError
from workbench.progress import Progress, ProgressEvent
from workbench.store.link import Link
from workbench.store.told import as_error

__all__ = ["finished"]

_PATIENCE_S = 60.0
_PAUSE_S = 1.0


def finished(link: Link, path: str, progress: Progress) -> dict[str, Any]:
    """Follow the job at `path`, telling of its progress, and return its result.

    Raises
    ------
    OutcomeUnknownError
        If nothing is heard of it any more.
    WorkbenchError
        What it ended with.
    """
    for job in _states(link, path):
        step = job.get("progress")
        if isinstance(step, list) and len(step) == 4:
            progress(_event(step))
        if job.get("ended_ns") is not None:
            return _result(job)
    raise OutcomeUnknownError("the job is not heard of any more", job=path, cure="Look at the timeline.")


def _states(link: Link, path: str) -> Iterator[dict[str, Any]]:
    """Yield a job whenever it changed; where the stream is lost, begin again as long as there is an answer."""
    heard = time.monotonic()
    while time.monotonic() - heard < _PATIENCE_S:
        try:
            for job in link.follow(f"{path}/events"):
                heard = time.monotonic()
                yield job
        except StoreError:
            pass
        time.sleep(_PAUSE_S)


def _result(job: dict[str, Any]) -> dict[str, Any]:
    if job.get("state") != "done":
        error = job.get("error")
        raise as_error(error if isinstance(error, dict) else {})
    result = job.get("result")
    return result if isinstance(result, dict) else {}


def _event(step: list[Any]) -> ProgressEvent:
    task, done, total, unit = step
    return ProgressEvent(str(task)[:200], _number(done), _number(total), str(unit)[:40])


def _number(told: object) -> int:
    return told if isinstance(told, int) else 0
