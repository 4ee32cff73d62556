"""Record a guest from a page: start, stop, mark; the pause and the size of every capture, and how it stands.

The recording is the case's; this asks for it and listens. It ends, cleanly, with the panel and with the kernel. Refuses
to choose a guest or an interval that was not asked for.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Self, cast

import ipywidgets

from workbench.errors import UsageError, WorkbenchError
from workbench.notebook.health import RECENT, Health, health
from workbench.notebook.sparks import Sparkline
from workbench.notebook.still import Still
from workbench.notebook.text import inert, markup
from workbench.progress import ProgressEvent

if TYPE_CHECKING:
    from workbench.case import Case, Recording, Tick
    from workbench.notebook.timeline import Timeline

__all__ = ["CapturePanel"]

_OFTEN = 0.2
_ENDING = 120.0


class _Session:
    """One recording on a thread of its own; knows nothing of the panel but whom to tell."""

    def __init__(self, case: Case, guest: str, interval: float, panel: CapturePanel) -> None:
        self.case, self.guest, self.interval = case, guest, interval
        self.recording: Recording | None = None
        self.ticks: deque[Tick] = deque(maxlen=RECENT + 1)
        self.failure: BaseException | None = None
        self.captures = 0
        self.ended = False
        self._panel = weakref.ref(panel)
        self._told = 0.0
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"recording {guest}", daemon=True)

    def _run(self) -> None:
        try:
            with self.case.record(self.guest, progress=self._progress) as recording:
                self.recording = recording
                if not self._stop.is_set():
                    recording.watch(self.interval, self._heard)
        except BaseException as error:  # noqa: BLE001  (a thread has nobody else to tell)
            self.failure = error
        self.recording, self.ended = None, True
        self._tell()

    def _heard(self, tick: Tick) -> None:
        self.ticks.append(tick)
        self.captures += tick.record is not None
        if self._stop.is_set() and self.recording is not None:
            self.recording.end()
        panel = self._panel()
        if panel is not None:
            panel._heard(tick)  # noqa: SLF001  (the panel's own session)

    def _progress(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        panel = self._panel()
        if panel is not None and not self.ticks and now - self._told > _OFTEN:
            self._told = now
            panel._say(event)  # noqa: SLF001

    def _tell(self) -> None:
        panel = self._panel()
        if panel is not None:
            panel._tell()  # noqa: SLF001

    def end(self) -> None:
        """Ask it to end after the capture under way."""
        self._stop.set()
        if self.recording is not None:
            self.recording.end()


class CapturePanel(Still, ipywidgets.VBox):  # type: ignore[misc]
    """Record one guest.

    Parameters
    ----------
    case : Case
        Where to.
    guest : str, optional
        The running guest's name or UUID; without one, the case's only guest.
    interval : float
        Seconds between captures.

    Attributes
    ----------
    pause, size : Sparkline
        How long each capture stopped the guest (ms), how much it added to the case (bytes).
    """

    def __init__(self, case: Case, guest: str | None = None, *, interval: float = 2.0) -> None:
        self.case = case
        self.guest = guest if guest is not None else case.guest().name
        self._session: _Session | None = None
        self._timeline: Timeline | None = None
        self._holder: list[_Session] = []
        self.pause = Sparkline("Guest stopped for", "ms")
        self.size = Sparkline("Stored", "B")
        self.start_button = ipywidgets.Button(description="Start", button_style="success")
        self.stop_button = ipywidgets.Button(description="Stop", disabled=True)
        self.interval = ipywidgets.BoundedFloatText(interval, min=0.2, max=86_400, description="Seconds")
        self.name = ipywidgets.Text(description="Mark", placeholder="name")
        self.note = ipywidgets.Text(description="Note")
        self.mark_button = ipywidgets.Button(description="Capture and mark", layout={"width": "auto"}, disabled=True)
        self.said = ipywidgets.HTML()
        rows = [
            ipywidgets.HBox([self.interval, self.start_button, self.stop_button]),
            ipywidgets.HBox([self.name, self.note, self.mark_button]),
        ]
        for row in rows:
            row.layout.flex_flow = "row wrap"
        super().__init__([*rows, self.said, self.pause, self.size])
        self.start_button.on_click(lambda _button: self._in_words(self.start))
        self.stop_button.on_click(lambda _button: self.stop(wait=False))
        self.mark_button.on_click(lambda _button: self._in_words(self.mark))
        # Runs when the kernel ends, too: whatever is recorded then is let go of as by `stop`.
        self._ending = weakref.finalize(self, _end_all, self._holder)
        self._tell()

    def __repr__(self) -> str:
        return f"<CapturePanel of {inert(self.guest, 120)!r}: {self.health.word}>"

    def still(self) -> str:
        """Return how it stands, and the sparklines as pictures."""
        return f"<p>{markup(repr(self), 400)}</p>{self.said.value}{self.pause.still()}{self.size.still()}"

    @property
    def health(self) -> Health:
        """How it stands."""
        session = self._session
        if session is None:
            return health([], self.interval.value, running=False)
        return health(list(session.ticks), session.interval, running=not session.ended, failure=session.failure)

    @property
    def recording(self) -> bool:
        """Whether a recording runs."""
        return self._session is not None and not self._session.ended

    @property
    def captures(self) -> int:
        """How many captures this recording, or the last one, took."""
        return self._session.captures if self._session else 0

    def follow(self, timeline: Timeline) -> Self:
        """Let a timeline show each capture as it comes."""
        self._timeline = timeline
        return self

    # Deeds.

    def start(self) -> None:
        """Record until `stop`, every so many seconds as the field says.

        Raises
        ------
        UsageError
            If a recording runs.
        """
        if self.recording:
            raise UsageError("this guest is being recorded already", cure="Stop it first")
        session = _Session(self.case, self.guest, float(self.interval.value), self)
        self._session, self._holder[:] = session, [session]
        self.pause.points, self.size.points = [], []
        session.thread.start()
        self._tell()

    def mark(self, name: str | None = None, note: str | None = None) -> None:
        """Take a capture now and name it; without words those of the fields.

        Raises
        ------
        UsageError
            If nothing is being recorded.
        """
        session = self._session
        if session is None or session.recording is None:
            raise UsageError("nothing is being recorded", cure="Start it")
        title = (self.name.value if name is None else name).strip()[:200] or "mark"
        words = (self.note.value if note is None else note)[:2000]
        session.recording.request(words, mark=title)
        self.name.value = self.note.value = ""

    def stop(self, *, wait: bool = True) -> None:
        """End the recording after the capture under way; nothing of ours stays in the guest."""
        session = self._session
        if session is not None:
            session.end()
            if wait and not session.ended:
                session.thread.join(_ENDING)
        self._tell()

    def close(self) -> None:
        """End the recording, and the panel."""
        self.stop()
        for each in (self.pause, self.size):
            each.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # How it stands.

    def _heard(self, tick: Tick) -> None:
        if tick.record is not None:
            facts = tick.record.facts
            self.pause.add(float(cast("Any", facts.get("pause_ns", 0))) / 1e6)
            self.size.add(float(cast("Any", facts.get("stored_bytes", 0))))
        self._tell()
        if self._timeline is not None:
            self._in_words(self._timeline.refresh)

    def _say(self, event: ProgressEvent) -> None:
        share = f" {100 * event.done // event.total} %" if event.total else ""
        self._put("starting", f"{event.note or event.task}{share}")

    def _tell(self) -> None:
        now = self.health
        self._put(now.word, now.why)
        on = self.recording
        self.start_button.disabled, self.stop_button.disabled, self.mark_button.disabled = on, not on, not on

    def _put(self, word: str, why: str) -> None:
        taken = f", {self.captures} captures" if self.captures else ""
        self.said.value = f"<p><strong>{markup(word)}</strong>{markup(taken)}: <bdi>{markup(why, 400)}</bdi></p>"

    def _in_words(self, deed: Any) -> None:
        try:
            deed()
        except WorkbenchError as error:
            self._put("error", str(error))


def _end_all(sessions: list[_Session]) -> None:
    for each in sessions:
        each.end()
        if not each.ended:
            each.thread.join(_ENDING)
