"""Where clones of a case began and how long they have run, for the timeline to draw as bars.

A bar lies on the lane of the moment that its clone began at, and is as long as the clone has been there: a clone lives
on from that moment, whenever it was started. Clones that are gone leave what was captured of them: guests of their
own, whose first capture's reason names the moment (`Clone.capture`). Refuses to ask the hypervisor: a clone's own
record in the case is enough.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from workbench.notebook.text import inert

__all__ = ["MOST_RUNS", "clones_of", "read_runs", "run_forks"]

MOST_RUNS = 200
_NS_PER_MS = 1e6
_BEGAN = re.compile(r"clone of ([0-9a-f]{12})\b")


def clones_of(source: Any) -> list[tuple[str, str, int]]:
    """Return the clones that are there as name, capture, start (ns), oldest first; none where a source has none."""
    listed: list[Any] = getattr(source, "clones", list)()
    return [(each.name, str(each.record.capture), int(each.record.started_ns)) for each in listed]


def read_runs(source: Any, frame: pd.DataFrame, at_ms: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the bars of the newest clones whose moment is in the frame.

    Returns
    -------
    list of dict
        name (inert text), capture (first 16 digits), time (ms, of the moment), lane, started (ms, host clock).
    """
    clones = clones_of(source)[-MOST_RUNS:]
    if not clones:
        return []
    wanted = {capture for _, capture, _ in clones}
    places = {str(frame["id"].iloc[at]): int(at) for at in np.flatnonzero(frame["id"].isin(wanted))}
    return [
        {
            "name": inert(name, 80),
            "capture": capture[:16],
            "time": float(at_ms[places[capture]]),
            "lane": int(frame["lane"].iloc[places[capture]]),
            "started": started / _NS_PER_MS,
        }
        for name, capture, started in clones
        if capture in places
    ]


def run_forks(frame: pd.DataFrame, at_ms: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the forks from moments to the first captures of their clones: from_time, from, time, lane, clone."""
    forks = []
    for at in frame.drop_duplicates("guest").index[:MOST_RUNS]:
        told = _BEGAN.match(str(frame["reason"].iloc[at]))
        if told is None:
            continue
        begun = np.flatnonzero(frame["id"].str.startswith(told[1]))
        if len(begun) == 1 and frame["guest"].iloc[begun[0]] != frame["guest"].iloc[at]:
            place = int(begun[0])
            begin = {"from_time": float(at_ms[place]), "from": int(frame["lane"].iloc[place])}
            forks.append({**begin, "time": float(at_ms[at]), "lane": int(frame["lane"].iloc[at]), "clone": True})
    return forks
