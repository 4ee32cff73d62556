"""Words for a page: whatever a guest or a stranger's case made is inert here.

`inert` shows control characters, direction overrides and other invisible characters as escapes and cuts long text;
`markup` makes of it what may stand in HTML. Refuses to trust the type of a fact.
"""

from __future__ import annotations

import html
import math
import unicodedata
from datetime import UTC, datetime, timedelta

__all__ = ["LONGEST", "inert", "markup", "table", "value_words", "when"]

LONGEST = 160
"""Characters of a text that are shown."""
_DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def inert(value: object, longest: int = LONGEST) -> str:
    """Return text without control and format characters (they are escaped), cut at `longest` characters."""
    text = str(value)
    told = f"... ({len(text)} characters)" if len(text) > longest else ""
    return (
        "".join(_escape(char) if unicodedata.category(char) in _DANGEROUS else char for char in text[:longest]) + told
    )


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def markup(value: object, longest: int = LONGEST) -> str:
    """Return text as HTML or SVG that holds no element, attribute or entity of its own."""
    return html.escape(inert(value, longest), quote=True)


def value_words(value: float) -> str:
    """Return a number to four digits; "-" where there is none."""
    return f"{value:.4g}" if math.isfinite(value) else "-"


def when(time_ns: int) -> str:
    """Return an instant (UTC, ns since the epoch) to the millisecond, as it may be asked for again."""
    try:
        moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return f"{time_ns} ns from 1970"  # past the year 9999
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def table(rows: list[tuple[object, ...]], head: tuple[str, ...] = ()) -> str:
    """Return rows as an HTML table; without a head, the first cell of each row is its heading.

    Each cell isolates the direction of its text (`bdi`), so that right-to-left names do not move their neighbours.
    """
    lines = ["<table>"]
    if head:
        lines.append("<thead><tr>" + "".join(f'<th scope="col">{markup(each)}</th>' for each in head) + "</tr></thead>")
    lines.append("<tbody>")
    for row in rows:
        cells = [f"<td><bdi>{markup(each)}</bdi></td>" for each in row]
        if not head:
            cells[0] = f'<th scope="row">{markup(row[0])}</th>'
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "".join([*lines, "</tbody></table>"])
