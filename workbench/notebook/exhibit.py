"""Exhibits of a report: a table, a text or a picture with its number, and under it the captures that it came from.

Each has a digest of all that it is of, also of what is too long to be shown. Every text is inert. Refuses to show an
answer that lacks something as if it were whole: what failed is said above the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
from blake3 import blake3

from workbench.errors import WorkbenchError
from workbench.model import GuestRecord, Mark
from workbench.notebook.history import read_history
from workbench.notebook.picture import as_image, timeline_picture
from workbench.notebook.text import inert, markup, table

if TYPE_CHECKING:
    from workbench.case import Moment

__all__ = ["Exhibit", "Exhibits", "Span"]

_ROWS, _LINES, _LINE = 300, 400, 300


class Span:
    """The captures of one guest between two moments, for a picture that later captures and notes do not change.

    Parameters
    ----------
    a, b : Moment
        The ends.

    Attributes
    ----------
    captures : list of str
        Ids, oldest first.
    """

    def __init__(self, a: Moment, b: Moment) -> None:
        self._case, self._guest = a.case, a.guest
        self._first, self._last = a.record.time_ns, b.record.time_ns
        self.captures: list[str] = list(self.timeline()["id"])

    def guests(self) -> list[GuestRecord]:
        """Return the guest."""
        return [self._guest]

    def timeline(self, guest: str | None = None, *, since: str | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return the captures; columns as `Case.timeline`, without marks."""
        frame = self._case.timeline(self._guest.id, since=since)
        first, last = (pd.Timestamp(each, unit="ns", tz="UTC") for each in (self._first, self._last))
        return frame[frame["time"].between(first, last)].drop(columns="marks", errors="ignore").reset_index(drop=True)

    def marks(self, guest: str | None = None) -> list[Mark]:  # noqa: ARG002
        """Return the marks that were set by what was captured; not those that somebody added afterwards."""
        known = self._case.marks(self._guest.id)
        return [each for each in known if each.kind == "event" and self._first <= each.time_ns <= self._last]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Something shown.

    Attributes
    ----------
    number : int
    title : str
    body : str
        HTML.
    words : str
        The same without HTML.
    about : str
        How much it is.
    captures : tuple of str
        The ids of those it came from: each is the digest of a capture.
    digest : str
        BLAKE3-256 of the whole content.
    """

    number: int
    title: str
    body: str
    words: str
    about: str
    captures: tuple[str, ...]
    digest: str

    def _repr_mimebundle_(self, **_asked: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return {"text/plain": repr(self), "text/html": self.html()}, {"workbench": self.facts()}

    def facts(self) -> dict[str, Any]:
        """Return what machines want to know: exhibit, title, captures, content (its digest)."""
        return {
            "exhibit": self.number,
            "title": inert(self.title, _LINE),
            "captures": list(self.captures),
            "content": self.digest,
        }

    def html(self) -> str:
        """Return it with its caption."""
        whence = "".join(f"<li><code>{markup(each)}</code></li>" for each in self.captures)
        count = f"{len(self.captures)} capture{'s' if len(self.captures) != 1 else ''}"
        return (
            f'<figure class="wb-exhibit" id="exhibit-{self.number}">'
            f"<figcaption><strong>Exhibit {self.number}. {markup(self.title)}</strong> {self.about}</figcaption>"
            f'<div class="wb-content" role="region" tabindex="0" aria-label="Exhibit {self.number}">{self.body}</div>'
            f"<details><summary>From {count}; content <code>{self.digest[:16]}</code></summary>"
            f"<ul>{whence}</ul><p>BLAKE3 of the content: <code>{self.digest}</code></p></details></figure>"
        )

    def __repr__(self) -> str:
        return f"Exhibit {self.number}. {inert(self.title, _LINE)} {self.about}\n{self.words}"


@dataclass
class Exhibits:
    """Numbers what it is given to show.

    Each method takes `of`: the moment or the difference that it is of, capture ids, or several of these.
    """

    _count: int = field(default=0, init=False)

    def table(self, title: str, frame: pd.DataFrame | Callable[[], pd.DataFrame], *, of: Any) -> Exhibit:
        """Return a table as an exhibit; long ones show their first rows and say so.

        A question may be given instead of its answer: then an error of ours is what the exhibit says.
        """
        if not isinstance(frame, pd.DataFrame):
            try:
                frame = frame()
            except WorkbenchError as error:
                frame = pd.DataFrame()
                frame.attrs["error"] = str(error)
        rows = [tuple(_cell(value) for value in row) for row in frame.itertuples(index=False, name=None)]
        head = tuple(str(name) for name in frame.columns)
        untold = f" ({len(rows) - _ROWS} more are not shown)" if len(rows) > _ROWS else ""
        lacks = _lacks(frame)
        body = "".join(f'<p class="wb-lack">{markup(each, _LINE)}</p>' for each in lacks)
        body += table(list(rows[:_ROWS]), head) if rows else "" if lacks else "<p>Nothing.</p>"
        words = "\n".join(inert("  ".join(row), _LINE) for row in rows[:_ROWS])
        about = f"{len(rows)} row{'s' if len(rows) != 1 else ''}{untold}."
        return self._made(title, body, "\n".join([*lacks, words]), about, of, [head, *rows, *lacks])

    def text(self, title: str, words: str | Callable[[], str], *, of: Any) -> Exhibit:
        """Return lines as an exhibit; as with tables, a question will do."""
        if not isinstance(words, str):
            try:
                words = words()
            except WorkbenchError as error:
                words = f"Not whole: {error}"
        lines = words.splitlines()
        shown = [inert(line, _LINE) for line in lines[:_LINES]]
        untold = f" ({len(lines) - _LINES} more are not shown)" if len(lines) > _LINES else ""
        body = "<pre>" + "\n".join(f"<bdi>{markup(line, 2 * _LINE)}</bdi>" for line in shown) + "</pre>"
        about = f"{len(lines)} line{'s' if len(lines) != 1 else ''}{untold}."
        return self._made(title, body, "\n".join(shown), about, of, lines)

    def picture(self, title: str, svg: str, *, of: Any) -> Exhibit:
        """Return an SVG picture as an exhibit."""
        return self._made(title, as_image(svg, title), "(a picture)", "", of, svg)

    def timeline(self, title: str, span: Span) -> Exhibit:
        """Return the picture of a span's captures as an exhibit."""
        return self.picture(title, timeline_picture(read_history(span)), of=span.captures)

    def _made(self, title: str, body: str, words: str, about: str, of: Any, content: Any) -> Exhibit:
        self._count += 1
        whole = json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()
        return Exhibit(self._count, title, body, words, about, tuple(_captures(of)), blake3(whole).hexdigest())


def _captures(of: Any) -> list[str]:
    """Return the ids of moments, of both sides of differences, and ids as they are; none twice."""
    if isinstance(of, str):
        return [of]
    if hasattr(of, "a") and hasattr(of, "b"):
        return list(dict.fromkeys([of.a.id, of.b.id]))
    if hasattr(of, "id"):
        return [str(of.id)]
    assert isinstance(of, Iterable)
    return list(dict.fromkeys(each for one in of for each in _captures(one)))


def _lacks(frame: pd.DataFrame) -> list[str]:
    """Return what an answer says that it lacks."""
    failed = frame.attrs.get("failed") or {}
    told = [f"{str(part)[:12]} could not be asked: {why}" for part, why in failed.items()]
    if frame.attrs.get("error"):
        told.append(f"Not whole: {frame.attrs['error']}")
    return [inert(each, _LINE) for each in told]


def _cell(value: Any) -> str:
    """Return a value as text, whole and not yet inert: what shows it sees to that."""
    if isinstance(value, bytes):
        return value.hex(" ")
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "-"
    return f"{value:%Y-%m-%d %H:%M:%S.%f}"[:-3] if isinstance(value, pd.Timestamp) else str(value)
