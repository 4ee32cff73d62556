"""What two futures of one moment have and have not in common: processes, sockets and files.

Numbers that every run deals out anew are left out of what is compared: process ids, start times, addresses, inodes,
file times. Kernel threads are left out too, since they come and go with the load. So two things are the same if they
look the same, and what differs is how many there are. Refuses to judge why futures differ.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

__all__ = ["COLUMNS", "differences"]

COLUMNS = ("kind", "what", "found", "original", "replay")
_PROCESS = ("name", "executable", "arguments", "uid")
_SOCKET = (
    "Process Name", "Family", "Type", "Proto", "Source Addr", "Source Port", "Destination Addr", "Destination Port",
    "State",
)  # fmt: skip
_FILE = ("change", "kind", "size_after", "sha256_after", "mode", "uid", "gid", "target")
_NUMBERED = "AF_UNIX"
"""Sockets whose ports are inodes."""
Row = tuple[str, str, str, str, str]


def differences(begin: Any, original: Any, replay: Any) -> pd.DataFrame:
    """Return what differs between two moments that both came of `begin`; files are those that changed since it.

    Returns
    -------
    DataFrame
        kind ("process", "socket", "file"), what, found ("only in original", "only in replay", "different"), original,
        replay (str: how many, or how the file changed).

    Raises
    ------
    AnalysisError, StoreError
        If one of them cannot be understood.
    """
    rows = _counted("process", _processes(original), _processes(replay))
    rows += _counted("socket", _sockets(original), _sockets(replay))
    rows += _files(_changed(begin, original), _changed(begin, replay))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _processes(moment: Any) -> Counter[str]:
    frame = moment.processes()
    own = frame[~frame["kernel_thread"].fillna(value=False)]
    return _count(own, _PROCESS)


def _sockets(moment: Any) -> Counter[str]:
    frame = moment.sockets().copy()
    frame.loc[(frame["Family"] == _NUMBERED).fillna(value=False), ["Source Port", "Destination Port"]] = pd.NA
    return _count(frame, _SOCKET)


def _count(frame: pd.DataFrame, columns: tuple[str, ...]) -> Counter[str]:
    return Counter(
        ", ".join("-" if pd.isna(value) else str(value) for value in row)
        for row in frame[list(columns)].astype("object").itertuples(index=False, name=None)
    )


def _counted(kind: str, original: Counter[str], replay: Counter[str]) -> list[Row]:
    return [
        (kind, what, _found(original[what], replay[what]), str(original[what]), str(replay[what]))
        for what in sorted(original.keys() | replay.keys())
        if original[what] != replay[what]
    ]


def _changed(begin: Any, end: Any) -> dict[str, str]:
    """Return how each file changed, its times left out; one of which only those changed is left out whole."""
    frame = begin.case.diff(begin, end).files()
    frame = frame[~((frame["change"] == "modified") & (frame["kind"] == "directory"))]
    rows = frame[["path", *_FILE]].astype("object").itertuples(index=False, name=None)
    return {path: ", ".join("-" if pd.isna(value) else str(value) for value in told) for path, *told in rows}


def _files(original: dict[str, str], replay: dict[str, str]) -> list[Row]:
    return [
        ("file", path, _found(path in original, path in replay), original.get(path, ""), replay.get(path, ""))
        for path in sorted(original.keys() | replay.keys())
        if original.get(path) != replay.get(path)
    ]


def _found(original: int, replay: int) -> str:
    return "different" if original and replay else "only in original" if original else "only in replay"
