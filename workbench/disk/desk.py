"""The desk for questions of disks: `workbench.disk.*`. Runs in a worker: parsers in C read what a guest made.

Holds a few moments' file systems open. Walks and maps of extents, which other questions stand on, are kept in the case
like answers. Refuses questions and arguments that it does not know.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.disk import questions
from workbench.disk.columns import armoured, disarmoured
from workbench.disk.moments import Moments
from workbench.disk.parts import open_parts
from workbench.errors import UsageError
from workbench.inquiry.answer import Answer
from workbench.inquiry.answers import READING, AnswerCache
from workbench.inquiry.worker import Told
from workbench.model import CaptureId
from workbench.store import CaptureView, CaseStore

__all__ = ["DiskDesk", "open_desk"]


def open_desk() -> DiskDesk:
    """Make the desk."""
    return DiskDesk()


class DiskDesk:
    """Answers questions about the disks of captures, of one case at a time."""

    def __init__(self) -> None:
        self._opened: tuple[str, Moments] | None = None

    def answer(self, request: dict[str, Any], _progress: Told) -> Answer:
        """Answer a question.

        Raises
        ------
        UsageError, DiskError, UnsupportedError, StoreError
        """
        name, arguments = request["question"], request["arguments"]
        function = _function(name)
        taken = list(inspect.signature(function).parameters)[2:]
        if unknown := set(arguments) - set(taken):
            raise UsageError(f"{name} takes no {', '.join(sorted(unknown))}", takes=taken)
        moments, began = self._moments(request), time.monotonic()
        frame = function(moments, CaptureId(request["capture"]), **arguments)
        facts = {
            "capture": request["capture"],
            "plugin": name,
            "arguments": dict(arguments),
            "versions": {"workbench": str(READING)},
            "seconds": round(time.monotonic() - began, 3),
            **{str(key): value for key, value in frame.attrs.items() if key != "error"},
        }
        return Answer(armoured(frame), facts, error=str(frame.attrs.get("error", "")))

    def _moments(self, request: dict[str, Any]) -> Moments:
        case, cache = request["case"], Path(request["cache"])
        if self._opened is None or self._opened[0] != case:
            if self._opened is not None:
                self._opened[1].close()
            scratch = cache / "disk"
            scratch.mkdir(parents=True, exist_ok=True, mode=0o700)

            def opener(view: CaptureView) -> Any:
                return open_parts(view, scratch)

            keeper = _Keeper(AnswerCache(cache / "answers"))
            self._opened = (case, Moments(CaseStore.open(Path(case)), opener, keeper))
        return self._opened[1]


class _Keeper:
    """Keeps walks and maps as answers are kept."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache

    def get(self, capture: CaptureId, question: str) -> pd.DataFrame | None:
        """Return what was kept."""
        known = self._cache.get(capture, question, {})
        if known is None:
            return None
        frame = disarmoured(known.frame)
        frame.attrs.update(known.facts["attrs"])
        return frame

    def put(self, capture: CaptureId, question: str, frame: pd.DataFrame) -> None:
        """Keep a frame."""
        facts = {"capture": capture, "plugin": question, "arguments": {}, "attrs": dict(frame.attrs)}
        self._cache.put(question, Answer(armoured(frame), facts))


def _function(name: str) -> Callable[..., pd.DataFrame]:
    found = questions.QUESTIONS.get(name)
    if found is None:
        raise UsageError(f"no question {name!r}", known=sorted(questions.QUESTIONS))
    return found
