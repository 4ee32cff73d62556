"""Ask captures of a case: one at a time in a worker that stays, or many at once; answers are kept and found again.

Refuses to hold a capture's memory in this process, and to keep an answer that depended on luck.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from blake3 import blake3

from workbench.errors import UsageError, WorkbenchError
from workbench.inquiry.answer import Answer
from workbench.inquiry.answers import AnswerCache
from workbench.inquiry.keeping import cache_of
from workbench.inquiry.pool import Executor, LocalExecutor, Question, Worker
from workbench.progress import Progress, silent
from workbench.store.address import Access

__all__ = ["Analyst"]

DEEDS = frozenset({"workbench.process_dump", "workbench.disk.extract", "workbench.disk.read"})
"""Questions that are asked anew each time: their answer is a deed, or as large as what it is of."""
_LONG = 600.0
"""Seconds that a question may take unless told otherwise."""


class Analyst:
    """Asks the captures of one case.

    Parameters
    ----------
    case : Path or str
        A path, or a service's address; then `access` and `place` are needed.
    executor : Executor, optional
        Who answers many questions at once; by default as many local workers as there are processors.
    access : Access, optional
        How a service's case is got at.
    place : Path, optional
        Where the cache lies where that is not in the case.

    Attributes
    ----------
    cache : Path
        The place for what can be made again: the case's own, or the user's where the case cannot be written.
    files : Path
        Where files that plugins took out of memory are, each under its SHA-256.
    """

    def __init__(
        self,
        case: Path | str,
        executor: Executor | None = None,
        *,
        access: Access | None = None,
        place: Path | None = None,
    ) -> None:
        self.case = case.absolute() if isinstance(case, Path) else case
        self._access = access
        self.executor: Executor = executor or LocalExecutor(os.cpu_count() or 1)
        self.symbols: Path | None = None
        self._symbols_digest = ""
        self.worker = Worker()
        self.cache = cache_of(place or Path(case))
        self.files = self.cache / "memory" / "files"
        self.answers = AnswerCache(self.cache / "answers")

    def use_symbols(self, path: Path | None) -> None:
        """Use a symbol table (ISF), or a folder of them, instead of the captures' own; None goes back to those.

        With a folder Volatility finds the kernel itself (automagic): the way for Windows guests.

        Raises
        ------
        UsageError
            If it cannot be read.
        """
        try:
            self._symbols_digest = "" if path is None else _digest(path)
        except OSError as error:
            raise UsageError(f"the symbol table cannot be read: {error.strerror}", path=str(path)) from error
        self.symbols = None if path is None else path.absolute()

    def _question(self, capture: str, name: str, arguments: Mapping[str, Any]) -> Question:
        options = {} if self.symbols is None else {"symbols": str(self.symbols)}
        return Question(self.case, capture, name, dict(arguments), self.cache, options, self._access)

    def ask(
        self,
        capture: str,
        name: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float = _LONG,
        progress: Progress = silent,
    ) -> Answer:
        """Return the answer of one capture, kept or new.

        Raises
        ------
        UsageError, AnalysisError, StoreError
        """
        known = self._known(capture, name, arguments)
        if known is not None:
            return known
        answer = self.worker.ask(self._question(capture, name, arguments), timeout=timeout, progress=progress)
        self._keep(name, answer)
        return answer

    def _known(self, capture: str, name: str, arguments: Mapping[str, Any]) -> Answer | None:
        if name in DEEDS:
            return None
        answer = self.answers.get(capture, name, arguments, self._symbols_digest)
        return answer if answer is not None and self._files_there(answer) else None

    def _files_there(self, answer: Answer) -> bool:
        return all((self.files / each.sha256).is_file() for each in answer.artefacts)

    def _keep(self, name: str, answer: Answer) -> None:
        if name not in DEEDS and "MemoryError" not in answer.error:
            self.answers.put(name, answer, self._symbols_digest)

    def ask_many(
        self,
        asked: Sequence[tuple[str, Mapping[str, Any]]],
        name: str,
        *,
        timeout: float = _LONG,
        progress: Progress = silent,
    ) -> Iterator[tuple[str, Answer | WorkbenchError]]:
        """Yield every capture with its answer or its error; those at hand come first.

        What was answered stays when the rest is broken off: the same call goes on from there.

        Parameters
        ----------
        asked : sequence of (str, mapping)
            Captures, each with its arguments.
        name : str
            The question.
        """
        left = []
        for capture, arguments in asked:
            known = self._known(capture, name, arguments)
            if known is None:
                left.append(self._question(capture, name, arguments))
            else:
                yield capture, known
        if not left:
            return

        def told(event: Any) -> None:
            done = event.done + len(asked) - len(left)
            progress(replace(event, task=f"asking {name}", done=done, total=len(asked)))

        for question, outcome in self.executor.run(left, timeout=timeout, progress=told):
            if isinstance(outcome, Answer):
                self._keep(name, outcome)
            yield question.capture, outcome

    def ask_anyone(self, name: str, arguments: Mapping[str, Any]) -> pd.DataFrame:
        """Return the answer to a question that needs no capture; it is not kept."""
        return self.worker.ask(self._question("", name, arguments), timeout=120).frame

    def close(self) -> None:
        """End the worker."""
        self.worker.kill()


def _digest(path: Path) -> str:
    """Return a digest of a table, or of the names, sizes and times of a folder's tables."""
    if not path.is_dir():
        return blake3(path.read_bytes()).hexdigest(16)
    digest = blake3()
    for file in sorted(path.rglob("*.json*")):
        told = file.stat()
        digest.update(f"{file.relative_to(path)}\0{told.st_size}\0{told.st_mtime_ns}\n".encode())
    return digest.hexdigest(16)
