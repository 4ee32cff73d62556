"""The process that answers questions about captures: `python -m workbench.memory.worker FD`.

It holds one sight at a time, so what comes after the first question of a moment is quick. Its memory is bounded, it
ends with its parent, and whatever a plugin does, the answer is a message. Refuses to write but where it was told.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import AnalysisError, WorkbenchError
from workbench.memory.answer import Answer
from workbench.memory.physical import PhysicalMemory
from workbench.memory.questions import Scene, ask, is_own
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.volatility.context import set_up
from workbench.memory.volatility.opening import Opener
from workbench.memory.wire import receive, send
from workbench.model import CaptureId
from workbench.store import CaptureView, CaseStore

__all__ = ["main"]

_ADDRESS_SPACE = 6 << 30
"""Bytes of address space: what a guest's lies make a plugin allocate ends here."""
_TOLD_EVERY = 0.1


class _Worker:
    """Answers one message after the other."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._opened: tuple[tuple[Any, ...], CaseStore, Opener] | None = None
        self._told = 0.0

    def serve(self) -> None:
        """Answer until nobody asks any more."""
        while True:
            try:
                request, _ = receive(self._channel)
            except EOFError:
                return
            try:
                answer = self._answer(request)
                send(self._channel, {"answer": answer.attributes()}, answer.frame)
            except MemoryError:
                send(self._channel, {"error": _told(AnalysisError("the question takes more memory than a worker has"))})
            except Exception as error:  # noqa: BLE001  (the next question is answered all the same)
                send(self._channel, {"error": _told(error)})

    def _answer(self, request: dict[str, Any]) -> Answer:
        if "plugins" in request:
            return _listed(request["plugins"])
        store, opener = self._open(request)
        view = store.view(CaptureId(request["capture"]))
        if request.get("isf") is not None and Path(request["isf"]).is_dir():
            opener.close()
            return self._automatic(view, request)
        scene = Scene(store, view, opener.open(view), self._progress)
        files = request.get("files")
        return ask(scene, request["question"], request["arguments"], None if files is None else Path(files))

    def _automatic(self, view: CaptureView, request: dict[str, Any]) -> Answer:
        """Answer as Volatility itself would, with symbols from a folder."""
        name, folder = request["question"], Path(request["isf"])
        if is_own(name):
            raise AnalysisError(f"{name} needs a kernel that is known by its memory, not by a folder of symbols")
        set_up()
        from workbench.memory.volatility.automatic import AutomaticSight

        sight = AutomaticSight(view.record.id, PhysicalMemory.of_capture(view), folder)
        try:
            return sight.run(name, request["arguments"], Path(request["files"]), self._progress)
        finally:
            sight.close()

    def _open(self, request: dict[str, Any]) -> tuple[CaseStore, Opener]:
        key = (request["case"], request["notes"], request.get("symbols"), request.get("isf"))
        if self._opened is None or self._opened[0] != key:
            if self._opened is not None:
                self._opened[2].close()
            case, notes, symbols, isf = (None if each is None else Path(each) for each in key)
            assert case is not None
            assert notes is not None
            self._opened = (key, CaseStore.open(case), Opener(notes, SymbolCache(symbols), isf))
        return self._opened[1], self._opened[2]

    def _progress(self, percent: float, words: str) -> None:
        now = time.monotonic()
        if now - self._told > _TOLD_EVERY:
            self._told = now
            send(self._channel, {"progress": [float(percent), str(words)]})


def _listed(prefix: str) -> Answer:
    from workbench.memory.volatility.catalogue import listed

    rows = [(each.name, "; ".join(f"{key}: {words}" for key, words in each.takes.items())) for each in listed(prefix)]
    return Answer(pd.DataFrame(rows, columns=["plugin", "arguments"], dtype="string"), {})


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, WorkbenchError):
        facts = {name: repr(value) for name, value in error.facts.items()}
        return {"kind": type(error).__name__, "message": error.message, "cure": error.cure, "facts": facts}
    return {"kind": "AnalysisError", "message": f"{type(error).__name__}: {error}", "cure": "", "facts": {}}


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, also in the middle of a question."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main(descriptor: int) -> None:
    """Serve the socket behind `descriptor`."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    _end_with(os.getppid())
    with socket.socket(fileno=descriptor) as channel:
        _Worker(channel).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
