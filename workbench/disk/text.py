"""The unified diff of a path between two moments.

Bytes are taken for UTF-8; what is not is shown as U+FFFD and said. Refuses contents that are binary or too large,
and says so instead; nothing is cut silently. What comes back is a guest's text: whoever shows it makes it inert.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from workbench.disk.history import resolve
from workbench.disk.moments import Moments
from workbench.errors import DiskError, UnsupportedError
from workbench.model import CaptureId

__all__ = ["TextDiff", "text_diff"]

_MOST = 4 << 20
"""Bytes of each content at most."""
_MOST_LINES = 50_000
_MOST_WORK = 20_000_000
"""Products of differing lines: what difflib takes a minute for is told as one replacement instead."""


@dataclass(frozen=True, slots=True)
class TextDiff:
    """A diff, or why there is none.

    Attributes
    ----------
    text : str
        Unified, as a whole; empty where both are equal or there is a `note` instead.
    note : str
        What there is to know: "binary", "replaced bytes that are not UTF-8" ...; empty for nothing.
    equal : bool
        Whether both contents are the same bytes.
    """

    text: str
    note: str = ""
    equal: bool = False


def text_diff(
    moments: Moments, before: CaptureId, after: CaptureId, path: str, *, context: int = 3, most: int = _MOST
) -> TextDiff:
    """Return how the text of a path changed.

    Parameters
    ----------
    path : str
        As shown; links are not followed. Where only one moment has it, the other is taken for empty.
    context : int
        Lines around each change.
    most : int
        Bytes of each content at most.

    Raises
    ------
    DiskError
        If neither moment has a file there, or one cannot be read.
    StoreError
    """
    contents = [_content(moments, capture, path, most) for capture in (before, after)]
    if contents[0] is None and contents[1] is None:
        raise DiskError("neither moment has such a file", path=path, cure="List the directory.")
    sizes = [0 if each is None else each[1] for each in contents]
    if max(sizes) > most:
        return TextDiff("", f"too large to be compared as text: {sizes[0]} and {sizes[1]} bytes, {most} at most")
    one, two = (b"" if each is None else each[0] for each in contents)
    return _compared(one, two, path, context, _sides(contents))


def _sides(contents: list[tuple[bytes, int] | None]) -> str:
    missing = [when for each, when in zip(contents, ("before", "after"), strict=True) if each is None]
    return f"no such file {missing[0]}" if missing else ""


def _content(moments: Moments, capture: CaptureId, path: str, most: int) -> tuple[bytes, int] | None:
    """Return a file's content and size; None if there is no such file."""
    try:
        part, below = resolve(moments.parts(capture), path)
        entry = part.filesystem.lookup(below)
    except DiskError:
        return None
    if entry.kind != "file":
        raise UnsupportedError(f"not a file but a {entry.kind}", path=path, cure="Name a file.")
    if entry.size > most:
        return b"", entry.size
    parts: list[bytes] = []
    with part.filesystem.open(entry.inode) as content:
        while data := content.read(most + 1):
            parts.append(data)
    return b"".join(parts), entry.size


def _compared(before: bytes, after: bytes, path: str, context: int, note: str) -> TextDiff:
    if before == after:
        return TextDiff("", note, equal=not note)
    if b"\0" in before or b"\0" in after:
        return TextDiff("", _joined(note, f"binary: {len(before)} and {len(after)} bytes"))
    texts = [each.decode("utf-8", "replace") for each in (before, after)]
    if any(each.encode() != raw for each, raw in zip(texts, (before, after), strict=True)):
        note = _joined(note, "bytes that are not UTF-8 are shown as U+FFFD")
    lines = [_lines(each) for each in texts]
    if max(map(len, lines)) > _MOST_LINES or _work(lines) > _MOST_WORK:
        return TextDiff("", _joined(note, f"too many lines: {len(lines[0])} and {len(lines[1])}"))
    found = difflib.unified_diff(lines[0], lines[1], f"a{path}", f"b{path}", n=context)
    return TextDiff(
        "".join(each if each.endswith("\n") else f"{each}\n\\ No newline at end of file\n" for each in found), note
    )


def _lines(text: str) -> list[str]:
    """Cut at newlines alone: other separators are content, and a guest may mean to fool us with them."""
    found = [f"{line}\n" for line in text.split("\n")]
    if found[-1] == "\n":
        return found[:-1]
    return [*found[:-1], found[-1][:-1]]


def _work(lines: list[list[str]]) -> int:
    """Return how much there is to compare past what both begin and end with."""
    first, second = lines
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    end = 0
    while end < min(len(first), len(second)) - start and first[-1 - end] == second[-1 - end]:
        end += 1
    return (len(first) - start - end) * (len(second) - start - end)


def _joined(note: str, more: str) -> str:
    return f"{note}; {more}" if note else more
