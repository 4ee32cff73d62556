"""A clone in a page: started at a moment, its console and screen, its time, a capture of it, its end.

Everything is asked of the case; what is long is done on a thread. Refuses to touch the guest: only clones are started,
typed into and ended here.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, cast

import ipywidgets
import pandas as pd

from workbench.case import Clone
from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.following import follow, moment_words
from workbench.notebook.still import Still
from workbench.notebook.terminal import Terminal
from workbench.notebook.text import inert, markup, when
from workbench.notebook.work import Work
from workbench.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from workbench.case import Moment
    from workbench.notebook.timeline import Timeline

__all__ = ["CloneConsole"]


class CloneConsole(Still, ipywidgets.VBox):  # type: ignore[misc]
    """Start a clone of a moment, or show one that runs, and work with it.

    Parameters
    ----------
    what : Moment or Clone, optional
        A moment may be set later, and follows a timeline with `follow`.
    network : bool
        Leave a clone its network; see `Moment.clone`.

    Attributes
    ----------
    clone : Clone or None
        The one that is shown.
    captured : Moment or None
        The last capture taken of it.
    terminal : Terminal
    """

    def __init__(self, what: Moment | Clone | None = None, *, network: bool = False) -> None:
        self.clone: Clone | None = None
        self.captured: Moment | None = None
        self._moment: Moment | None = None
        self._began: Moment | None = None
        self._network = network
        self._timeline: Timeline | None = None
        self._turn = threading.RLock()
        self._halt = threading.Event()
        self._ran = 0.0
        self._since: float | None = None
        self._make_parts()
        super().__init__([self.said, self._first, self._second, self.work, self.terminal, self.screen])
        if isinstance(what, Clone):
            self._take(what, ran=None)
        else:
            self.moment = what

    def _make_parts(self) -> None:
        self.said = ipywidgets.Label()
        self.work = Work(cancel=self._halt.set)
        self.terminal = Terminal("Console of the clone")
        self.screen = ipywidgets.HTML()
        self.paused = ipywidgets.Checkbox(description="paused at first", indent=False, layout={"width": "auto"})
        self.seconds = ipywidgets.BoundedFloatText(1.0, min=0.001, max=86_400, description="Seconds")
        self.until = ipywidgets.Text(description="Until", placeholder="2024-05-01 12:30:05")
        self.reason = ipywidgets.Text(description="Note", placeholder="what the capture shows")
        deeds: list[tuple[str, Callable[[], None]]] = [
            ("Start", self.start), ("Pause", self.pause), ("Resume", self.resume), ("Advance", self.advance),
            ("Go on until", self.advance_to), ("Screen", self.show_screen), ("Capture", self.capture),
            ("Destroy", self.destroy),
        ]  # fmt: skip
        self.buttons = {name: ipywidgets.Button(description=name, layout={"width": "auto"}) for name, _ in deeds}
        for name, deed in deeds:
            self.buttons[name].on_click(_shielded(deed, self.work))
        button = self.buttons
        self._first = ipywidgets.HBox(
            [button["Start"], self.paused, *(button[name] for name in ("Pause", "Resume", "Screen", "Destroy"))]
        )
        self._second = ipywidgets.HBox(
            [self.seconds, button["Advance"], self.until, button["Go on until"], self.reason, button["Capture"]]
        )
        for row in (self._first, self._second):
            row.layout.flex_flow = "row wrap"

    def __repr__(self) -> str:
        if self.clone is not None:
            return f"<CloneConsole of {inert(self.clone.name, 120)!r}>"
        return f"<CloneConsole at {moment_words(self._moment) if self._moment else 'no moment'}, nothing started>"

    def still(self) -> str:
        """Return what is said, the console's text and the screen's picture."""
        told = f"<p>{markup(repr(self), 400)}</p><p>{markup(self.said.value, 400)}</p>"
        return f"{told}{self.terminal.still()}{self.screen.value}"

    # Where.

    @property
    def moment(self) -> Moment | None:
        """Where the next clone is started."""
        return self._moment

    @moment.setter
    def moment(self, moment: Moment | None) -> None:
        self._moment = moment
        self._tell()

    def follow(self, timeline: Timeline) -> Self:
        """Start clones at what a timeline has chosen."""
        self._timeline = timeline
        follow(cast("Any", self), timeline)
        return self

    @property
    def time(self) -> pd.Timestamp | None:
        """About what time it is for the clone: its moment's, and as long as it ran since."""
        if self._began is None:
            return None
        now = 0.0 if self._since is None else time.monotonic() - self._since
        return self._began.time + pd.Timedelta(seconds=self._ran + now)

    # Deeds; each runs on a thread, one after the other.

    def start(self) -> None:
        """Start a clone at the moment; one that was started here before is destroyed.

        Raises
        ------
        UsageError
            If no moment is chosen.
        """
        moment = self._moment
        if moment is None:
            raise UsageError("no moment is chosen", cure="Choose one in the timeline, or set `.moment`")
        run = not self.paused.value
        self._do("starting a clone", lambda progress: self._start(moment, progress, run=run))

    def _start(self, moment: Moment, progress: Progress, *, run: bool) -> None:
        self._end()
        clone = moment.clone(network=self._network, run=run, progress=progress)
        try:
            progress(ProgressEvent("opening its console"))
        except BaseException:  # cancelled: nobody would know of it
            clone.destroy()
            raise
        self._take(clone, ran=0.0)

    def _take(self, clone: Clone, ran: float | None) -> None:
        """Show a clone; how long it ran is known of one that was started here, else taken from when it was started."""
        self.clone = clone
        record = clone.case.store.record(clone.record.capture)
        self._began = clone.case.moment(f"id:{record.id}", record.guest)
        self._moment = self._moment or self._began
        self._ran = (time.time_ns() - clone.record.started_ns) / 1e9 if ran is None else ran
        self._clock(running=clone.running)
        try:
            self.terminal.attach(clone.console())
        except WorkbenchError as error:
            self.terminal.said = inert(error, 400)
        self._tell()

    def pause(self) -> None:
        """Stop its CPUs."""
        self._do("pausing", lambda _progress: self._running().pause())

    def resume(self) -> None:
        """Let its CPUs run."""
        self._do("resuming", lambda _progress: self._running().resume())

    def advance(self, seconds: float | None = None) -> None:
        """Let it run for some seconds, then pause it; without a number those of the field."""
        length = float(self.seconds.value if seconds is None else seconds)
        self._do(f"running for {length:g} s", lambda _progress: self._advance(length))

    def advance_to(self, instant: str | None = None) -> None:
        """Let it run until a time of its own clock (UTC without a zone), then pause it.

        Raises
        ------
        UsageError
            If this is no time, or lies in the clone's past.
        """
        asked = self.until.value if instant is None else instant
        now = self.time
        if now is None:
            raise UsageError("no clone runs", cure="Start one")
        length = (_instant(asked) - now).total_seconds()
        if length <= 0:
            raise UsageError(
                "that time has passed for the clone", found=asked, cure="Start it again at an earlier moment"
            )
        self.advance(length)

    def _advance(self, seconds: float) -> None:
        self._halt.clear()
        clone = self._running()
        self._clock(running=True)
        self._ran, self._since = self._ran + clone.advance(seconds, self._halt), None

    def show_screen(self) -> None:
        """Show a picture of its screen."""
        self._do("taking a picture", lambda _progress: self._show(self._running().screenshot()))

    def _show(self, picture: bytes) -> None:
        words = f"Screen of the clone at about {when(self.time.value)}" if self.time is not None else "Screen"
        data = base64.b64encode(picture).decode()
        self.screen.value = f'<img alt="{markup(words)}" src="data:image/png;base64,{data}" style="max-width:100%">'

    def capture(self, reason: str | None = None) -> None:
        """Take a capture of it, as a guest of its own in the case; the timeline that is followed shows it."""
        words = str(self.reason.value if reason is None else reason)[:200]
        self._do("capturing the clone", lambda progress: self._capture(words, progress))

    def _capture(self, reason: str, progress: Progress) -> None:
        self.captured = self._running().capture(reason, progress=progress)
        if self._timeline is not None:
            self._timeline.refresh()

    def destroy(self) -> None:
        """End the clone and remove its files; captures of it stay."""
        self._halt.set()
        self._do("destroying the clone", lambda _progress: self._end())

    def close(self) -> None:
        """Let go of the console and of the page; the clone runs on, unless it was destroyed."""
        self._halt.set()
        self.terminal.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._halt.set()
        self.work.wait()
        with self._turn:
            self._end()
        self.close()

    # How it stands.

    def _do(self, words: str, deed: Callable[[Progress], None]) -> None:
        def turn(progress: Progress) -> None:
            with self._turn:
                try:
                    deed(progress)
                finally:
                    self._settle()

        self.work.run(words, turn, lambda _done: None)

    def _running(self) -> Clone:
        if self.clone is None:
            raise UsageError("no clone runs", cure="Start one")
        return self.clone

    def _end(self) -> None:
        self.terminal.detach()
        clone, self.clone = self.clone, None
        self._began, self._since, self.screen.value = None, None, ""
        if clone is not None:
            clone.destroy()

    def _settle(self) -> None:
        """See whether the clone runs, after a deed, whatever became of it."""
        if self.clone is not None:
            try:
                self._clock(running=self.clone.running)
            except WorkbenchError as error:
                self.terminal.said = inert(error, 400)
        self._tell()

    def _clock(self, *, running: bool) -> None:
        now = time.monotonic()
        self._ran += 0.0 if self._since is None else now - self._since
        self._since = now if running else None

    def _tell(self) -> None:
        there = self.clone is not None
        for name, button in self.buttons.items():
            button.disabled = self._moment is None if name == "Start" else not there
        target = f"Target: {moment_words(self._moment)}. " if self._moment else "No moment is chosen. "
        if self.clone is not None and self.time is not None:
            state = "runs" if self._since is not None else "stands"
            target += f"The clone {inert(self.clone.name, 120)} {state}, at about {when(self.time.value)}."
        self.said.value = target
        self.buttons["Start"].description = "Start a clone there instead" if there else "Start a clone"


def _shielded(deed: Callable[[], None], work: Work) -> Callable[[Any], None]:
    """Return what a button does: the deed, and what is wrong with it in words."""

    def clicked(_button: Any) -> None:
        try:
            deed()
        except WorkbenchError as error:
            work.tell(str(error))

    return clicked


def _instant(text: str) -> pd.Timestamp:
    try:
        found = pd.Timestamp(text)
    except ValueError as error:
        raise UsageError("no time", found=inert(text), cure="Write 2024-05-01 12:30:05") from error
    if pd.isna(found):
        raise UsageError("no time", found=inert(text), cure="Write 2024-05-01 12:30:05")
    return found.tz_localize("UTC") if found.tzinfo is None else found.tz_convert("UTC")
