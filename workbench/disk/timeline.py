"""Everything that happened between captures as one frame in the order of time: the super-timeline.

Takes frames that other questions answered, and says for each event where its time comes from: a stamp of the guest, or
only the two captures between which it happened. Refuses to mix the two up, and frames that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from workbench.disk.events import (
    FIELDS,
    Window,
    file_events,
    joined,
    module_events,
    process_events,
    rows,
    socket_events,
)
from workbench.disk.loglines import boot_time, kernel_events, log_events, log_lines
from workbench.errors import UsageError
from workbench.model import CaptureRecord, CaptureRef, Mark

__all__ = ["COLUMNS", "PARTS", "boot_time", "log_lines", "super_timeline"]

COLUMNS = (
    "datetime", "timestamp_desc", "message", "source", "kind", "capture", "exact", "time_from", "not_before",
    "not_after", *FIELDS,
)  # fmt: skip
_EVENTS = {
    "processes": process_events,
    "sockets": socket_events,
    "modules": module_events,
    "files": file_events,
    "logs": log_events,
}
PARTS = (*_EVENTS, "kernel_log")
"""Kinds of frames; a key may go on behind a colon ("logs:/var/log/auth.log"), to tell several apart."""
_SHORT = 12


def super_timeline(
    parts: Mapping[str, pd.DataFrame],
    captures: Sequence[CaptureRef | CaptureRecord],
    *,
    boot: pd.Timestamp | None = None,
    marks: Sequence[Mark] = (),
) -> pd.DataFrame:
    """Return all events in the order of time.

    Parameters
    ----------
    parts : mapping of str to DataFrame
        By one of `PARTS`: "processes" (`diff.processes()`), "sockets" and "modules" (comparisons of
        `linux.sockstat.Sockstat` and `linux.lsmod.Lsmod`), "files" (`changed_files`), "logs" (`log_lines`),
        "kernel_log" (`linux.kmsg.Kmsg` or its comparison). A frame is about the first and the last capture, unless it
        has columns or `attrs` `before` and `after`, ids of captures: so frames of many pairs go under one another.
    captures : sequence of CaptureRef or CaptureRecord
        At least one; each is an event too.
    boot : Timestamp, optional
        UTC, when the guest booted (`boot_time` of its processes): without it lines of the kernel have no time.
    marks : sequence of Mark
        Each is an event.

    Returns
    -------
    DataFrame
        datetime (datetime64[us, UTC], never empty; the later capture's where `exact` is False), timestamp_desc
        ("process started", "file modified" ...), message, source ("memory", "disk", "log", "capture"), kind
        ("process", "socket", "module", "file", "directory", "log" ...), capture (str, id of the one that shows it),
        exact (bool: whether `datetime` is a stamp), time_from (str, which one, or "between captures"), not_before,
        not_after (datetime64[us, UTC], by the host's clock: the capture without it, NaT if there is none, and the one
        that shows it), then pid, ppid, uid (Int64), name, executable, arguments (str), path, old_path (object, with
        surrogate escapes), inode, size, mode (Int64), sha256, protocol, local, remote, state, level, volume, changed
        (str). Stamps are by the guest's clock, which a guest may set.

    Raises
    ------
    UsageError
        If there is no capture, or a part or a capture named in it is not known.
    """
    if not captures:
        raise UsageError("a timeline needs captures", cure="Name at least one.")
    known = {str(each.id): pd.Timestamp(each.time_ns, unit="ns", tz="UTC") for each in captures}
    found = [_of_captures(captures), _of_marks(marks)]
    found += [_of_part(name, frame, known, captures, boot) for name, frame in parts.items() if len(frame)]
    frame = joined(found)
    assert frame is not None, "there is a capture"
    frame = frame.sort_values(["datetime", "not_before"], kind="stable", ignore_index=True)
    return frame[list(COLUMNS)]


def _of_part(
    name: str,
    frame: pd.DataFrame,
    known: Mapping[str, pd.Timestamp],
    captures: Sequence[CaptureRef | CaptureRecord],
    boot: pd.Timestamp | None,
) -> pd.DataFrame:
    kind = name.partition(":")[0]
    if kind not in PARTS:
        raise UsageError("no such part of a timeline", part=name, cure=f"Parts are {', '.join(PARTS)}.")
    ends = sorted(captures, key=lambda each: each.time_ns)
    # A whole kernel log is of one capture: nothing says that its lines were not there before.
    whole = kind == "kernel_log" and "change" not in frame.columns
    before = "" if whole or len(ends) == 1 else str(ends[0].id)
    plain = frame.reset_index(drop=True)
    window = _window(plain, known, before, str(ends[-1].id), frame.attrs)
    return kernel_events(plain, window, boot) if kind == "kernel_log" else _EVENTS[kind](plain, window)


def _window(
    frame: pd.DataFrame, known: Mapping[str, pd.Timestamp], before: str, after: str, attrs: Mapping[object, object]
) -> Window:
    sides = {}
    for side, default in (("before", before), ("after", after)):
        named = str(attrs.get(side, default))
        sides[side] = frame[side].astype("str") if side in frame.columns else pd.Series(named, frame.index, dtype="str")
        strange = set(sides[side].unique()) - {*known, ""}
        if strange or (side == "after" and (sides[side] == "").any()):
            raise UsageError("a frame names a capture that is not here", capture=ascii(sorted(map(str, strange))[:1]))
    times = {side: _times([known.get(each) for each in column], frame.index) for side, column in sides.items()}
    return Window(sides["after"], times["before"], times["after"])


def _times(values: Sequence[pd.Timestamp | None], index: pd.Index) -> pd.Series:
    return pd.Series(pd.DatetimeIndex(list(values), tz="UTC").as_unit("us"), index=index)


def _of_captures(captures: Sequence[CaptureRef | CaptureRecord]) -> pd.DataFrame:
    reasons = [getattr(each, "reason", "") for each in captures]
    said = [f"{each.id[:_SHORT]} {reason}".rstrip() for each, reason in zip(captures, reasons, strict=True)]
    return _by_host("captured", "capture", [str(each.id) for each in captures], [c.time_ns for c in captures], said)


def _of_marks(marks: Sequence[Mark]) -> pd.DataFrame:
    said = [f"{mark.name} ({mark.kind}) {mark.note}".rstrip() for mark in marks]
    return _by_host("marked", "mark", [str(m.capture or "") for m in marks], [m.time_ns for m in marks], said)


def _by_host(what: str, kind: str, captures: list[str], times: list[int], said: list[str]) -> pd.DataFrame:
    """Return events that the host's clock saw."""
    at = pd.to_datetime(pd.Series(times, dtype="int64"), unit="ns", utc=True).dt.as_unit("us")
    window = Window(pd.Series(captures, dtype="str"), at, at)
    message = pd.Series(said, dtype=object)
    return rows(
        window, what=what, kind=kind, source="capture", message=message, stamp=at, time_from="clock of the host"
    )
