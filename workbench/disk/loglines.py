"""Lines of logs as events: the kernel's by its clock since boot, text logs by the time that a line begins with.

Refuses to guess silently: where a line has no year or no zone, `time_from` says what was assumed; where it has no time
that can be read, it lies between two captures.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pandas as pd

from workbench.disk.events import Window, column, rows

__all__ = ["boot_time", "kernel_events", "log_events", "log_lines", "time_of_line"]

_LONGEST = 1 << 16
"""Characters of a line that are kept."""
_BEGINNING = 80
_UPTIME = 10**10  # seconds: 300 years
_ISO = re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?) ?(Z|[+-]\d\d:?\d\d)?\b")
_SYSLOG = re.compile(r"(?:<\d{1,3}>)?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d)\b")
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_LOG = "time in the line"


def boot_time(processes: pd.DataFrame) -> pd.Timestamp | None:
    """Return when a guest booted, by its own clock: what processes' starts and their time since boot agree on.

    Parameters
    ----------
    processes : DataFrame
        With started (UTC) and start_ns (Int64, since boot).

    Returns
    -------
    Timestamp or None
        UTC; None where no process says so.
    """
    known = processes.dropna(subset=["started", "start_ns"])
    if known.empty:
        return None
    since = pd.to_timedelta(known["start_ns"].astype("int64"), unit="ns")
    return (known["started"] - since).median()


def kernel_events(frame: pd.DataFrame, window: Window, boot: pd.Timestamp | None) -> pd.DataFrame:
    """Return lines of `linux.kmsg.Kmsg`, or of its comparison: what only left the ring is no event.

    Parameters
    ----------
    boot : Timestamp or None
        UTC, when the guest booted; without it lines have no time of their own.
    """
    came = frame[~column(frame, "change").isin(["went", "changed"])]
    window = window.of(came.index)
    seconds = pd.to_numeric(column(came, "timestamp"), errors="coerce").astype("float64")
    seconds = seconds.where(seconds.between(0, _UPTIME))
    stamp = None if boot is None else boot + pd.to_timedelta((seconds * 1e6).round(), unit="us")
    return rows(
        window, what="log line", kind="kernel log", source="log", message=column(came, "line").map(_cut), stamp=stamp,
        time_from="seconds since boot by the guest's kernel",
        fields={"level": column(came, "level"), "name": column(came, "facility")},
    )  # fmt: skip


def log_events(frame: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return lines that came to text logs or were taken out of them.

    Parameters
    ----------
    frame : DataFrame
        path (object), change (str: "added" or "removed"), line (str), as `log_lines` has them.
    """
    gone = column(frame, "change") == "removed"
    found = [time_of_line(str(line), at) for line, at in zip(column(frame, "line"), window.not_after, strict=True)]
    stamp = pd.Series([when for when, _ in found], index=frame.index, dtype="datetime64[us, UTC]").mask(gone)
    told = pd.Series([how for _, how in found], index=frame.index, dtype="str")
    what = gone.map({True: "log line removed", False: "log line"})
    return rows(
        window, what=what, kind="log", source="log", message=column(frame, "line").map(_cut), stamp=stamp,
        time_from=told, fields={"path": column(frame, "path")},
    )  # fmt: skip


def log_lines(path: str, unified: str) -> pd.DataFrame:
    """Return what a unified diff of a log adds and removes.

    Returns
    -------
    DataFrame
        path (object), change (str: "added" or "removed"), line (str).
    """
    inside, found = False, []
    for line in unified.split("\n"):
        if line.startswith("@@"):
            inside = True
        elif inside and line[:1] in {"+", "-"}:
            found.append((path, "added" if line[0] == "+" else "removed", line[1:].removesuffix("\r")))
    frame = pd.DataFrame(found, columns=["path", "change", "line"], dtype=object)
    return frame.astype({"change": "str"})


def time_of_line(line: str, seen: pd.Timestamp) -> tuple[datetime | None, str]:
    """Return the time that a line begins with (UTC), and how it was read; None and "" where it has none.

    Parameters
    ----------
    seen : Timestamp
        When the line was there: what has no year is taken for the last such day before the day after that.
    """
    beginning = line[:_BEGINNING]
    try:
        if match := _ISO.match(beginning):
            return _iso(*match.groups())
        if match := _SYSLOG.match(beginning):
            return _syslog(match.group(1), [int(part) for part in match.groups()[1:]], seen)
    except (ValueError, OverflowError):  # no such day, or beyond what is counted
        pass
    return None, ""


def _iso(text: str, zone: str | None) -> tuple[datetime, str]:
    when = datetime.fromisoformat(re.sub(r"([.,]\d{1,6})\d*$", r"\1", text).replace(",", ".") + (zone or "+00:00"))
    return when.astimezone(UTC), _LOG if zone else f"{_LOG}, zone assumed UTC"


def _syslog(month: str, parts: list[int], seen: pd.Timestamp) -> tuple[datetime | None, str]:
    day, hour, minute, second = parts
    latest = seen.to_pydatetime() + timedelta(days=1)
    for year in range(latest.year, latest.year - 9, -1):
        try:
            when = datetime(year, _MONTHS.get(month, 0), day, hour, minute, second, tzinfo=UTC)
        except ValueError:  # the 29th of February
            continue
        if when <= latest:
            return when, f"{_LOG}, year and zone (UTC) assumed"
    return None, ""


def _cut(line: object) -> str:
    text = str(line)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
