"""The desk for questions of disks: `workbench.disk.*`. Runs in a worker: parsers in C read what a guest made.

Holds a few moments' file systems open. Walks and maps of extents, which other questions stand on, are kept in the case
like answers. Every question takes `source`: "disk" reads the disks alone, else they are read under the page cache,
where whoever made the desk can tell it. Refuses questions and arguments that it does not know.
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
from workbench.disk.pagecache import PageCache
from workbench.disk.parts import open_parts
from workbench.errors import UsageError
from workbench.inquiry.answer import Answer
from workbench.inquiry.answers import READING, AnswerCache
from workbench.inquiry.worker import Told
from workbench.model import CaptureId
from workbench.store import CaptureView
from workbench.store.opening import open_store

__all__ = ["DiskDesk", "Memory"]

Memory = Callable[[dict[str, Any], CaptureId, Told], PageCache]
"""Tells, for a request, what a capture's memory has of its file systems; raises `WorkbenchError` where it cannot."""
_DISK = "disk"


class DiskDesk:
    """Answers questions about the disks of captures, of one case at a time.

    Parameters
    ----------
    memory : callable, optional
        Without it the disks are read alone.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory
        self._case = ""
        self._opened: dict[tuple[str, str], Moments] = {}
        self._under: tuple[dict[str, Any], Told] = ({}, _untold)

    def answer(self, request: dict[str, Any], progress: Told) -> Answer:
        """Answer a question.

        Raises
        ------
        UsageError, DiskError, UnsupportedError, StoreError
        """
        name, arguments = request["question"], dict(request["arguments"])
        source = arguments.pop("source", "")
        function = _function(name)
        taken = list(inspect.signature(function).parameters)[2:]
        if unknown := set(arguments) - set(taken):
            raise UsageError(f"{name} takes no {', '.join(sorted(unknown))}", takes=[*taken, "source"])
        if source not in ("", _DISK):
            raise UsageError(
                f"no source {source!r}", known=[_DISK], cure="Leave it out for files as the guest saw them."
            )
        self._under = (request, progress)
        moments, began = self._moments(request, source), time.monotonic()
        frame = function(moments, CaptureId(request["capture"]), **arguments)
        if moments.alone:
            frame.attrs["alone"] = dict(moments.alone)
        facts = {
            "capture": request["capture"],
            "plugin": name,
            "arguments": dict(request["arguments"]),
            "versions": {"workbench": str(READING)},
            "seconds": round(time.monotonic() - began, 3),
            **{str(key): value for key, value in frame.attrs.items() if key != "error"},
        }
        return Answer(armoured(frame), facts, error=str(frame.attrs.get("error", "")))

    def _moments(self, request: dict[str, Any], source: str) -> Moments:
        if self._case != request["case"]:
            for each in self._opened.values():
                each.close()
            self._opened.clear()
            self._case = request["case"]
        key = (source, request["options"].get("symbols", ""))
        if key not in self._opened:
            self._opened[key] = self._open(request, *key)
        return self._opened[key]

    def _open(self, request: dict[str, Any], source: str, symbols: str) -> Moments:
        cache = Path(request["cache"])
        scratch = cache / "disk"
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)

        def opener(view: CaptureView, under: PageCache | None = None) -> Any:
            return open_parts(view, scratch, under)

        keeper = _Keeper(AnswerCache(cache / "answers"), source)
        store = open_store(request["case"])
        if source == _DISK or self._memory is None:
            return Moments(store, opener, keeper)
        return Moments(store, opener, None if symbols else keeper, self._told)

    def _told(self, capture: CaptureId) -> PageCache:
        """Ask the memory of a capture, on behalf of the request at hand."""
        assert self._memory is not None
        request, progress = self._under
        return self._memory(request, capture, progress)


def _untold(_percent: float, _words: str) -> None:
    """Tell nobody."""


class _Keeper:
    """Keeps walks and maps as answers are kept, each with the source that it is of."""

    def __init__(self, cache: AnswerCache, source: str) -> None:
        self._cache = cache
        self._arguments = {"source": source} if source else {}

    def get(self, capture: CaptureId, question: str) -> pd.DataFrame | None:
        """Return what was kept."""
        known = self._cache.get(capture, question, self._arguments)
        if known is None:
            return None
        frame = disarmoured(known.frame)
        frame.attrs.update(known.facts["attrs"])
        return frame

    def put(self, capture: CaptureId, question: str, frame: pd.DataFrame) -> None:
        """Keep a frame."""
        facts = {"capture": capture, "plugin": question, "arguments": self._arguments, "attrs": dict(frame.attrs)}
        self._cache.put(question, Answer(armoured(frame), facts))


def _function(name: str) -> Callable[..., pd.DataFrame]:
    found = questions.QUESTIONS.get(name)
    if found is None:
        raise UsageError(f"no question {name!r}", known=sorted(questions.QUESTIONS))
    return found
