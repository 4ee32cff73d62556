"""A guest's serial console in a page: emulated here, drawn there, typed into from there.

Only lines that changed are sent, twenty times a second at most, as runs of text with a look; the page sets them as text
and sends the names of keys. Ctrl-] leaves the terminal, since all other keys are the guest's. Refuses to spend more
than a part of a core on a guest that floods it.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import anywidget
import traitlets

from workbench.errors import WorkbenchError
from workbench.notebook.emulation import Emulator, Run
from workbench.notebook.flow import Backlog, Link, Writer, read_into
from workbench.notebook.front import module, style
from workbench.notebook.keyboard import key_bytes, paste_bytes
from workbench.notebook.still import Still
from workbench.notebook.text import inert, markup

__all__ = ["Terminal"]

_EVERY = 0.05
"""Seconds between two updates of the page."""
_BUDGET = 0.02
"""Seconds of emulation between them."""
_PIECE = 1024


class Terminal(Still, anywidget.AnyWidget):
    """A terminal of fixed size.

    Parameters
    ----------
    label : str
        Whose console it is.
    columns, lines : int

    Attributes
    ----------
    said : str
        How it stands with the connection, inert.
    connected : bool
        Whether a guest is at the other end.
    """

    _esm = module("base", "terminal")
    _css = style("base", "terminal")

    label = traitlets.Unicode("").tag(sync=True)
    columns = traitlets.Int(80).tag(sync=True)
    lines = traitlets.Int(24).tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    connected = traitlets.Bool(False).tag(sync=True)

    def __init__(self, label: str = "", *, columns: int = 80, lines: int = 24) -> None:
        self._drawing = threading.RLock()
        self._emulator = Emulator(columns, lines)
        self._back = 0
        self._link: Link | None = None
        self._writer: Writer | None = None
        super().__init__(label=inert(label), columns=columns, lines=lines, said="Not connected.")
        self.on_msg(self._asked)

    def __repr__(self) -> str:
        return f"<Terminal {self.label!r}: {self.said}>"

    def still(self) -> str:
        """Return the screen as it is, as text."""
        text = "\n".join(markup(line, 512) for line in self.text.split("\n"))
        return f"<pre>{text}</pre><p>{markup(self.said)}</p>"

    @property
    def text(self) -> str:
        """What the screen shows, without looks; no control character is in it."""
        with self._drawing:
            return self._emulator.text()

    # The other end.

    def attach(self, link: Link) -> None:
        """Show what a link says from now on, and let it be typed to; the one before is closed."""
        self.detach()
        with self._drawing:
            self._emulator = Emulator(self.columns, self.lines)
            self._back = 0
        self._link = link
        self._writer = Writer(link, self._failed)
        backlog = Backlog()
        threading.Thread(target=read_into, args=(link, backlog), name="terminal output", daemon=True).start()
        threading.Thread(target=_pump, args=(weakref.ref(self), link, backlog), name="terminal", daemon=True).start()
        self.connected, self.said = True, "Connected."
        self._send_all()

    def detach(self) -> None:
        """Let go of the link."""
        link, self._link = self._link, None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.end()
        if link is not None:
            link.close()
            self.connected, self.said = False, "Not connected."

    def close(self) -> None:
        """Let go of the link and of the page."""
        self.detach()
        super().close()

    def type(self, text: str) -> None:
        """Send text to the guest as if it were typed; a line ends with a newline."""
        self._send_bytes(paste_bytes(text))

    def press(self, key: str, **held: bool) -> None:
        """Send one key by its name (`Enter`, `ArrowUp`, `c`), with ctrl, alt, shift held or not."""
        self._send_bytes(key_bytes(key, application=self._emulator.application_keys, **held))

    def wait(self, text: str, timeout: float = 30.0) -> bool:
        """Wait until the screen shows a text; tell whether it came in time (seconds)."""
        end = time.monotonic() + timeout
        while text not in self.text:
            if time.monotonic() > end:
                return False
            time.sleep(_EVERY)
        return True

    def _send_bytes(self, data: bytes) -> None:
        if self._back:
            self._scroll(-self._back)
        if data and (self._writer is None or not self._writer.put(data)):
            self.said = "The guest takes no input." if self._writer else "Not connected: nothing was sent."

    def _failed(self, error: WorkbenchError) -> None:
        self.said = inert(error, 400)

    # Drawing.

    def _draw(self, backlog: Backlog) -> None:
        """Feed what came, for as long as there is time, and send the lines that changed."""
        with self._drawing:
            before, end = self._emulator.above_ever, time.monotonic() + _BUDGET
            while time.monotonic() < end and (data := backlog.take(_PIECE)):
                self._feed(data)
            if self._back:  # what is looked at stays in place
                self._back = min(self._back + self._emulator.above_ever - before, self._emulator.above)
                self._send_all()
            else:
                self._send_lines(sorted(self._emulator.changed()))
        if backlog.dropped:
            self.said = f"Connected. {backlog.dropped:,} bytes came too fast to be shown."

    def _feed(self, data: bytes) -> None:
        answer = self._emulator.feed(data)
        if answer and self._writer is not None:
            self._writer.put(answer)

    def _send_all(self) -> None:
        self._send_lines(range(self.lines))

    def _send_lines(self, lines: Any) -> None:
        with self._drawing:
            rows: list[tuple[int, list[Run]]] = [(line, self._emulator.row(line, self._back)) for line in lines]
            column, line = self._emulator.cursor
            shown = self._emulator.cursor_shown and not self._back
            self.send(
                {"rows": rows, "cursor": [column, line, shown], "back": self._back, "above": self._emulator.above}
            )

    def _scroll(self, lines: int) -> None:
        with self._drawing:
            self._back = max(0, min(self._emulator.above, self._back + lines))
            self._send_all()

    def _asked(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """Do what the page asks for: all lines, a scroll, a key, a text."""
        if not isinstance(content, dict):
            return
        ask = content.get("ask")
        if ask == "all":
            self._send_all()
        elif ask == "scroll":
            self._scroll(int(content.get("lines", 0)))
        elif ask == "text":
            self.type(str(content.get("text", "")))
        elif ask == "key":
            held = {name: bool(content.get(name)) for name in ("ctrl", "alt", "shift")}
            self.press(str(content.get("key", "")), **held)


def _pump(terminal: weakref.ref[Terminal], link: Link, backlog: Backlog) -> None:
    """Draw until the link ends or the terminal has another, or is gone."""
    while True:
        more = backlog.wait()
        here = terminal()
        if here is None or here._link is not link:  # noqa: SLF001  (the pump is the terminal's own)
            link.close()
            return
        here._draw(backlog)  # noqa: SLF001
        if not more:
            here.said, here.connected = "The console has ended.", False
            return
        del here
        time.sleep(_EVERY)
