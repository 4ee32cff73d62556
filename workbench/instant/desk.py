"""The desk for questions of disks (`workbench.disk.*`) under the page cache: asks memory what it has, tells the disks.

What memory says is kept in the case like any answer, also that there is no kernel in it: a search through all of a
guest's memory is not made twice. Refuses to fail a question of disks because memory cannot be read: the disk alone
answers, and `attrs["alone"]` says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.disk.desk import DiskDesk
from workbench.disk.pagecache import FROM_MEMORY, PageCache
from workbench.errors import AnalysisError, SymbolsError
from workbench.inquiry.answer import Answer
from workbench.inquiry.answers import AnswerCache
from workbench.inquiry.worker import Told
from workbench.memory.desk import open_desk as open_memory
from workbench.memory.physical import PhysicalMemory
from workbench.model import PAGE, CaptureId
from workbench.store import CaptureView, CaseStore
from workbench.store.types import I64

__all__ = ["CACHED", "open_desk", "page_cache"]

CACHED = "workbench.cached"
"""The question to memory."""


def open_desk() -> DiskDesk:
    """Make the desk."""
    return DiskDesk(page_cache)


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
    view = CaseStore.open(Path(request["case"])).view(capture)
    if "state:layout" not in {region.spec.name for region in view.record.regions}:
        raise AnalysisError("the capture has no memory")
    memory = PhysicalMemory.of_capture(view)
    answer = _kept(request, capture, progress)
    if set(FROM_MEMORY) - set(answer.frame.columns):
        raise SymbolsError(answer.error or "the page cache cannot be read")
    return PageCache(answer.frame, memory.read, lambda addresses: _ids(memory, view, addresses))


def _kept(request: dict[str, Any], capture: CaptureId, progress: Told) -> Answer:
    """Return memory's answer, kept or new; also that there is none."""
    asked = {**request, "capture": capture, "question": CACHED, "arguments": {}}
    if request["options"].get("symbols"):
        return open_memory().answer(asked, progress)
    kept = AnswerCache(Path(request["cache"]) / "answers")
    known = kept.get(capture, CACHED, {})
    if known is not None:
        return known
    try:
        answer = open_memory().answer(asked, progress)
    except SymbolsError as error:
        facts = {"capture": capture, "plugin": CACHED, "arguments": {}, "versions": {}, "seconds": 0.0}
        answer = Answer(pd.DataFrame({"nothing": pd.Series(dtype="string")}), facts, error=error.message)
    kept.put(CACHED, answer)
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
