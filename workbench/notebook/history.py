"""The history of a case as a page draws it: lanes, columns of numbers, marks, forks.

Reads `case.timeline`, `case.marks` and `case.clones` and nothing else, and keeps no text of a guest that is not inert.
Refuses to hold more lanes or marks than a page can show: the rest is counted and said.

Layout of the columns, little-endian, one after another, n captures by time: milliseconds since 1970 (f64); the first 16
digits of the id (two u32, the higher first); pages and clusters written, in pages (f32); lane (u16); mode (u8, index
into `MODES`). 23 bytes a capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from workbench.model import CLUSTER, PAGE, CaptureMode, GuestRecord, Mark
from workbench.notebook.reading import read_captures
from workbench.notebook.runs import read_runs, run_forks
from workbench.notebook.text import inert

__all__ = [
    "MODES",
    "MOST_LANES",
    "MOST_MARKS",
    "PREFIX",
    "History",
    "Source",
    "read_history",
    "texts_of",
]

MODES = tuple(each.value for each in CaptureMode)
PREFIX = 16
"""Digits of an id that a page knows a capture by."""
MOST_LANES = 200
MOST_MARKS = 5000
_REWIND = "rewind"
_NS_PER_MS = 1e6


class Source(Protocol):
    """What a case offers to be drawn; `workbench.case.Case` is one."""

    def guests(self) -> list[GuestRecord]:
        """Return the guests."""

    def timeline(self, guest: str | None = None, *, since: str | None = None) -> pd.DataFrame:
        """Return the captures of a guest, oldest first; those after one (its id) alone."""

    def marks(self, guest: str | None = None) -> list[Mark]:
        """Return the marks of a guest."""


@dataclass(frozen=True, slots=True)
class History:
    """All captures of some guests, by time.

    Attributes
    ----------
    frame : DataFrame
        As `Case.timeline`, with guest (str, UUID), own (bool: not of a clone that is a branch of it) and lane (int64).
    lanes : list of dict
        label, guest (inert texts), branch.
    marks : list of dict
        name, note, kind (inert texts), time (ms), lane, capture (first digits of its id, or "").
    forks : list of dict
        Where a rewind happened: time and lane it went back to, time and lane that it went on at; so for a clone that
        captures were taken of (`clone`).
    runs : list of dict
        Clones that are there, as `runs.read_runs`.
    here : list of dict
        time, lane of the capture that each guest's present continues.
    untold : str
        What was left out, in words.
    """

    frame: pd.DataFrame
    lanes: list[dict[str, Any]]
    marks: list[dict[str, Any]]
    forks: list[dict[str, Any]]
    here: list[dict[str, Any]]
    untold: str
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The captures' whole ids."""
        return texts_of(self.frame["id"])

    def columns(self, since: int = 0) -> bytes:
        """Return the columns of the captures from position `since` on; layout above."""
        frame = self.frame.iloc[since:]
        if frame.empty:
            return b""
        digits = np.frombuffer(bytes.fromhex("".join(each[:PREFIX] for each in texts_of(frame["id"]))), ">u4").reshape(
            -1, 2
        )
        written = frame["dirty_pages"].fillna(0).to_numpy("f4") + frame["dirty_clusters"].fillna(0).to_numpy("f4") * (
            CLUSTER // PAGE
        )
        parts = (
            _milliseconds(frame).astype("<f8"),
            digits[:, 0].astype("<u4"),
            digits[:, 1].astype("<u4"),
            written.astype("<f4"),
            frame["lane"].to_numpy("<u2"),
            _modes(frame).astype("u1"),
        )
        return b"".join(part.tobytes() for part in parts)

    def goes_on_from(self, earlier: History) -> bool:
        """Say whether the earlier history stands unchanged at the beginning of this one."""
        count = len(earlier.frame)
        same = self.lanes[: len(earlier.lanes)] == earlier.lanes
        return same and self.ids[:count] == earlier.ids


def read_history(source: Source, guests: Sequence[str] | None = None, before: History | None = None) -> History:
    """Read the history of some guests (names or UUIDs); of all without.

    Parameters
    ----------
    before : History, optional
        What was read earlier: captures are not read again, only those that came since.

    Raises
    ------
    StoreError
        DamagedError, FormatError among them.
    """
    known = [each for each in source.guests() if guests is None or each.name in guests or each.id in guests]
    frames = read_captures(source, known, None if before is None else before.frame)
    if not frames:
        return History(pd.DataFrame(columns=["id", "time", "guest", "own", "lane"]), [], [], [], [], "no captures")
    frame = pd.concat(frames, ignore_index=True).sort_values("time", kind="stable", ignore_index=True)
    lanes, frame = _lanes(frame, known)
    position = {str(capture): at for at, capture in enumerate(texts_of(frame["id"]))}
    told = [(guest, mark) for guest in known for mark in source.marks(guest.id)]
    shown = sorted(told, key=lambda each: each[1].time_ns)[-MOST_MARKS:]
    at_ms = _milliseconds(frame)
    whose = {guest.id: [mark for each, mark in told if each is guest] for guest in known}
    return History(
        frame if before is None else frame.assign(marks=_named(told, frame, at_ms, position)),
        lanes,
        [_mark(mark, guest, frame, at_ms, position) for guest, mark in shown],
        _forks(frame, position) + run_forks(frame, at_ms),
        [_here(frame, guest, whose[guest.id], position) for guest in _with(frame, known)],
        _untold(frame, lanes, len(told) - len(shown)),
        read_runs(source, frame, at_ms),
    )


def _named(
    told: Sequence[tuple[GuestRecord, Mark]],
    frame: pd.DataFrame,
    at_ms: npt.NDArray[np.float64],
    position: dict[str, int],
) -> pd.Series[str]:
    """Return the names of each capture's marks, joined by a comma, as the column `marks` of `Case.timeline`."""
    names: dict[int, list[str]] = {}
    for guest, mark in told:
        at = _shown_by(mark, guest, frame, at_ms, position)
        if at >= 0:
            names.setdefault(at, []).append(mark.name)
    return pd.Series([", ".join(names.get(at, ())) for at in range(len(frame))], dtype="object")


def _with(frame: pd.DataFrame, known: Sequence[GuestRecord]) -> list[GuestRecord]:
    """Return the guests that have captures in lanes of their own."""
    having = set(frame.loc[frame["own"], "guest"].unique())
    return [guest for guest in known if guest.id in having]


def _lanes(frame: pd.DataFrame, known: Sequence[GuestRecord]) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Give each guest's branches a lane, by guest and number; what is past the last lane shares it.

    The name comes last in a label: one that is written from right to left would draw a number behind it to its left.
    """
    names = {str(guest.id): inert(guest.name, 80) for guest in known}
    pairs = frame[["guest", "branch"]].drop_duplicates()
    order = {guest: at for at, guest in enumerate(names)}
    keys = sorted(((order[guest], guest, branch) for guest, branch in pairs.itertuples(index=False)))
    lane = {(guest, branch): min(at, MOST_LANES - 1) for at, (_, guest, branch) in enumerate(keys)}
    told = [
        {
            "label": f"branch {branch} of {names[guest]}" if branch else names[guest],
            "guest": names[guest],
            "branch": int(branch),
        }
        for _, guest, branch in keys[:MOST_LANES]
    ]
    numbers = [lane[pair] for pair in zip(texts_of(frame["guest"]), frame["branch"].to_numpy().tolist(), strict=True)]
    return told, frame.assign(lane=np.array(numbers, np.int64))


def _forks(frame: pd.DataFrame, position: dict[str, int]) -> list[dict[str, Any]]:
    """Return the first capture of each branch that follows one of another."""
    at_ms = _milliseconds(frame)
    lanes = frame["lane"].to_numpy()
    forks = []
    for at in frame.drop_duplicates(["guest", "branch"]).index:
        parent = position.get(str(frame["parent"].iloc[at]))
        if parent is not None and lanes[parent] != lanes[at]:
            fork = {"from_time": float(at_ms[parent]), "from": int(lanes[parent])} | _place(at_ms, lanes, at)
            forks.append(fork if frame["own"].iloc[at] else fork | {"clone": True})
    return forks


def _place(at_ms: npt.NDArray[np.float64], lanes: npt.NDArray[np.int64], at: int) -> dict[str, Any]:
    return {"time": float(at_ms[at]), "lane": int(lanes[at])}


def _mark(
    mark: Mark, guest: GuestRecord, frame: pd.DataFrame, at_ms: npt.NDArray[np.float64], position: dict[str, int]
) -> dict[str, Any]:
    at = _shown_by(mark, guest, frame, at_ms, position)
    return {
        "name": inert(mark.name, 80),
        "note": inert(mark.note),
        "kind": inert(mark.kind, 24),
        "time": mark.time_ns / _NS_PER_MS,
        "lane": int(frame["lane"].iloc[at]) if at >= 0 else 0,
        "capture": str(frame["id"].iloc[at])[:PREFIX] if at >= 0 else "",
    }


def _shown_by(
    mark: Mark, guest: GuestRecord, frame: pd.DataFrame, at_ms: npt.NDArray[np.float64], position: dict[str, int]
) -> int:
    """Return the position of the capture taken for a mark, else of its guest's newest at or before it, else -1."""
    at = position.get(str(mark.capture), -1)
    if at >= 0:
        return at
    earlier = frame.index[(frame["guest"] == guest.id) & frame["own"] & (at_ms <= mark.time_ns / _NS_PER_MS)]
    return int(earlier[-1]) if len(earlier) else -1


def _here(frame: pd.DataFrame, guest: GuestRecord, marks: list[Mark], position: dict[str, int]) -> dict[str, Any]:
    """Return the newest capture of a guest, or the target of a later rewind (docs/design.md, 6)."""
    at = int(frame.index[(frame["guest"] == guest.id) & frame["own"]][-1])
    last_ns = frame["time"].iloc[at].value
    rewinds = [each for each in marks if each.kind == _REWIND and each.capture in position]
    newest = max(rewinds, key=lambda each: each.time_ns, default=None)
    if newest is not None and newest.time_ns > last_ns:
        at = position[str(newest.capture)]
    return _place(_milliseconds(frame), frame["lane"].to_numpy(), at)


def _untold(frame: pd.DataFrame, lanes: Sequence[Any], marks: int) -> str:
    branches = len(frame[["guest", "branch"]].drop_duplicates())
    told = [f"{branches - len(lanes)} further branches share the last lane"] if branches > len(lanes) else []
    return "; ".join([*told, *([f"{marks} older marks are not shown"] if marks else [])])


def _milliseconds(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    nanoseconds: npt.NDArray[np.int64] = frame["time"].dt.as_unit("ns").astype("int64").to_numpy(np.int64)
    return nanoseconds / _NS_PER_MS


def _modes(frame: pd.DataFrame) -> npt.NDArray[np.uint8]:
    codes = {mode: at for at, mode in enumerate(MODES)}
    return np.array([codes.get(mode, codes["continuous"]) for mode in texts_of(frame["mode"])], np.uint8)


def texts_of(column: pd.Series[str]) -> list[str]:
    """Return a column's texts as a list: to go over the column itself takes ten times as long."""
    texts: list[str] = column.to_numpy(object).tolist()
    return texts
