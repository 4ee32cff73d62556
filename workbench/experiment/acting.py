"""One run of an experiment: a clone that stands at the moment, made a variant, put to work, measured, captured.

It is captured once, as it ended: as it began it is the moment, page for page (docs/design.md, 6.4).

Preconditions: the clone stands as it was started. Whatever happens in it is an outcome: "ok", "failed" or "hung", with
the step and the words. What cannot be broken off (a callable) is left behind in a thread of its own when its time is
over, and finds its clone gone. Refuses to start and to end clones: `running` does.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError
from workbench.experiment.document import Outcome, Run
from workbench.experiment.order import Turn
from workbench.experiment.parts import Failed, Hung, Part
from workbench.experiment.text import inert
from workbench.inside.waiting import console_log

__all__ = ["Stopped", "Work", "act"]

_GRACE = 5.0
"""Seconds that a part may take longer than it was given: a command that is killed has to be heard of."""
_CONSOLE = 64 << 10
"""Bytes of a console that are kept: the last ones."""
_LOOK = 0.1


class Stopped(Exception):  # noqa: N818  (the experiment is being broken off)
    """The experiment is being broken off; there is no outcome."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is done in the clones of one variant.

    Attributes
    ----------
    variant, workload, until : Part
    measures : dict of str to Part
    timeout : float
        Seconds for all of these.
    keep : bool
        Whether the clone is captured as it ends.
    """

    variant: Part
    workload: Part
    until: Part
    measures: dict[str, Part]
    timeout: float
    keep: bool


@dataclass(slots=True)
class _State:
    """A run that is under way."""

    clone: Any
    stop: threading.Event
    until: float = 0.0
    outcome: Outcome = "ok"
    step: str = ""
    errors: list[str] = field(default_factory=list)
    seconds: float | None = None
    values: dict[str, float | str] = field(default_factory=dict)
    after: str = ""
    guest: str = ""


def act(clone: Any, turn: Turn, work: Work, stop: threading.Event) -> Run:
    """Make one run on a clone that stands; it stands again at the end, or is gone.

    Raises
    ------
    Stopped
        If `stop` was set meanwhile.
    """
    state = _State(clone, stop)
    with contextlib.suppress(_Ended):
        _live(state, work)
    console = _console(clone)
    with _noting(state, "pausing"):
        clone.pause()
    if work.keep:
        _capture(state, turn)
    if stop.is_set():
        raise Stopped
    return _run(state, turn, console)


def _run(state: _State, turn: Turn, console: str) -> Run:
    return Run(
        variant=turn.variant,
        repeat=turn.repeat,
        position=turn.position,
        outcome=state.outcome,
        step=state.step,
        error=inert("; ".join(state.errors), 1000),
        seconds=state.seconds,
        values=state.values,
        guest=state.guest,
        after=state.after,
        console=console,
        memory=state.clone.record.memory,
        identity=dict(state.clone.record.identity),
    )


class _Ended(Exception):  # noqa: N818
    """The run has an outcome."""


def _live(state: _State, work: Work) -> None:
    """Let it run, and do everything in it.

    Raises
    ------
    _Ended
        At the first step that is not as it should be.
    """
    state.until = time.monotonic() + work.timeout
    _step(state, "start", lambda _left: state.clone.resume())
    _step(state, "variant", lambda left: work.variant.act(state.clone, left))
    began = time.monotonic()
    _step(state, "workload", lambda left: work.workload.act(state.clone, left))
    _step(state, "until", lambda left: work.until.act(state.clone, left))
    state.seconds = time.monotonic() - began
    for name, part in work.measures.items():
        _measure(state, name, part)
    if state.outcome != "ok":
        raise _Ended


def _measure(state: _State, name: str, part: Part) -> None:
    """Take one measure; one that cannot be taken makes the run a failed one, and the others are taken nevertheless."""
    with contextlib.suppress(_Ended):
        found = _step(state, f"measure {name}", lambda left: part.act(state.clone, left))
        state.values |= found
        return
    if state.outcome == "hung":
        raise _Ended


def _step(state: _State, name: str, act: Callable[[float], Any]) -> Any:
    """Do one step within the time that is left, and tell how it ended.

    Raises
    ------
    _Ended
    """
    left = state.until - time.monotonic()
    try:
        if left <= 0:
            raise Hung("there was no time left for it")
        return _within(left, act, state.stop)
    except Stopped:
        raise
    except Exception as error:
        late = isinstance(error, Hung) or (not isinstance(error, Failed) and time.monotonic() >= state.until)
        state.outcome, state.step = ("hung" if late else "failed"), state.step or name
        state.errors.append(f"{name}: {_words(error)}")
        raise _Ended from error


def _words(error: Exception) -> str:
    if isinstance(error, Failed | Hung):
        return str(error)
    return error.message if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"


def _within(seconds: float, act: Callable[[float], Any], stop: threading.Event) -> Any:
    """Return what `act` gives, within some seconds and a little grace.

    Raises
    ------
    Hung, Stopped
        And whatever `act` raises.
    """
    found: dict[str, Any] = {}
    done = threading.Event()

    def work() -> None:
        try:
            found["value"] = act(seconds)
        except BaseException as error:  # noqa: BLE001  (raised again by whoever waits)
            found["error"] = error
        finally:
            done.set()

    threading.Thread(target=work, name="experiment step", daemon=True).start()
    until = time.monotonic() + seconds + _GRACE
    while not done.wait(_LOOK):
        if stop.is_set():
            raise Stopped
        if time.monotonic() >= until:
            raise Hung(f"it did not end in {seconds:.1f} s")
    if stop.is_set():
        raise Stopped
    if "error" in found:
        raise found["error"]
    return found["value"]


@contextlib.contextmanager
def _noting(state: _State, what: str) -> Iterator[None]:
    """Note what could not be done after the run, which keeps its outcome."""
    if state.stop.is_set():
        raise Stopped
    try:
        yield
    except (WorkbenchError, OSError) as error:
        state.errors.append(f"{what}: {_words(error)}")


def _capture(state: _State, turn: Turn) -> None:
    with _noting(state, "capturing"):
        moment = state.clone.capture(f"experiment: {turn.variant} {turn.repeat}")
        state.after, state.guest = str(moment.id), str(moment.guest.id)


def _console(clone: Any) -> str:
    """Return the end of what its console wrote; "" where no log is kept of it, or it is gone."""
    with contextlib.suppress(WorkbenchError, OSError):
        path = console_log(clone.guest)
        if path is not None:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - _CONSOLE))
                told = log.read(_CONSOLE).replace(b"\r", b"").decode("utf-8", "backslashreplace")
            return inert(told, 2 * _CONSOLE)
    return ""
