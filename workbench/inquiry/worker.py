"""The process that answers questions about captures: `python -m workbench.inquiry.worker FD`.

Desks do the answering, each for its kind of question; one is made when it is first asked, and keeps what it has
opened, so that what comes after the first question of a moment is quick. The worker's memory is bounded, it ends with
its parent, and whatever a desk does, the answer is a message. Refuses to write but where it was told.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from workbench.errors import AnalysisError, WorkbenchError
from workbench.inquiry.answer import Answer
from workbench.inquiry.wire import receive, send
from workbench.store.address import Access
from workbench.store.opening import grant

__all__ = ["Desk", "main"]

_ADDRESS_SPACE = 6 << 30
"""Bytes of address space: what a guest's lies make a plugin allocate ends here."""
_TOLD_EVERY = 0.1
_DESKS = (
    ("workbench.disk.", "workbench.instant.desk"),
    ("workbench.instant.", "workbench.instant.desk"),
    ("", "workbench.memory.desk"),
)
"""Beginnings of questions' names, and the module whose `open_desk` answers them: by name, since desks lie above."""

Told = Callable[[float, str], None]


class Desk(Protocol):
    """Whoever answers one kind of question."""

    def answer(self, request: dict[str, Any], progress: Told, /) -> Answer:
        """Answer a question, as `Question.message` has it.

        Raises
        ------
        WorkbenchError
        """


class _Worker:
    """Answers one message after the other."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._desks: dict[str, Desk] = {}
        self._told = 0.0

    def serve(self) -> None:
        """Answer until nobody asks any more."""
        while True:
            try:
                request, _ = receive(self._channel)
            except EOFError:
                return
            if "grant" in request:
                location, token, ca = request["grant"]
                grant(location, Access(token, ca))
                continue
            try:
                answer = self._desk(request["question"]).answer(request, self._progress)
                send(self._channel, {"answer": answer.attributes()}, answer.frame)
            except MemoryError:
                send(self._channel, {"error": _told(AnalysisError("the question takes more memory than a worker has"))})
            except Exception as error:  # noqa: BLE001  (the next question is answered all the same)
                send(self._channel, {"error": _told(error)})

    def _desk(self, question: str) -> Desk:
        module = next(module for beginning, module in _DESKS if question.startswith(beginning))
        if module not in self._desks:
            self._desks[module] = importlib.import_module(module).open_desk()
        return self._desks[module]

    def _progress(self, percent: float, words: str) -> None:
        now = time.monotonic()
        if now - self._told > _TOLD_EVERY:
            self._told = now
            send(self._channel, {"progress": [float(percent), str(words)]})


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
