"""What happened, out of frames that say what differs between two captures: one function per kind of frame.

Each returns rows of a timeline without order. Refuses to give a time that nothing says: where there is no stamp, only
the two captures between which it happened are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from workbench.disk.columns import names

__all__ = [
    "BETWEEN",
    "FIELDS",
    "Window",
    "column",
    "file_events",
    "joined",
    "module_events",
    "process_events",
    "rows",
    "socket_events",
]

BETWEEN = "between captures"
FIELDS = {
    "pid": "Int64",
    "ppid": "Int64",
    "uid": "Int64",
    "name": "str",
    "executable": "str",
    "arguments": "str",
    "path": "object",
    "old_path": "object",
    "inode": "Int64",
    "size": "Int64",
    "mode": "Int64",
    "sha256": "str",
    "protocol": "str",
    "local": "str",
    "remote": "str",
    "state": "str",
    "level": "str",
    "volume": "str",
    "changed": "str",
}
"""Fields of events, and their dtypes; text that is not there is NA."""


@dataclass(frozen=True, slots=True)
class Window:
    """For each row of a frame: the capture that shows it, and the times (UTC) of that one and of the one before."""

    capture: pd.Series
    not_before: pd.Series
    not_after: pd.Series

    def of(self, index: pd.Index) -> Window:
        """Return the window of some rows."""
        return Window(self.capture.loc[index], self.not_before.loc[index], self.not_after.loc[index])


def rows(
    window: Window,
    *,
    what: str | pd.Series,
    kind: str | pd.Series,
    source: str,
    message: pd.Series,
    stamp: pd.Series | None = None,
    time_from: str | pd.Series = "",
    fields: dict[str, pd.Series] | None = None,
) -> pd.DataFrame:
    """Return events, one for each row of `window`.

    Parameters
    ----------
    stamp : Series of datetime64, optional
        When it happened; where there is none, the later capture's time stands, and `exact` is False.
    time_from : str or Series
        What the stamp is.
    """
    index = window.capture.index
    at = in_utc(pd.Series(pd.NaT, index=index) if stamp is None else stamp)
    known = at.notna()
    told = pd.Series(time_from, index=index, dtype="str").where(known, BETWEEN)
    frame = pd.DataFrame(
        {
            "datetime": at.where(known, window.not_after),
            "timestamp_desc": pd.Series(what, index=index, dtype="str"),
            "message": text(message),
            "source": pd.Series(source, index=index, dtype="str"),
            "kind": pd.Series(kind, index=index, dtype="str"),
            "capture": window.capture.astype("str"),
            "exact": known,
            "time_from": told,
            "not_before": window.not_before,
            "not_after": window.not_after,
        }
    )
    given = fields or {}
    return frame.assign(**{name: as_field(given.get(name), FIELDS[name], index) for name in FIELDS})


def in_utc(stamp: pd.Series) -> pd.Series:
    """Return times as datetime64[us, UTC]; what is no time is NaT."""
    return pd.to_datetime(stamp, utc=True, errors="coerce").dt.as_unit("us")


def as_field(values: pd.Series | None, dtype: str, index: pd.Index) -> pd.Series:
    """Return a column of a field, empty if there is none."""
    if values is None:
        values = pd.Series([None] * len(index), index=index, dtype=object)
    if dtype == "Int64":
        return pd.to_numeric(values, errors="coerce").astype("Int64")
    if dtype == "object":
        return names([value if isinstance(value, str) else None for value in values]).set_axis(index)
    return text(values)


def text(values: pd.Series) -> pd.Series:
    """Return values as text that is UTF-8: half characters become escapes."""
    return pd.Series([_text(value) for value in values], index=values.index, dtype="str")


def _text(value: object) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    return str(value).encode("utf-8", "backslashreplace").decode()


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column, or one of nothing where the frame has none."""
    if name in frame.columns:
        return frame[name]
    return pd.Series([None] * len(frame), index=frame.index, dtype=object)


def words(frame: pd.DataFrame, say: Callable[..., str], *columns: str) -> pd.Series:
    """Return a sentence for each row, said of these columns' values; what is not there is ""."""
    values = zip(*(column(frame, name).map(lambda each: _text(each) or "") for name in columns), strict=True)
    return pd.Series([say(*each) for each in values], index=frame.index, dtype=object)


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame | None:
    """Return parts under one another; None if there is nothing in them."""
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else None


_CHANGES = {
    "process": {"came": "process started", "went": "process ended", "changed": "process changed"},
    "socket": {"came": "socket appeared", "went": "socket disappeared", "changed": "socket changed"},
    "module": {"came": "module loaded", "went": "module unloaded", "changed": "module changed"},
}


def process_events(frame: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return events of `diff.processes()`: a start has the kernel's own time, an end lies between captures."""
    change = column(frame, "change").astype("str")
    started = in_utc(column(frame, "started")).where(change == "came")
    message = words(frame, _process, "name", "pid", "executable", "arguments", "changed")
    fields = {
        name: column(frame, name) for name in ("pid", "ppid", "uid", "name", "executable", "arguments", "changed")
    }
    return rows(
        window, what=change.map(_CHANGES["process"]), kind="process", source="memory", message=message, stamp=started,
        time_from="start of the process by the guest's kernel", fields={**fields, "path": column(frame, "executable")},
    )  # fmt: skip


def _process(name: str, pid: str, executable: str, arguments: str, changed: str) -> str:
    return f"{name} ({pid}) {arguments or executable}".rstrip() + (f" [{changed}]" if changed else "")


def socket_events(frame: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return events of a comparison of `linux.sockstat.Sockstat`: sockets have no times."""
    change = column(frame, "change").astype("str")
    local = words(frame, _end, "Source Addr", "Source Port")
    remote = words(frame, _end, "Destination Addr", "Destination Port")
    said = frame.assign(local=local, remote=remote)
    message = words(said, _socket, "Proto", "Family", "local", "remote", "State", "Process Name", "PID")
    taken = {"pid": "PID", "name": "Process Name", "protocol": "Proto", "state": "State", "changed": "changed"}
    fields = {field: column(frame, name) for field, name in taken.items()}
    return rows(
        window, what=change.map(_CHANGES["socket"]), kind="socket", source="memory", message=message,
        fields={**fields, "local": local, "remote": remote},
    )  # fmt: skip


def _end(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}" if port else address


def _socket(protocol: str, family: str, local: str, remote: str, state: str, name: str, pid: str) -> str:
    return f"{protocol or family} {local} -> {remote} {state}, {name} ({pid})"


def module_events(frame: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return events of a comparison of `linux.lsmod.Lsmod`: modules have no times."""
    change = column(frame, "change").astype("str")
    message = words(frame, lambda name, how: f"{name} {how}".rstrip(), "Module Name", "Load Arguments")
    fields = {"name": "Module Name", "size": "Code Size", "arguments": "Load Arguments", "changed": "changed"}
    return rows(
        window, what=change.map(_CHANGES["module"]), kind="module", source="memory", message=message,
        fields={field: column(frame, name) for field, name in fields.items()},
    )  # fmt: skip


# Files.

_FILES = {
    "created": ("created", "created"),
    "deleted": ("deleted", ""),
    "renamed": ("renamed", "changed"),
    "modified": ("modified", "modified"),
    "metadata": ("metadata changed", "changed"),
}
"""By the change: what is said, and which time of the inode says when."""


def file_events(frame: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return events of `changed_files`: at the inode's own time where that moved with the change.

    A content that changed while the time of modification did not lies between captures, and its message says so. A
    new file whose content has another time than its name has an event for each.
    """
    change, parts = column(frame, "change").astype("str"), []
    for name, (words_of, time) in _FILES.items():
        mine = frame[change == name]
        parts.append(_files(mine, window.of(mine.index), words_of, time))
    new = frame[change == "created"]
    written, born = (in_utc(column(new, f"{time}_after")) for time in ("modified", "created"))
    late = new[written.notna() & born.notna() & (written != born)]
    parts.append(_files(late, window.of(late.index), "modified", "modified"))
    found = joined(parts)
    return _files(frame.iloc[:0], window.of(frame.index[:0]), "", "") if found is None else found


def _files(frame: pd.DataFrame, window: Window, what: str, time: str) -> pd.DataFrame:
    kind = column(frame, "kind").map(lambda each: each if isinstance(each, str) else "file")
    stamp = before = None
    if time:
        stamp, before = (in_utc(column(frame, f"{time}_{side}")) for side in ("after", "before"))
        stamp = stamp.where(before.isna() | (stamp != before))
    message = words(frame, lambda path, old: path + (f" (was {old})" if old else ""), "path", "old_path")
    if what == "modified" and stamp is not None:
        message = message + stamp.isna().map({True: " (its time of modification is as before)", False: ""})
    return rows(
        window, what=kind + f" {what}", kind=kind, source="disk", message=message, stamp=stamp,
        time_from=f"time of the inode: {time}", fields=_file_fields(frame),
    )  # fmt: skip


def _file_fields(frame: pd.DataFrame) -> dict[str, pd.Series]:
    fields = {name: column(frame, name) for name in ("path", "old_path", "inode", "mode", "uid", "volume")}
    for name in ("size", "sha256"):
        after = column(frame, f"{name}_after").astype(object)
        fields[name] = after.where(after.notna(), column(frame, f"{name}_before").astype(object))
    return fields
