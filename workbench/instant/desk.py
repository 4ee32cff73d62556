"""The desk for questions of disks under the page cache (`workbench.disk.*`) and of both (`workbench.instant.*`).

What memory says is kept in the case like any answer, also that there is no kernel in it: a search through all of a
guest's memory is not made twice. Refuses to fail a question of disks because memory cannot be read: the disk alone
answers, and `attrs["alone"]` says why.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.disk.desk import DiskDesk
from workbench.disk.mounted import open_disks
from workbench.disk.pagecache import FROM_MEMORY, PageCache
from workbench.errors import AnalysisError, SymbolsError, UsageError
from workbench.inquiry.answer import Answer
from workbench.inquiry.answers import READING, AnswerCache
from workbench.inquiry.worker import Told
from workbench.instant.code import altered_code
from workbench.memory.desk import open_desk as open_memory
from workbench.memory.physical import PhysicalMemory
from workbench.model import PAGE, CaptureId
from workbench.store import CaptureView
from workbench.store.opening import open_store
from workbench.store.types import I64

__all__ = ["InstantDesk", "open_desk", "page_cache"]

_CACHED, _EXECUTED = "workbench.cached", "workbench.executed"
"""Questions to memory."""
_ALTERED = "workbench.instant.altered_code"


@cache
def open_desk() -> InstantDesk:
    """Return this process's desk."""
    return InstantDesk()


class InstantDesk:
    """Answers questions of disks, and of disks and memory together."""

    def __init__(self) -> None:
        self._disks = DiskDesk(page_cache)

    def answer(self, request: dict[str, Any], progress: Told) -> Answer:
        """Answer a question.

        Raises
        ------
        UsageError, AnalysisError, DiskError, UnsupportedError, StoreError
        """
        name = request["question"]
        if not name.startswith("workbench.instant."):
            return self._disks.answer(request, progress)
        if name != _ALTERED:
            raise UsageError(f"no question {name!r}", known=[_ALTERED])
        if request["arguments"]:
            raise UsageError(f"{name} takes no {', '.join(sorted(request['arguments']))}", takes=[])
        began = time.monotonic()
        frame = _altered(request, progress)
        facts = {
            "capture": request["capture"],
            "plugin": name,
            "arguments": {},
            "versions": {"workbench": str(READING)},
            "seconds": round(time.monotonic() - began, 3),
            **{key: frame.attrs[key] for key in ("compared", "same", "not_compared")},
        }
        return Answer(frame, facts, error=frame.attrs["error"])


def _altered(request: dict[str, Any], progress: Told) -> pd.DataFrame:
    """Hold code against the disk."""
    capture = CaptureId(request["capture"])
    held = page_cache(request, capture, progress)
    executed = _kept(request, capture, _EXECUTED, progress)
    progress(50.0, "Reading the disk")
    scratch = Path(request["cache"]) / "disk"
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    view = open_store(request["case"]).view(capture)
    found = altered_code(executed.frame, held, open_disks(view, directory=scratch, cache=held))
    found.attrs["error"] = "; ".join(filter(None, (executed.error, found.attrs["error"])))
    return found


def page_cache(request: dict[str, Any], capture: CaptureId, progress: Told) -> PageCache:
    """Return what a capture's memory has of its file systems.

    Parameters
    ----------
    request : dict
        A question's message: says which case, where answers are kept, and which symbols to use.
    capture : CaptureId
    progress : callable

    Raises
    ------
    AnalysisError, SymbolsError
        If its memory cannot be understood.
    StoreError
    """
    view = open_store(request["case"]).view(capture)
    if "state:layout" not in {region.spec.name for region in view.record.regions}:
        raise AnalysisError("the capture has no memory")
    memory = PhysicalMemory.of_capture(view)
    answer = _kept(request, capture, _CACHED, progress)
    if set(FROM_MEMORY) - set(answer.frame.columns):
        raise SymbolsError(answer.error or "the page cache cannot be read")
    return PageCache(answer.frame, memory.read, lambda addresses: _ids(memory, view, addresses))


def _kept(request: dict[str, Any], capture: CaptureId, question: str, progress: Told) -> Answer:
    """Return memory's answer, kept or new; also that there is none."""
    asked = {**request, "capture": capture, "question": question, "arguments": {}}
    if request["options"].get("symbols"):
        return open_memory().answer(asked, progress)
    kept = AnswerCache(Path(request["cache"]) / "answers")
    known = kept.get(capture, question, {})
    if known is not None:
        return known
    try:
        answer = open_memory().answer(asked, progress)
    except SymbolsError as error:
        facts = {"capture": capture, "plugin": question, "arguments": {}, "versions": {}, "seconds": 0.0}
        answer = Answer(pd.DataFrame({"nothing": pd.Series(dtype="string")}), facts, error=error.message)
    kept.put(question, answer)
    return answer


def _ids(memory: PhysicalMemory, view: CaptureView, addresses: I64) -> NDArray[np.uint8]:
    """Return the digests of the pages that addresses lie in, zeros where the guest has no memory."""
    found = np.zeros((len(addresses), 32), np.uint8)
    for each in memory.ranges:
        mine = np.flatnonzero((addresses >= each.start) & (addresses < each.start + each.length))
        if len(mine):
            pages = (addresses[mine] - each.start + each.offset) // PAGE
            found[mine] = view.region(each.block).ids(pages)
    return found
