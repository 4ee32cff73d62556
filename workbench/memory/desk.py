"""The desk for questions of memory: plugins and `workbench.*`. Runs in a worker; holds one sight at a time.

Refuses to mix ways: a table made from memory or named, or a folder for Volatility's automagic.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import AnalysisError
from workbench.inquiry.answer import Answer
from workbench.inquiry.worker import Told
from workbench.memory import PLUGINS
from workbench.memory.listing import own_questions
from workbench.memory.physical import PhysicalMemory
from workbench.memory.questions import Scene, ask, is_own
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.volatility.context import set_up
from workbench.memory.volatility.opening import Opener
from workbench.model import CaptureId
from workbench.store import CaptureView, CaseStore
from workbench.store.opening import open_store

__all__ = ["FILES", "MemoryDesk", "open_desk"]

FILES = Path("memory", "files")
"""Below the case's cache: files that plugins took out of memory."""
_KERNELS = Path("memory", "kernels")


@cache
def open_desk() -> MemoryDesk:
    """Return this process's desk: a sight takes much memory, so whoever asks shares it."""
    return MemoryDesk()


class MemoryDesk:
    """Answers questions about the memory of captures, of one case at a time."""

    def __init__(self) -> None:
        self._opened: tuple[tuple[str, str], CaseStore, Opener] | None = None

    def answer(self, request: dict[str, Any], progress: Told) -> Answer:
        """Answer a question.

        Raises
        ------
        UsageError, AnalysisError, StoreError
        """
        if request["question"] == PLUGINS:
            return _listed(**request["arguments"])
        isf = request["options"].get("symbols", "")
        store, opener = self._open(request, isf)
        view = store.view(CaptureId(request["capture"]))
        files = Path(request["cache"]) / FILES
        if isf and Path(isf).is_dir():
            opener.close()
            return _automatic(view, request, Path(isf), files, progress)
        scene = Scene(store, view, opener.open(view), progress)
        return ask(scene, request["question"], request["arguments"], files)

    def _open(self, request: dict[str, Any], isf: str) -> tuple[CaseStore, Opener]:
        key = (request["case"], isf)
        if self._opened is None or self._opened[0] != key:
            if self._opened is not None:
                self._opened[2].close()
            opener = Opener(Path(request["cache"]) / _KERNELS, SymbolCache(), Path(isf) if isf else None)
            self._opened = (key, open_store(request["case"]), opener)
        return self._opened[1], self._opened[2]


def _automatic(view: CaptureView, request: dict[str, Any], folder: Path, files: Path, progress: Told) -> Answer:
    """Answer as Volatility itself would, with symbols from a folder."""
    name = request["question"]
    if is_own(name):
        raise AnalysisError(f"{name} needs a kernel that is known by its memory, not by a folder of symbols")
    set_up()
    from workbench.memory.volatility.automatic import AutomaticSight

    sight = AutomaticSight(view.record.id, PhysicalMemory.of_capture(view), folder)
    try:
        return sight.run(name, request["arguments"], files, progress)
    finally:
        sight.close()


def _listed(prefix: str) -> Answer:
    if is_own(prefix):
        rows = [(name, _joined(takes), _joined(takes)) for name, takes in own_questions(prefix)]
    else:
        from workbench.memory.volatility.catalogue import listed

        rows = [(each.name, _joined(each.takes), _joined(each.kinds)) for each in listed(prefix)]
    return Answer(pd.DataFrame(rows, columns=["plugin", "arguments", "kinds"], dtype="string"), {})


def _joined(takes: dict[str, str]) -> str:
    return "; ".join(f"{key}: {words}" for key, words in takes.items())
