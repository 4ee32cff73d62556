"""Long work off the kernel's main thread: a bar, a button that ends it, and its answer or its error in words.

A newer piece of work makes the answer of an older one void: what an analyst asked for last is what is shown. Refuses to
block the kernel's main thread, and to show an error as anything but inert text.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.notebook.text import inert
from workbench.progress import Progress, ProgressEvent

__all__ = ["Work"]

_OFTEN = 0.1
"""Seconds between two changes of the bar."""
_QUIET = 0.3
"""Seconds that work goes on before it is shown: what is quick does not make the page jump."""
_YIELD = 0.5
"""Seconds that a piece of work lets an older one come to its end, and then begins beside it."""
_BEGUN = 3.0
"""Seconds after which void work is broken off: a worker that ends with it takes about two to begin anew."""
_LONGEST = 600


class _Void(BaseException):
    """The answer is no longer wanted; leaves the deed where it next tells of its progress."""


class Work(ipywidgets.VBox):  # type: ignore[misc]
    """Runs one deed at a time for what is shown; out of sight while there is nothing to tell.

    Parameters
    ----------
    cancel : callable, optional
        Ends what a deed waits for (a worker's process), beyond making its answer void.

    Attributes
    ----------
    error : str
        What went wrong last, inert; empty where nothing did.
    """

    def __init__(self, cancel: Callable[[], None] | None = None) -> None:
        self._cancel = cancel
        self._turn = self._told = 0  # the newest piece of work, and the one that the bar tells of
        self._lock = threading.Lock()
        self._answering = threading.RLock()  # an older `done` ends before a newer one begins
        self._thread: threading.Thread | None = None
        self.error = ""
        self._bar = ipywidgets.FloatProgress(max=1.0, layout={"width": "12em"})
        self._bar.tooltip = "Progress"
        self._button = ipywidgets.Button(description="Cancel", tooltip="End this work", layout={"width": "auto"})
        self._button.on_click(lambda _button: self.cancel())
        self._words = ipywidgets.Label(layout={"overflow": "hidden"})
        self._row = ipywidgets.HBox([self._bar, self._button, self._words])
        super().__init__([self._row])
        self._show(running=False)

    def __repr__(self) -> str:
        return f"<Work {'running' if self.running else 'at rest'}: {self.words}>"

    @property
    def running(self) -> bool:
        """Whether a deed whose answer is wanted runs."""
        return self._thread is not None

    @property
    def words(self) -> str:
        """What is said beside the bar."""
        return str(self._words.value)

    def run(
        self,
        words: str,
        deed: Callable[[Progress], Any],
        done: Callable[[Any], None],
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Run `deed(progress)` on a thread, then `done(result)` there, unless a newer run or Cancel came first.

        Parameters
        ----------
        words : str
            What is being done, as a user would say it.
        failed : callable, optional
            Called instead of `done` where the deed raised; the error is shown whether it is there or not.
        """
        with self._lock:
            self._turn += 1
            turn, older = self._turn, self._thread
            self.error = ""
            told = self._progress(turn, words)
            what = (turn, older, told, deed, done, failed or _nothing)
            thread = threading.Thread(target=self._do, args=what, name="work", daemon=True)
            thread.start()
            self._thread = thread  # who waits for it joins it: it must have been started
        shown = threading.Timer(_QUIET, self._begun, (turn, words))
        shown.daemon = True
        shown.start()

    def cancel(self) -> None:
        """Make the answer under way void, and end what it waits for."""
        with self._lock:
            if self._thread is None:
                return
            self._turn += 1
            self._rest("Cancelled.")
        if self._cancel is not None:
            self._cancel()

    def tell(self, words: str) -> None:
        """Say something beside the bar, or, empty, nothing."""
        with self._lock:
            self._words.value = inert(words, _LONGEST)
            self._show(running=self.running)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the work under way, for tests and static reports; tell whether it ended in time (seconds)."""
        end = None if timeout is None else time.monotonic() + timeout
        while (thread := self._thread) is not None and thread is not threading.current_thread():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            thread.join(left)
        return True

    def _do(
        self,
        turn: int,
        older: threading.Thread | None,
        progress: Progress,
        deed: Callable[[Progress], Any],
        done: Callable[[Any], None],
        failed: Callable[[], None],
    ) -> None:
        if older is not None and older is not threading.current_thread():
            older.join(_YIELD)
        if turn != self._turn:
            return  # many moments were passed by: only the last is asked
        try:
            result = deed(progress)
            with self._answering:
                if turn == self._turn:
                    done(result)
        except _Void:
            return
        except Exception as error:  # noqa: BLE001  (a thread has nobody else to tell)
            with self._answering:
                if turn == self._turn:
                    failed()
            self._end(turn, str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}")
        else:
            self._end(turn, "")

    def _progress(self, turn: int, words: str) -> Progress:
        last, began = 0.0, time.monotonic()

        def told(event: ProgressEvent) -> None:
            nonlocal last
            now = time.monotonic()
            if turn != self._turn:
                if now - began > _BEGUN:
                    raise _Void
            elif now - last >= _OFTEN:
                last = now
                self._begun(
                    turn, f"{words}: {event.note or event.task}", event.done / event.total if event.total else 0.0
                )

        return told

    def _begun(self, turn: int, words: str, share: float | None = None) -> None:
        """Show how far it is; that it runs at all (no share), only where it has not told more already."""
        with self._lock:
            if turn != self._turn or self._thread is None or (share is None and self._told == turn):
                return
            self._told = turn
            self._bar.value, self._words.value = share or 0.0, inert(words, _LONGEST)
            self._show(running=True)

    def _end(self, turn: int, error: str) -> None:
        with self._lock:
            if turn == self._turn:
                self.error = inert(error, _LONGEST)
                self._rest(error)

    def _rest(self, words: str) -> None:
        self._words.value = inert(words, _LONGEST)
        self._show(running=False)
        self._thread = None  # at last: who waits for it looks at what was said

    def _show(self, *, running: bool) -> None:
        self._bar.layout.display = self._button.layout.display = "" if running else "none"
        self.layout.display = "" if running or self._words.value else "none"


def _nothing() -> None:
    """Do nothing."""
