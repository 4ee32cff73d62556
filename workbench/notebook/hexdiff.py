"""Two contents side by side in hexadecimal: only the stretches that differ, with a little around them.

Contents are compared byte by byte at the same positions, in pieces; what is kept is bounded. Refuses to go on past
that: then it says how far it came.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from workbench.notebook.front import module, style
from workbench.notebook.paged import Fact, Paged
from workbench.notebook.text import markup
from workbench.progress import Progress, ProgressEvent, silent

__all__ = ["ROW", "Differing", "HexDiff", "differing"]

ROW = 16
"""Bytes of a row."""
_PIECE = 1 << 20
_AROUND = 2
"""Rows that are shown before and after one that differs; not across the border of a piece."""
_MOST_ROWS = 20_000
_MOST_BYTES = 256 << 20
_STILL = 32

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Differing:
    """Rows of two contents that differ, and those around them.

    Attributes
    ----------
    rows : list of (int, bytes, bytes)
        Offset (bytes), before, after; shorter or empty where a content has ended.
    count : int
        Bytes that differ among those that were compared.
    compared : int
        Bytes, from the beginning on.
    whole : bool
        Whether that is all.
    """

    rows: list[tuple[int, bytes, bytes]]
    count: int
    compared: int
    whole: bool

    @property
    def words(self) -> str:
        """What was found, in a sentence."""
        told = f"{self.count:,} of {self.compared:,} bytes differ, compared at the same positions"
        return told if self.whole else f"{told}; what comes after was not compared"


def differing(
    before: BinaryIO | bytes | None,
    after: BinaryIO | bytes | None,
    *,
    start: int = 0,
    total: int = 0,
    progress: Progress = silent,
) -> Differing:
    """Compare two contents; None is one that is not there.

    Parameters
    ----------
    start : int
        What the first byte's offset is called.
    total : int
        Bytes to compare, for the progress.
    """
    sides = [each if not isinstance(each, bytes | None) else io.BytesIO(each or b"") for each in (before, after)]
    rows: list[tuple[int, bytes, bytes]] = []
    count = at = 0
    while at < _MOST_BYTES and len(rows) < _MOST_ROWS:
        pieces = [each.read(_PIECE) for each in sides]
        if not any(pieces):
            return Differing(rows, count, at, whole=True)
        found, more = _compared(pieces[0], pieces[1], start + at)
        rows, count, at = [*rows, *found], count + more, at + max(map(len, pieces))
        progress(ProgressEvent("comparing", at, total))
    return Differing(rows, count, at, whole=not any(each.read(1) for each in sides))


def _compared(before: bytes, after: bytes, start: int) -> tuple[list[tuple[int, bytes, bytes]], int]:
    """Return the rows to show of one piece, and how many bytes differ."""
    if before == after:
        return [], 0
    short, length = min(len(before), len(after)), max(len(before), len(after))
    unlike = np.ones(-(-length // ROW) * ROW, bool)
    unlike[length:] = False
    unlike[:short] = np.frombuffer(before, np.uint8, short) != np.frombuffer(after, np.uint8, short)
    marked = np.flatnonzero(unlike.reshape(-1, ROW).any(axis=1))
    near = np.unique(marked[:, None] + np.arange(-_AROUND, _AROUND + 1))
    shown = near[(near >= 0) & (near < len(unlike) // ROW)]
    rows = [
        (start + at * ROW, before[at * ROW : (at + 1) * ROW], after[at * ROW : (at + 1) * ROW]) for at in shown.tolist()
    ]
    return rows, int(unlike.sum())


class HexDiff(Paged):
    """Two contents, side by side.

    Attributes
    ----------
    rows : list of list
        Offset (hexadecimal), bytes before and after (hexadecimal).
    """

    _esm = module("base", "diffs", "diffs_hex")
    _css = style("base", "diffs")

    def __init__(
        self, found: Differing | None = None, *, heading: str = "", note: str = "", facts: Sequence[Fact] = ()
    ) -> None:
        self._found = Differing([], 0, 0, whole=True)
        super().__init__(size=128)
        if found is not None:
            self.show(found, heading=heading, note=note, facts=facts)

    def __repr__(self) -> str:
        return f"<HexDiff {self.heading!r}: {self._found.words}>"

    def show(self, found: Differing, *, heading: str = "", note: str = "", facts: Sequence[Fact] = ()) -> None:
        """Show another difference."""
        self._found = found
        told = f"{found.words}; {note}" if note else found.words
        self.fill(heading, told, facts, len(found.rows))

    def page(self, first: int, count: int) -> list[list[Any]]:
        """Return so many rows from one on."""
        return [
            [f"{at:08x}", before.hex(), after.hex()] for at, before, after in self._found.rows[first : first + count]
        ]

    def still(self) -> str:
        """Return its first rows as HTML."""
        lines = "\n".join(
            f"{at:08x}  {_words(before, after)}  {_words(after, before)}"
            for at, before, after in self._found.rows[:_STILL]
        )
        left = len(self._found.rows) - _STILL
        more = f"<p>{left:,} further rows</p>" if left > 0 else ""
        return f"{self.above()}<pre>{lines}</pre>{more}" if lines else self.above()


def _words(data: bytes, other: bytes) -> str:
    """Return bytes in hexadecimal and as characters, those that differ marked."""
    pairs = [
        f"<mark>{byte:02x}</mark>" if at >= len(other) or other[at] != byte else f"{byte:02x}"
        for at, byte in enumerate(data)
    ]
    text = "".join(chr(each) if 32 <= each < 127 else "." for each in data)
    return " ".join([*pairs, *["  "] * (ROW - len(data))]) + "  " + markup(text.ljust(ROW))
