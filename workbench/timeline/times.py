"""Read the times that users write: ISO 8601 with or without a zone, and spans back from now.

Refuses to guess: a form that is not listed is not a time, a local zone is never assumed (no zone means UTC), and
nothing is rounded (nine digits of a second are kept).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from workbench.errors import UsageError

__all__ = ["parse_span", "parse_time", "show_time"]

_NS = 10**9
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?(?:([Zz])|([+-])(\d\d):?(\d\d)?)?)?"
)
_SPAN = re.compile(r"-((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)")
_PART = re.compile(r"(\d+)(?:\.(\d+))?(ms|s|m|h|d)")
_UNITS = {"ms": _NS // 1000, "s": _NS, "m": 60 * _NS, "h": 3600 * _NS, "d": 86400 * _NS}


def parse_time(text: str) -> int | None:
    """Return the instant that an ISO 8601 text names, in ns since the epoch, or None if it has not that form.

    `2024-05-01`, `2024-05-01 12:30`, `2024-05-01T12:30:05.123456789+02:00`, `...Z`. Without a zone it is UTC; a date
    alone is its first instant, 00:00 UTC.

    Raises
    ------
    UsageError
        If it has the form and yet is no time (month 13, 25 o'clock).
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        return None
    day, minute, second, fraction, _, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}")
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        zone = timezone(-offset if sign == "-" else offset)
        seconds = (moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"no such time: {error}",
            asked=text,
            cure="Write it like 2024-05-01T12:30:05+02:00; without a zone it is UTC.",
        ) from error
    return seconds * _NS + int((fraction or "0").ljust(9, "0"))


def parse_span(text: str) -> int | None:
    """Return how many ns back from now a text such as `-30s`, `-1.5h` or `-1h30m` means, or None."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        return None
    total = 0
    for whole, fraction, unit in _PART.findall(match.group(1)):
        total += int(whole) * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    return total


def show_time(time_ns: int) -> str:
    """Return an instant as users may write it back: ISO 8601 in UTC with as many digits as it needs."""
    seconds, ns = divmod(time_ns, _NS)
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds} s from 1970"  # before year 1 or past year 9999
    text = f"{moment:%Y-%m-%dT%H:%M:%S}"
    return text + (f".{ns:09d}".rstrip("0") if ns else "") + "Z"
