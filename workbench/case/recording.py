"""A running guest being recorded into a case: captures now, or at an interval in the background.

Refuses to capture beside a watch that runs: the watch is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from workbench.capture.quiesce import Quiesce
from workbench.capture.schedule import CaptureLoop, Tick
from workbench.capture.session import CaptureSession
from workbench.case.moment import Moment
from workbench.errors import UsageError
from workbench.model import CaptureMode, GuestId, GuestRecord, Mark
from workbench.progress import Progress, silent
from workbench.rewind.in_place import Rewound
from workbench.rewind.plan import RewindPlan

if TYPE_CHECKING:
    from workbench.case.case import Case

__all__ = ["Recording"]


class Recording:
    """A running guest being recorded into a case."""

    def __init__(self, case: Case, session: CaptureSession) -> None:
        self.case = case
        self.session = session
        self._loop: CaptureLoop | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def guest(self) -> GuestRecord:
        """The guest being recorded."""
        return GuestRecord(GuestId(self.session.guest.id), self.session.guest.name)

    def capture(
        self,
        reason: str = "",
        *,
        mark: str | None = None,
        mode: CaptureMode = CaptureMode.MANUAL,
        quiesce: Quiesce | None = None,
    ) -> Moment:
        """Take one capture now and return its moment; `mark` names it, `quiesce` freezes file systems for this one.

        Raises
        ------
        CaptureError, GuestError, StoreError
            The guest runs on.
        UsageError
            While `watch` runs in the background: use `request`.
        """
        if self._thread is not None:
            raise UsageError("captures are being taken in the background", cure="Ask with `request`, or end the watch")
        record = self.session.capture(mode, reason, quiesce=quiesce)
        if mark is not None:
            kind = "event" if mode is CaptureMode.EVENT else "note"
            self.case.store.add_mark(Mark(mark, record.guest, record.time_ns, record.id, kind, reason))
        return Moment(self.case, self.guest, record)

    def watch(self, interval: float, listener: Callable[[Tick], None]) -> None:
        """Capture every `interval` seconds in this thread until `stop` or Ctrl-C; `listener` hears every turn."""
        self._loop = CaptureLoop(self.session, interval)
        self._loop.run(listener)

    def start(self, interval: float, listener: Callable[[Tick], None] = lambda _tick: None) -> None:
        """Capture every `interval` seconds in the background until `stop`."""
        if self._thread is not None:
            raise UsageError("captures are being taken in the background already")
        self._loop = loop = CaptureLoop(self.session, interval)

        def run() -> None:
            try:
                loop.run(listener)
            except BaseException as error:  # noqa: BLE001  (told by stop)
                self._failure = error

        self._thread = threading.Thread(target=run, name="captures", daemon=True)
        self._thread.start()

    def request(
        self,
        reason: str,
        *,
        mark: str | None = None,
        mode: CaptureMode = CaptureMode.EVENT,
        quiesce: Quiesce | None = None,
    ) -> None:
        """Ask the running watch for a capture now; `quiesce` freezes file systems for this one."""
        if self._loop is None:
            raise UsageError("nothing is being watched", cure="Use `capture`")
        self._loop.request(mode, reason, mark, quiesce=quiesce)

    def end(self) -> None:
        """Ask the watch to end after the capture under way; from any thread, also from its listener."""
        if self._loop is not None:
            self._loop.stop()

    def stop(self) -> None:
        """End the watch and wait for it.

        Raises
        ------
        WorkbenchError
            What ended it before.
        """
        if self._loop is not None:
            self._loop.stop()
        if self._thread is not None:
            self._thread.join()
        self._loop = self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def rewind(self, plan: RewindPlan, *, confirm: str, progress: Progress = silent) -> Rewound:
        """Execute a production plan with this recording's session: quicker, since the head is at hand."""
        if plan.mode != "production":
            raise UsageError("a test rewind makes a clone", cure="Use `case.rewind`")
        done = plan.execute(
            self.case.hypervisor, self.case.store, confirm=confirm, session=self.session, progress=progress
        )
        assert isinstance(done, Rewound)
        return done

    def close(self) -> None:
        """End the watch and detach: nothing of ours stays in the guest."""
        with ExitStack() as stack:
            stack.callback(self.session.close)
            self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
