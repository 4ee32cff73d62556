"""A running copy of a guest at a moment: its console, screen and clock, and captures of it.

Refuses to touch the guest that it is a copy of.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from workbench.errors import GuestError
from workbench.guest import steps
from workbench.guest.connection import Guest
from workbench.guest.console import Console
from workbench.guest.picture import screenshot
from workbench.inside.doors import InsideOfClone
from workbench.progress import Progress, silent
from workbench.rewind.clone import CloneRecord
from workbench.rewind.clone_record import describe
from workbench.rewind.thawing import NOT_YET, THAWED, thaw_moment
from workbench.timeline.forks import fork_mark

if TYPE_CHECKING:
    from workbench.case.case import Case
    from workbench.case.moment import Moment

__all__ = ["Clone"]


class Clone(InsideOfClone):
    """A running copy of a guest at a moment; destroyed with its context manager or by `destroy`."""

    def __init__(self, case: Case, record: CloneRecord) -> None:
        self.case = case
        self.record = record

    @property
    def name(self) -> str:
        """Its domain name."""
        return self.record.name

    @property
    def directory(self) -> Path:
        """Where its overlays and logs are."""
        return Path(self.record.directory)

    def socket(self, name: str) -> Path:
        """Return the clone's own end of the guest's socket called `name` (the last part of its path)."""
        return Path(self.record.sockets) / name

    @property
    def guest(self) -> Guest:
        """The running domain."""
        return self.case.hypervisor.guest(self.record.uuid)

    def console(self) -> Console:
        """Open its serial console; whoever had it before loses it.

        Raises
        ------
        GuestError
            If it has none.
        """
        return Console(self.guest)

    def screenshot(self) -> bytes:
        """Return what its screen shows, as PNG.

        Raises
        ------
        GuestError
            If it has no video.
        """
        return screenshot(self.guest)

    @property
    def running(self) -> bool:
        """Whether its CPUs run."""
        return self.guest.is_running()

    def pause(self) -> None:
        """Stop its CPUs; harmless where they stand."""
        steps.pause(self.guest)

    def resume(self) -> None:
        """Let its CPUs run, and thaw file systems that came up frozen; harmless where they run.

        Raises
        ------
        GuestError
            If it does not run, or runs frozen.
        """
        steps.resume(self.guest)
        self._thaw()

    def ready(self) -> Guest:
        """Return the running domain for something that is to be done inside it, thawed where it came up frozen.

        Also where the process that started it was killed before it could.

        Raises
        ------
        GuestError
            If it runs frozen.
        """
        found = self.guest
        if self.record.thaw == NOT_YET and found.is_running():
            self._thaw()
        return found

    def _thaw(self) -> None:
        if self.record.thaw != NOT_YET:
            return
        told = thaw_moment(self.guest, self.case.store.record(self.record.capture))
        if told != THAWED:
            raise GuestError(
                f"{self.name} runs, but its file systems are {told}", cure="See whether its guest agent runs"
            )
        self.record = replace(self.record, thaw=told)
        describe(self.record)

    def advance(self, seconds: float, stop: threading.Event | None = None) -> float:
        """Let it run for some seconds, at most a day, then pause it; return how many it ran. `stop` ends it early.

        File systems that came up frozen are thawed first, which is not counted.

        Raises
        ------
        GuestError
            If it does not run, or runs frozen.
        UsageError
        """
        if self.record.thaw == NOT_YET:
            self.resume()
        return steps.advance(self.guest, seconds, stop)

    def capture(self, reason: str = "", *, mark: str | None = None, progress: Progress = silent) -> Moment:
        """Take one capture of it: a branch of the timeline at the moment that it began at.

        Its captures are those of a guest of its own in this case, with its name.

        Raises
        ------
        CaptureError, GuestError, StoreError
            It is as it was.
        """
        words = f"clone of {self.record.capture[:12]}" + (f": {reason}" if reason else "")
        with self.case.record(self.record.uuid, progress=progress) as recording:
            taken = recording.capture(words, mark=mark)
        origin = self.case.store.record(self.record.capture)
        self.case.store.add_mark(fork_mark(origin, taken.guest.id, self.record.name))
        return taken

    def destroy(self) -> None:
        """End it and remove its files."""
        self.case.remove_clone(self.record.uuid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.destroy()

    def __repr__(self) -> str:
        return f"<Clone {self.name!r} of {self.record.capture[:12]}>"
