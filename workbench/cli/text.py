"""How text, numbers and times are shown; whatever a guest or a stranger's case made is inert here.

Control characters, direction overrides and other invisible characters are shown as escapes, long text is cut. Facts of
a capture are data: what has not the type that it should have is shown as `-`, never trusted.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta

__all__ = ["ABSENT", "inert", "millis", "number", "short", "thousands", "when"]

ABSENT = "-"
_LONGEST = 200
_SHORT = 12
_DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def inert(value: object, longest: int = _LONGEST) -> str:
    """Return text that does nothing to a terminal: control and format characters escaped, cut at `longest`."""
    text = str(value)
    if len(text) > longest:
        text = f"{text[:longest]}... ({len(text)} characters)"
    return "".join(_escape(char) if unicodedata.category(char) in _DANGEROUS else char for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def short(identity: str) -> str:
    """Return the digits of an id that are shown, and enough to ask for it."""
    return inert(identity[:_SHORT])


def when(time_ns: int) -> str:
    """Return an instant (UTC, ns since the epoch) to the millisecond, as it may be asked for again."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def number(value: object) -> str:
    """Return a whole number, or `-` for what is none."""
    return str(value) if _whole(value) is not None else ABSENT


def millis(ns: object) -> str:
    """Return nanoseconds as milliseconds, or `-`."""
    whole = _whole(ns)
    return ABSENT if whole is None or not math.isfinite(whole / 1e6) else f"{whole / 1e6:.1f}"


def thousands(value: object) -> str:
    """Return bytes as kB (1000 bytes), or `-`."""
    whole = _whole(value)
    return ABSENT if whole is None else f"{whole / 1e3:.1f}"


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
