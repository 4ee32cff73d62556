"""A terminal's screen from a guest's bytes: pyte behind a sieve, since whoever runs in the guest chooses every byte.

The sieve lets through plain text and the escape sequences that a screen needs, with as many parameters as they have;
titles, strings of any length, charsets, resizing and what is unknown are dropped before pyte sees them. So memory and
work are bounded by the bytes fed, and the answers to the guest by one of each kind a feed. Refuses to let a control or
direction character into a cell.

Sequences: ECMA-48 (https://ecma-international.org/publications-and-standards/standards/ecma-48/) and
https://invisible-island.net/xterm/ctlseqs/ctlseqs.html.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import deque
from typing import Any

import pyte

__all__ = ["HISTORY", "Emulator", "Run", "Sieve"]

HISTORY = 1000
"""Lines that are kept above the screen."""
_LONGEST_SEQUENCE = 64
_LONGEST_STRING = 4096
_DEEPEST = 4
"""Cursors saved, and characters of a cell (a letter and what is combined with it)."""
_PARAMETERS = {
    **dict.fromkeys("@ABCDEFGLMPXadegnJK`", 1),
    **dict.fromkeys("Hfr", 2),
    **dict.fromkeys("mhl", 16),
}
_PRIVATE = set("hl")
_ALTERNATE = {47, 1047, 1049}
_UNHEEDED = {3, 6, *_ALTERNATE}
"""Private modes that pyte does not get: 132 columns, and an origin that it needs margins for (DECCOLM, DECOM)."""
_PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f]+|[\x08-\x0d]+")
_CONTROL_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)([<-?]?)([0-9;]{0,64})([0-?]{0,64})([ -/]{0,4})([@-~])")
_OPEN_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*\Z")
_STRING = re.compile(r"\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]")
_STRING_END = re.compile(r"\x1b\\?|[\x07\x18\x1a\x9c]")
_SHORT = re.compile(r"\x1b[78DEHMc]")
_OTHER = re.compile(r"\x1b[ -/]+[0-~]|\x1b.|[\x00-\xff]", re.DOTALL)
_OPEN_SHORT = re.compile(r"\x1b[ -/]{0,3}\Z")
_CURSOR_KEYS = 1 << 5  # DECCKM, as pyte keeps private modes
_REPLACED = "\ufffd"
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

Run = tuple[str, str, str, str]
"""Text of neighbouring cells of one look: text, colour, background ("" the terminal's own, a name, six hexadecimal
digits), and letters: b bold, i italic, u underlined, s struck, r reversed, w cells of double width."""


class Sieve:
    """Passes on what a screen needs of a stream of characters; what it keeps between two feeds is bounded."""

    def __init__(self) -> None:
        self._rest = ""
        self._in_string = 0

    def feed(self, text: str) -> str:
        """Return what may be given to pyte."""
        text, self._rest = self._rest + text, ""
        passed: list[str] = []
        at = 0
        while at < len(text):
            at = self._string(text, at) if self._in_string else self._step(text, at, passed)
        return "".join(passed)

    def _step(self, text: str, at: int, passed: list[str]) -> int:
        if plain := _PLAIN.match(text, at):
            passed.append(plain[0])
            return plain.end()
        if sequence := _CONTROL_SEQUENCE.match(text, at):
            passed.append(_allowed(sequence))
            return sequence.end()
        if string := _STRING.match(text, at):
            self._in_string = 1
            return string.end()
        if short := _SHORT.match(text, at):
            passed.append(short[0])
            return short.end()
        if _OPEN_SEQUENCE.match(text, at) or _OPEN_SHORT.match(text, at):
            # An endless one is forgotten: its end will be shown as text.
            self._rest = text[at:] if len(text) - at <= _LONGEST_SEQUENCE else ""
            return len(text)
        other = _OTHER.match(text, at)
        return other.end() if other else at + 1

    def _string(self, text: str, at: int) -> int:
        """Drop a string up to its end; one without an end is given up after a while, or it would hide everything."""
        limit = at + _LONGEST_STRING - self._in_string
        end = _STRING_END.search(text, at, limit)
        if end is None:
            reached = min(len(text), limit)
            self._in_string = 0 if reached == limit else self._in_string + reached - at
            return reached
        self._in_string = 0
        if end[0] == "\x1b" and end.end() < len(text):
            return end.start()  # no end of a string, but the beginning of another sequence
        if end[0] == "\x1b":
            self._rest = ""
        return end.end()


def _allowed(sequence: re.Match[str]) -> str:
    private, parameters, odd, between, final = sequence.groups()
    most = _PARAMETERS.get(final, 0)
    if not most or odd or between or (private and not (private == "?" and final in _PRIVATE)):
        return ""
    kept = ";".join(each[:5] for each in parameters.split(";")[:most])
    return f"\x1b[{private}{kept}{final}"


class _Screen(pyte.Screen):
    """pyte's screen, with lines that left it at the top, and what a guest could make grow bounded."""

    def __init__(self, columns: int, lines: int) -> None:
        self.above: deque[Any] = deque(maxlen=HISTORY)
        self.above_ever = 0
        self.answers: dict[str, str] = {}
        self._own: dict[int, Any] | None = None
        super().__init__(columns, lines)

    def index(self) -> None:
        bottom = self.margins.bottom if self.margins else self.lines - 1
        if self.cursor.y == bottom and self._own is None and not (self.margins and self.margins.top):
            self.above.append(self.buffer[0])
            self.above_ever += 1
        super().index()

    def draw(self, data: str) -> None:
        if data.isascii():
            super().draw(data)
            return
        for char in data:
            if unicodedata.combining(char):
                if self._room_in_cell():
                    super().draw(char)
            else:
                super().draw(_REPLACED if unicodedata.category(char) in _INVISIBLE else char)

    def _room_in_cell(self) -> bool:
        x, y = (self.cursor.x - 1, self.cursor.y) if self.cursor.x else (self.columns - 1, self.cursor.y - 1)
        return y < 0 or len(self.buffer[y][x].data) < _DEEPEST

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        if how in (0, 1, 2):  # pyte raises for others
            super().erase_in_line(how, private=private)

    def erase_in_display(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        if how in (0, 1, 2, 3):
            super().erase_in_display(how, *args, **kwargs)

    def save_cursor(self) -> None:
        super().save_cursor()
        del self.savepoints[:-_DEEPEST]

    def set_mode(self, *modes: int, **kwargs: Any) -> None:
        super().set_mode(*self._heeded(modes, on=True, **kwargs), **kwargs)

    def reset_mode(self, *modes: int, **kwargs: Any) -> None:
        super().reset_mode(*self._heeded(modes, on=False, **kwargs), **kwargs)

    def _heeded(self, modes: tuple[int, ...], *, on: bool, private: bool = False) -> list[int]:
        if private and _ALTERNATE & set(modes):
            self._alternate(on=on)
        return [each for each in modes if not (private and each in _UNHEEDED)]

    def _alternate(self, *, on: bool) -> None:
        """Put another page of cells in place of the guest's own, or its own back; pyte has one page only."""
        if on == (self._own is not None):
            return
        if on:
            self._own = dict(self.buffer)
            self.buffer.clear()
        else:
            own, self._own = self._own or {}, None
            self.buffer.clear()
            self.buffer.update(own)
        self.dirty.update(range(self.lines))

    def reset(self) -> None:
        self._own = None
        super().reset()

    def write_process_input(self, data: str) -> None:
        self.answers[data[-1:]] = data


class Emulator:
    """A screen that bytes are fed into.

    Parameters
    ----------
    columns, lines : int

    Attributes
    ----------
    cursor : tuple of int
        Column and line, from 0.
    """

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.columns, self.lines = columns, lines
        self._screen = _Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sieve = Sieve()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the guest; return what a terminal answers them with (where the cursor is, what it is)."""
        self._screen.answers.clear()
        self._stream.feed(self._sieve.feed(self._decoder.decode(data)))
        return "".join(self._screen.answers.values()).encode("ascii", "replace")

    def changed(self) -> set[int]:
        """Return the lines that changed since the last call, and forget them."""
        dirty = {each for each in self._screen.dirty if 0 <= each < self.lines}
        self._screen.dirty.clear()
        return dirty

    @property
    def cursor(self) -> tuple[int, int]:
        """Where the cursor is: column, line."""
        return min(self._screen.cursor.x, self.columns - 1), self._screen.cursor.y

    @property
    def cursor_shown(self) -> bool:
        """Whether the guest wants its cursor seen."""
        return not self._screen.cursor.hidden

    @property
    def application_keys(self) -> bool:
        """Whether the guest wants the arrows in their other form (DECCKM)."""
        return _CURSOR_KEYS in self._screen.mode

    @property
    def above(self) -> int:
        """How many lines are kept above the screen."""
        return len(self._screen.above)

    @property
    def above_ever(self) -> int:
        """How many lines ever left the screen at its top."""
        return self._screen.above_ever

    def row(self, line: int, back: int = 0) -> list[Run]:
        """Return a line as runs of one look, `back` lines scrolled back."""
        at = line - min(back, self.above)
        cells = self._screen.buffer[at] if at >= 0 else self._screen.above[at]
        return _runs([cells[x] for x in range(self.columns)])

    def text(self) -> str:
        """Return the screen as lines of text, trailing blanks cut."""
        return "\n".join("".join(run[0] for run in self.row(line)).rstrip() for line in range(self.lines)).rstrip()


def _runs(cells: list[Any]) -> list[Run]:
    """Join neighbours of one look; the stub after a cell of double width belongs to it."""
    runs: list[Run] = []
    for at, cell in enumerate(cells):
        if not cell.data:
            continue
        wide = at + 1 < len(cells) and not cells[at + 1].data
        look = _look(cell, wide=wide)
        if runs and runs[-1][1:] == look and not wide:
            runs[-1] = (runs[-1][0] + cell.data, *look)
        else:
            runs.append((cell.data, *look))
    return runs


def _look(cell: Any, *, wide: bool) -> tuple[str, str, str]:
    flags = (("b", cell.bold), ("i", cell.italics), ("u", cell.underscore), ("s", cell.strikethrough))
    letters = "".join(letter for letter, on in (*flags, ("r", cell.reverse), ("w", wide)) if on)
    return _colour(cell.fg), _colour(cell.bg), letters


def _colour(name: str) -> str:
    return "" if name == "default" or not re.fullmatch(r"[a-z]{3,14}|[0-9a-f]{6}", name) else name
