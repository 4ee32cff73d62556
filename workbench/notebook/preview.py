"""A file of a guest in the page: what is known of it, its bytes as text or in hexadecimal by pages, and a download.

Refuses to send more than a page unless it is asked for, and a text whose signs could do anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from workbench.notebook.front import module, style
from workbench.notebook.still import Still
from workbench.notebook.text import inert, markup, table
from workbench.notebook.work import Work

__all__ = ["CHUNK", "LARGEST", "PAGE", "Preview", "hex_lines", "is_text", "text_lines"]

PAGE = 64 << 10
"""Bytes of a page."""
CHUNK = 1 << 20
"""Bytes of one message of a download. A Jupyter server drops what comes faster than 1 MB/s for 3 s, and counts anew
after each message of the page that was answered: so the page asks for each of them."""
LARGEST = 64 << 20
"""Bytes of a file that a page downloads: it holds them in its memory until they are all there."""
_LINE = 2000
_STILL = 4000


def is_text(data: bytes) -> bool:
    """Tell whether bytes are better read as text: UTF-8, and nearly no control characters."""
    if b"\0" in data:
        return False
    text = data.decode("utf-8", "replace")
    strange = sum(char == "\ufffd" or (char < " " and char not in "\t\n\r\x1b\f") for char in text)
    return strange * 50 <= len(text)


def text_lines(data: bytes) -> str:
    """Return bytes as lines of inert text; a line is cut at 2,000 characters."""
    return "\n".join(inert(line.expandtabs(), _LINE) for line in data.decode("utf-8", "replace").split("\n"))


def hex_lines(data: bytes, offset: int = 0) -> str:
    """Return bytes in hexadecimal, 16 to a line, with where they lie in the file and what of them is ASCII."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        signs = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{offset + at:08x}  {part[:8].hex(' '):23}  {part[8:].hex(' '):23}  {signs}")
    return "\n".join(lines)


class Preview(Still, anywidget.AnyWidget):
    """A file, shown; `show` says which.

    Attributes
    ----------
    mode : {"text", "hex"}
    page : int
        From 0.
    """

    _esm = module("base", "files")
    _css = style("base", "files")

    title = traitlets.Unicode("").tag(sync=True)
    about = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    body = traitlets.Unicode("").tag(sync=True)
    said = traitlets.Unicode("").tag(sync=True)
    mode = traitlets.Enum(("text", "hex"), "text").tag(sync=True)
    page = traitlets.Int(0).tag(sync=True)
    pages = traitlets.Int(0).tag(sync=True)
    size = traitlets.Int(0).tag(sync=True)
    loads = traitlets.Bool(False).tag(sync=True)
    turn = traitlets.Int(0).tag(sync=True)

    def __init__(self) -> None:
        self._read: Callable[[int, int], bytes] | None = None
        self._data = b""
        self._work, self._carrier = Work(), Work()
        super().__init__()
        self.on_msg(self._asked)

    def __repr__(self) -> str:
        return f"<Preview of {self.title or 'nothing'}>"

    def still(self) -> str:
        """Return what is known of the file and the beginning of the page as HTML."""
        lines = "\n".join(markup(line, _LINE) for line in self.body[:_STILL].split("\n"))
        rows: list[tuple[object, ...]] = [tuple(pair) for pair in self.about]
        return f"<p><strong>{markup(self.title)}</strong></p>{table(rows)}<pre>{lines}</pre>" if self.title else ""

    def show(
        self,
        title: str = "",
        about: list[tuple[str, str]] | None = None,
        size: int = 0,
        read: Callable[[int, int], bytes] | None = None,
        first: bytes = b"",
    ) -> None:
        """Show an entry.

        Parameters
        ----------
        about : list of (str, str)
            What is known of it.
        size : int
            Bytes.
        read : callable, optional
            Reads (offset, length) of it; without, there is nothing to be read.
        first : bytes
            Its first page.
        """
        with self.hold_sync():
            self._read = None  # pages that are asked for meanwhile are not of this file
            self.turn += 1
            self.title, self.size = inert(title), size
            self.about = [[inert(name), inert(value, 400)] for name, value in about or ()]
            self.pages = -(-size // PAGE) if read else 0
            self.page, self._data = 0, first
            self.mode = "text" if is_text(first) else "hex"
            self.loads = read is not None and size <= LARGEST
            large = read is not None and not self.loads
            self.said = "Too large for a download: moment.extract(path, folder) writes it to a folder." if large else ""
            self._read = read
            self._write()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the page that is being read; tell whether it came in time (seconds)."""
        return self._work.wait(timeout)

    def _write(self) -> None:
        self.body = text_lines(self._data) if self.mode == "text" else hex_lines(self._data, self.page * PAGE)

    @traitlets.observe("mode")
    def _looked_at(self, _change: Any) -> None:
        self._write()

    @traitlets.validate("page")
    def _a_page(self, proposal: Any) -> int:
        return max(0, min(int(proposal["value"]), self.pages - 1))

    @traitlets.observe("page")
    def _turned(self, change: Any) -> None:
        read, at = self._read, change["new"] * PAGE
        if read is not None:
            self._work.run("page", lambda _progress: read(at, PAGE), self._came, self._failed)

    def _came(self, data: bytes) -> None:
        self._data = data
        self._write()

    def _failed(self) -> None:
        self._data, self.body = b"", ""
        self.said = "This page could not be read."

    def _asked(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """Send a part of the file that the page asks for."""
        if not isinstance(content, dict) or content.get("ask") != "chunk" or content.get("turn") != self.turn:
            return
        at, read, turn = content.get("at"), self._read, self.turn
        if read is None or not self.loads or not isinstance(at, int) or not 0 <= at <= self.size:
            return

        def came(data: bytes) -> None:
            last = not data or at + len(data) >= self.size
            self.send({"chunk": at, "last": last, "turn": turn}, [data])

        def failed() -> None:
            self.send({"chunk": -1, "last": True, "turn": turn})

        self._carrier.run("download", lambda _progress: read(at, CHUNK), came, failed)
