"""Workers and who runs questions on them: one process for a conversation, several for a span of captures.

An executor takes questions and yields answers as they come; another kind of executor can stand in for this one. A
question that takes too long, or whose worker dies, costs its own answer: the next one gets a new worker. Refuses to
leave a process behind.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from workbench import errors
from workbench.errors import AnalysisError, UsageError, WorkbenchError
from workbench.inquiry.answer import Answer
from workbench.inquiry.wire import receive, send
from workbench.progress import Progress, ProgressEvent, silent
from workbench.store.address import Access
from workbench.store.told import Words

__all__ = ["Executor", "LocalExecutor", "Question", "Worker"]

Outcome = Answer | WorkbenchError
# One heap, which keeps up to 32 MiB of what is freed: giving all back at once took as long as many a question did.
_FRUGAL = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": str(32 << 20), "MALLOC_MMAP_THRESHOLD_": str(8 << 20)}


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one capture.

    Attributes
    ----------
    case : Path or str
        Where it is: a path, or a service's address.
    capture : str
        Its id; empty where a question needs none.
    name : str
        A plugin's name, or one of our own questions.
    arguments : dict
        JSON values.
    cache : Path
        The case's place for what can be made again.
    options : dict of str to str
        How it is to be answered: "symbols", the path of a symbol table or a folder of them.
    access : Access, optional
        How a service's case is got at: told to the worker over its channel, and no part of the question.
    """

    case: Path | str
    capture: str
    name: str
    arguments: dict[str, Any]
    cache: Path
    options: dict[str, str] = field(default_factory=dict)
    access: Access | None = field(default=None, repr=False)

    def message(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "case": str(self.case),
            "capture": self.capture,
            "question": self.name,
            "arguments": self.arguments,
            "cache": str(self.cache),
            "options": self.options,
        }


class Executor(Protocol):
    """Whoever answers many questions."""

    def run(
        self, questions: Sequence[Question], *, timeout: float, progress: Progress = silent
    ) -> Iterator[tuple[Question, Outcome]]:
        """Yield every question with its answer or its error, in any order."""


class Worker:
    """One worker process, started at the first question; its own lock makes questions take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._life = threading.RLock()  # held for moments: while a process is started, and while one is ended
        self._ended = False
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def ask(self, question: Question, *, timeout: float, progress: Progress = silent) -> Answer:
        """Ask and wait.

        Raises
        ------
        AnalysisError
            If it took longer than `timeout` seconds, or the worker died; a new one takes the next question.
        WorkbenchError
            What the worker says is wrong.
        """
        with self._lock:
            channel = self._start()
            try:
                if question.access is not None:
                    send(channel, {"grant": [str(question.case), question.access.token, question.access.ca]})
                send(channel, question.message())
                return self._wait(channel, question.name, time.monotonic() + timeout, progress)
            except TimeoutError as error:
                self.kill()
                raise AnalysisError(
                    f"{question.name} did not end within {timeout:g} s", cure="Give it more time, or fewer arguments."
                ) from error
            except (EOFError, OSError) as error:
                self.kill()
                raise AnalysisError(f"the worker died of {question.name}", cure="Ask for less at a time.") from error
            except BaseException as error:
                if not isinstance(error, WorkbenchError):  # an interrupt: the answer under way must not reach the next
                    self.kill()
                raise

    def _wait(self, channel: socket.socket, name: str, end: float, progress: Progress) -> Answer:
        while True:
            channel.settimeout(max(0.001, end - time.monotonic()))
            message, frame = receive(channel)
            if "progress" in message:
                percent, words = message["progress"]
                progress(ProgressEvent(f"{name}: {words}", int(percent), 100, "%"))
                continue
            if "error" in message:
                raise _error(message["error"])
            if frame is None:
                raise AnalysisError("an answer without a table", question=name)
            return Answer.from_attributes(frame, message["answer"])

    def _start(self) -> socket.socket:
        with self._life:
            if self._ended:
                raise AnalysisError("the worker was ended")
            if self._process is not None and self._process.poll() is not None:
                self.kill()
            if self._channel is None:
                self._channel = self._begin()
            return self._channel

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workbench.inquiry.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_FRUGAL},
            )
        return ours

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """End the process, whatever it does; also from another thread, to cancel a question. The next starts anew."""
        with self._life:
            process, channel = self._process, self._channel
            self._process = self._channel = None
            if process is not None:
                process.kill()
                process.wait()
            if channel is not None:
                channel.close()

    def end(self) -> None:
        """End the process and start no other."""
        with self._life:
            self._ended = True
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()


def _error(told: dict[str, Any]) -> WorkbenchError:
    """Return the worker's error as one of ours, with the same words."""
    kind = getattr(errors, str(told["kind"]), AnalysisError)
    if not (isinstance(kind, type) and issubclass(kind, WorkbenchError)):
        kind = AnalysisError
    facts = {str(name): Words(value) for name, value in dict(told["facts"]).items()}
    return kind(str(told["message"]), cure=str(told["cure"]), **facts)


class LocalExecutor:
    """Workers on this machine.

    Parameters
    ----------
    workers : int
        Processes at a time.
    """

    def __init__(self, workers: int = 2) -> None:
        if workers < 1:
            raise UsageError("at least one worker is needed", workers=workers)
        self.workers = workers

    def run(
        self, questions: Sequence[Question], *, timeout: float, progress: Progress = silent
    ) -> Iterator[tuple[Question, Outcome]]:
        """Yield every question with its answer or its error, as they come; workers end with the iteration."""
        left: queue.SimpleQueue[Question] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Question, Outcome]] = queue.SimpleQueue()
        for question in questions:
            left.put(question)
        with contextlib.ExitStack() as stack:
            hands = [stack.enter_context(Worker()) for _ in range(min(self.workers, len(questions)))]
            ended = threading.Event()
            stack.callback(ended.set)
            for hand in hands:
                threading.Thread(target=_work, args=(hand, left, done, ended, timeout), daemon=True).start()
            for count in range(1, len(questions) + 1):
                yield done.get()
                progress(ProgressEvent("asking captures", count, len(questions), "captures"))


def _work(
    worker: Worker,
    left: queue.SimpleQueue[Question],
    done: queue.SimpleQueue[tuple[Question, Outcome]],
    ended: threading.Event,
    timeout: float,
) -> None:
    with worker:  # also a process that was started after everything had ended
        while not ended.is_set():
            try:
                question = left.get_nowait()
            except queue.Empty:
                return
            done.put((question, _outcome(worker, question, timeout)))


def _outcome(worker: Worker, question: Question, timeout: float) -> Outcome:
    try:
        return worker.ask(question, timeout=timeout)
    except WorkbenchError as error:
        return error
    except Exception as error:  # noqa: BLE001  (whoever waits must hear of every question)
        return AnalysisError(f"{type(error).__name__}: {error}", question=question.name)
