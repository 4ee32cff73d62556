"""What `workbench.case` gives its Case of this room: bisection, inputs, driving again.

Refuses to load what starts clones before it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.progress import Progress, silent
from workbench.store import CaseStore
from workbench.store.documents import MAX_TIME_NS

if TYPE_CHECKING:
    from workbench.guest.connection import Hypervisor
    from workbench.replay.bisect import Bisection
    from workbench.replay.drive import Replay
    from workbench.replay.inputs import Way

__all__ = ["BisectOfCase"]


class BisectOfCase:
    """Find when something came about, and see what would come of it again."""

    store: CaseStore

    def moment(self, when: str = "latest", guest: str | None = None) -> Any:
        """Return the moment that `when` names."""
        raise NotImplementedError

    @property
    def hypervisor(self) -> Hypervisor:
        """The connection to the guests."""
        raise NotImplementedError

    def send(self, text: str, guest: str | None = None, *, way: Way = "serial") -> None:
        """Put something into the running guest itself, and record it, so that `replay` plays it.

        Parameters
        ----------
        text : str
            What is typed at its serial console, newlines included, or a shell script for its guest agent. It is kept
            in the case as it is: type no secrets.
        way : {"serial", "agent"}

        Raises
        ------
        UsageError
            Nothing was sent.
        GuestError
            It was recorded, and may not have come in.
        """
        from workbench.replay.inputs import Input, note_input, put_in

        record = self.moment("latest", guest).guest
        running, given = self.hypervisor.guest(record.id), Input(time.time_ns(), way, text)
        note_input(self.store, record.id, given)
        put_in(running, given)

    def inputs(self, guest: str | None = None) -> pd.DataFrame:
        """Return what was sent into a guest: time (datetime64[ns, UTC]), way, text (str)."""
        from workbench.replay.inputs import inputs_of

        found = inputs_of(self.store, self.moment("latest", guest).guest.id, -1, MAX_TIME_NS)
        frame = pd.DataFrame([(each.time_ns, each.way, each.text) for each in found], columns=["time", "way", "text"])
        return frame.assign(time=pd.to_datetime(frame["time"].astype("int64"), unit="ns", utc=True))

    def replay(self, a: Any, b: Any, guest: str | None = None, *, progress: Progress = silent) -> Replay:
        """Drive a moment again: a clone of A runs for as long as the guest did to B, recorded inputs are played.

        Returns
        -------
        Replay
            `compare()` says which processes, sockets and files differ, `moment` is what came of it, to be looked at
            like any. A clone has no network and chance falls anew: a difference is a question, not a finding.

        Raises
        ------
        UsageError
            If B does not descend from A, or the span is longer than an hour.
        UnsupportedError, GuestError, CaptureError, StoreError
            No clone is left.
        """
        from workbench.replay.drive import drive
        from workbench.replay.inputs import inputs_of
        from workbench.replay.path import path_between

        begin, original = (self.moment(each, guest) if isinstance(each, str) else each for each in (a, b))
        path_between(self.store, begin.id, original.id)
        given = inputs_of(self.store, begin.guest.id, begin.record.time_ns, original.record.time_ns)
        return drive(begin, original, given, progress)

    def bisect(
        self,
        predicate: Callable[[Any], bool],
        between: tuple[Any, Any],
        guest: str | None = None,
        *,
        refine: bool = False,
        progress: Progress = silent,
    ) -> Bisection:
        """Find a capture for which a predicate holds and did not hold at the one before, with few questions.

        Parameters
        ----------
        predicate : callable
            Takes a Moment and returns a bool: `file_exists`, `process_runs`, `plugin_reports`, or one of your own. A
            capture at which it raises an error is passed over and told as unknown.
        between : tuple
            Two moments or names of moments, A and B: it does not hold at A and holds at B, which descends from A.
        refine : bool
            Go on between the two captures found with clones that are run on from the earlier one; see
            `Bisection.refinement`. Takes as long as that interval and some seconds, and leaves captures of the clones
            in the case.

        Returns
        -------
        Bisection
            `first`, `last_before`, `unknown`, `span`, `evaluations`, `refinement`. If the answer turns several times
            between A and B, this is one of the turns. Where refining failed the bisection stands: `refused` says why.

        Raises
        ------
        UsageError
            If B does not descend from A, or the predicate is not as said at one of them.
        MomentNotFoundError, AmbiguousMomentError, StoreError
        """
        from workbench.replay.bisect import bisect_moments
        from workbench.replay.path import path_between

        a, b = (self.moment(each, guest) if isinstance(each, str) else each for each in between)
        path = path_between(self.store, a.id, b.id)
        found = bisect_moments(path, lambda capture: self.moment(capture, b.guest.id), predicate, progress)
        if refine:
            found.refine(predicate, progress)
        return found
