"""Ctrl-C and its kin: one way out, that lets the guest go.

The first SIGINT, SIGTERM or SIGHUP becomes KeyboardInterrupt, or does what the verb asked for instead; while the way
out is walked further ones are only counted, so that an impatient second Ctrl-C does not leave half of it. A signal that
was ignored when we started (`nohup`, a job in the background) stays ignored. Refuses to catch SIGKILL: the guard does.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupts"]

_PATIENCE = 3
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """What is done with the signals that end a command.

    Parameters
    ----------
    tell : callable
        Takes a line for the user.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._gently: Callable[[], None] | None = None
        self._leaving = False
        self._refused = 0

    def install(self) -> None:
        """Take the signals; the others of the process stay as they are."""
        for name in _SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_interrupt if name == "SIGINT" else self._on_other)

    def ignore(self) -> None:
        """Ignore them from here on: what is left is the end, and its exit code."""
        for name in _SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        # An interrupt that came out of an `exec`, as of a dataclass being made, CPython remembers as one that nobody
        # caught, and ends by SIGINT instead of our exit code, unless another one comes to a good end
        # (Python/pythonrun.c, run_eval_code_obj; Modules/main.c, Py_RunMain).
        exec("")

    @contextlib.contextmanager
    def gently(self, stop: Callable[[], None]) -> Iterator[None]:
        """Have the first signal call `stop` rather than break off the body; the second breaks it off."""
        self._gently = stop
        try:
            yield
        finally:
            # Once it was called, the way out is being walked: a second one then must not leave half of it.
            self._leaving = self._leaving or self._gently is None
            self._gently = None

    def _on_other(self, _number: int, frame: FrameType | None) -> None:
        # Through SIGINT, so that who holds back Ctrl-C (a rewind half way) holds this back too.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            self._on_interrupt(signal.SIGINT, frame)
        else:
            signal.raise_signal(signal.SIGINT)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        stop, self._gently = self._gently, None
        if stop is not None:
            stop()
            return
        if self._leaving and self._refused < _PATIENCE:
            self._refused += 1
            self._tell("letting the guest go, a moment please")
            return
        self._leaving = True
        raise KeyboardInterrupt
