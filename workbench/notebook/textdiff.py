"""How a text changed, as a unified diff in a page: signs, colours and words for removed and added lines.

Lines are cut where they are very long, and go to the page as inert text. Refuses to compare: the case does that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from workbench.notebook.front import module, style
from workbench.notebook.paged import Fact, Paged
from workbench.notebook.text import inert, markup

__all__ = ["TextDiff", "diff_lines"]

_LONGEST = 400
"""Characters of a line that are shown."""
_STILL = 60
_HUNK = re.compile(r"@@ -(\d{1,12})(?:,\d+)? \+(\d{1,12})(?:,\d+)? @@")
_ELEMENTS = {"+": "ins", "-": "del"}

Line = tuple[str, int, int, str]


class TextDiff(Paged):
    """A unified diff.

    Attributes
    ----------
    rows : list of list
        Sign ("+", "-", " ", "@" for the heading of a hunk), line number before and after (0 for none), text.
    """

    _esm = module("base", "diffs", "diffs_text")
    _css = style("base", "diffs")

    def __init__(self, text: str = "", *, heading: str = "", note: str = "", facts: Sequence[Fact] = ()) -> None:
        self._lines: list[Line] = []
        super().__init__()
        self.show(text, heading=heading, note=note, facts=facts)

    def __repr__(self) -> str:
        added, removed = (sum(each[0] == sign for each in self._lines) for sign in "+-")
        return f"<TextDiff {self.heading!r}: {added} lines added, {removed} removed>"

    def show(self, text: str, *, heading: str = "", note: str = "", facts: Sequence[Fact] = ()) -> None:
        """Show another diff, as `Diff.text` returns it; empty, the facts alone."""
        self._lines = diff_lines(text)
        self.fill(heading, note, facts, len(self._lines))

    def page(self, first: int, count: int) -> list[list[Any]]:
        """Return so many lines from one on."""
        return [
            [sign, before, after, inert(text, _LONGEST)]
            for sign, before, after, text in self._lines[first : first + count]
        ]

    def still(self) -> str:
        """Return its first lines as HTML."""
        lines = "".join(_still_line(sign, text) for sign, _, _, text in self._lines[:_STILL])
        left = len(self._lines) - _STILL
        more = f"<p>{left:,} further lines</p>" if left > 0 else ""
        return f"{self.above()}<pre>{lines}</pre>{more}" if lines else self.above()


def _still_line(sign: str, text: str) -> str:
    tag = _ELEMENTS.get(sign, "span")
    return f"<{tag}>{sign} <bdi>{markup(text, _LONGEST)}</bdi></{tag}>\n"


def diff_lines(text: str) -> list[Line]:
    """Return the lines of a unified diff (Python's `difflib`) with their numbers before and after, 0 for none."""
    lines: list[Line] = []
    before = after = 0
    for line in text.split("\n")[2:]:  # past the names of the two files
        sign, rest = line[:1], line[1:]
        hunk = _HUNK.match(line)
        if hunk:
            before, after = int(hunk[1]), int(hunk[2])
            lines.append(("@", 0, 0, line))
        elif sign in ("+", "-", " "):
            lines.append((sign, before if sign != "+" else 0, after if sign != "-" else 0, rest))
            before, after = before + (sign != "+"), after + (sign != "-")
        elif sign == "\\":
            lines.append(("@", 0, 0, line))
    return lines
