"""All runs of an experiment: clones of one moment, some at once, in the drawn order, each ended whatever happens.

Preconditions: the moment's content is readable; its guest need not exist. On success every run has an outcome. On
failure (Ctrl-C) every clone is ended and its files are gone before the error goes on; where the process itself is
killed, or libvirt does not end a clone, `case.clones()` lists what is left. Refuses to touch the guest that the moment
is of.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

from workbench.errors import UsageError, WorkbenchError
from workbench.experiment.acting import Stopped, Work, act
from workbench.experiment.document import Run
from workbench.experiment.order import Need, Turn
from workbench.experiment.text import inert
from workbench.model import CaptureId, RegionKind
from workbench.progress import Progress, ProgressEvent
from workbench.rewind.mapped_xml import main_memory
from workbench.store import CaseStore

__all__ = ["need_of", "run_all"]

_LOOK_S = 0.5


def need_of(store: CaseStore, moment: CaptureId) -> Need:
    """Return what a clone of a moment takes of the host."""
    view = store.view(moment)
    xml = view.region("state:xml").open().read().decode()
    memory = sum(each.spec.length for each in view.record.regions if each.spec.kind is RegionKind.MEMORY)
    count = ET.fromstring(xml).findtext("./vcpu", "1").strip()
    vcpus = int(count) if count.isascii() and count.isdecimal() and len(count) < 5 else 1
    return Need(memory, vcpus, shared=main_memory(xml, view) is not None)


def run_all(
    case: Any,
    moment: Any,
    turns: Sequence[Turn],
    work: Mapping[str, Work],
    *,
    at_once: int,
    options: Mapping[str, Any],
    progress: Progress,
) -> list[Run]:
    """Make all runs; return them by position.

    Parameters
    ----------
    case : Case
    moment : Moment
    turns : sequence of Turn
    work : mapping of str to Work
        By variant.
    at_once : int
        Clones that run at the same time.
    options : mapping
        Further keywords of `case.start_clone`.
    """
    return _Clones(case, moment, work, options).all(turns, at_once, progress)


class _Clones:
    """The clones of one experiment."""

    def __init__(self, case: Any, moment: Any, work: Mapping[str, Work], options: Mapping[str, Any]) -> None:
        self._case, self._moment, self._work, self._options = case, moment, work, options
        self._stop = threading.Event()
        self._turn = threading.Lock()
        # A clone is ended by its run, or by whoever breaks all off: not by both at once.
        self._ending = threading.Lock()
        self._live: list[Any] = []

    def all(self, turns: Sequence[Turn], at_once: int, progress: Progress) -> list[Run]:
        runs: list[Run] = []
        with ThreadPoolExecutor(at_once, thread_name_prefix="experiment") as pool:
            asked = [pool.submit(self._one, turn) for turn in turns]
            try:
                waiting = set(asked)
                while waiting:
                    # Not for ever: a signal that the kernel gave to another thread is heard when this one wakes.
                    done, waiting = wait(waiting, _LOOK_S, FIRST_COMPLETED)
                    for each in done:
                        runs.append(each.result())
                        progress(_event(runs, len(turns)))
            except BaseException:
                self._break_off(asked)
                raise
        return sorted(runs, key=lambda run: run.position)

    def _break_off(self, asked: Sequence[Future[Run]]) -> None:
        """End all clones at once; whoever waits for one of them hears it, and ends."""
        self._stop.set()
        for each in asked:
            each.cancel()
        with self._turn:
            live = list(self._live)
        for clone in live:
            self._destroy(clone)

    def _one(self, turn: Turn) -> Run:
        if self._stop.is_set():
            raise Stopped
        try:
            clone = self._case.start_clone(self._moment, run=False, **self._options)
        except (WorkbenchError, OSError) as error:
            words = inert(f"start: {error.message if isinstance(error, WorkbenchError) else error}", 1000)
            return Run(turn.variant, turn.repeat, turn.position, "failed", "start", words)
        left: list[str] = []
        with self._counted(clone, left):
            run = act(clone, turn, self._work[turn.variant], self._stop)
        return replace(run, error="; ".join(filter(None, [run.error, *left])))

    @contextlib.contextmanager
    def _counted(self, clone: Any, left: list[str]) -> Iterator[None]:
        """Know of a clone while it lives; it is gone at the end, or `left` says why not."""
        try:
            with self._turn:
                self._live.append(clone)
            yield
        finally:
            left += self._destroy(clone)
            with self._turn:
                self._live.remove(clone)

    def _destroy(self, clone: Any) -> list[str]:
        """End a clone, if nobody did before; return why it could not be, if so."""
        try:
            with self._ending:
                clone.destroy()
        except UsageError:
            return []  # the case has none of that name any more
        except (WorkbenchError, OSError) as error:
            return [inert(f"its clone is left, and listed by case.clones(): {error}")]
        return []


def _event(runs: Sequence[Run], total: int) -> ProgressEvent:
    last = runs[-1]
    note = "" if last.outcome == "ok" else f"{last.variant} {last.repeat} {last.outcome}: {last.error}"
    return ProgressEvent("experiment", len(runs), total, "runs", note)
