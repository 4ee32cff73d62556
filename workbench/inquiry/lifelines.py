"""Lifelines: of each thing that answers over a span tell of, when it was first and last seen, and the gaps.

Refuses to call a capture that could not be asked one in which a thing was not: those are counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import UsageError
from workbench.inquiry.identity import VOLATILE, identity_of, keys
from workbench.model import CaptureRef

__all__ = ["KINDS", "lifelines", "question_of"]

KINDS: dict[str, str] = {
    "processes": "workbench.processes",
    "modules": "linux.lsmod.Lsmod",
    "sockets": "linux.sockstat.Sockstat",
    "mounts": "linux.mountinfo.MountInfo",
    "files": "linux.lsof.Lsof",
    "threads": "linux.kthreads.Kthreads",
    "addresses": "linux.ip.Addr",
    "cached files": "linux.pagecache.Files",
    "bpf": "linux.ebpf.EBPF",
}
"""What has lifelines by a short name; any plugin has by its own."""


@dataclass(slots=True)
class _Life:
    """Where one thing was seen: positions in the span, and its row when last seen."""

    seen: list[int]
    row: tuple[object, ...]


def question_of(kind: str) -> str:
    """Return the question behind a short name, or a plugin's own name.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if kind in KINDS:
        return KINDS[kind]
    if "." in kind:
        return kind
    raise UsageError(f"nothing called {kind!r} has lifelines", known=[*KINDS, "a plugin's name"])


def lifelines(question: str, span: Sequence[CaptureRef], answers: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Follow every thing over a span.

    Parameters
    ----------
    question : str
    span : sequence of CaptureRef
        Oldest first.
    answers : mapping of str to DataFrame
        By capture; one that is missing could not be asked.

    Returns
    -------
    DataFrame
        The answer's columns as last seen; `first_seen`, `last_seen` (datetime64[us, UTC]), `first_capture`,
        `last_capture` (str), `captures` (int64, in which it was seen), `gaps` (int64, captures between first and last
        in which it was not), `unknown` (int64, captures between them that could not be asked), `since_start`,
        `until_end` (bool: seen in the span's first or last capture that was asked, so that it may be older or live
        on). By first seen.
    """
    columns = list(dict.fromkeys(name for frame in answers.values() for name in frame.columns))
    columns = [name for name in columns if name not in VOLATILE]
    identity = identity_of(question, columns)
    lives: dict[str, _Life] = {}
    asked = [position for position, ref in enumerate(span) if ref.id in answers]
    for position in asked:
        frame = answers[span[position].id].reindex(columns=columns)
        for key, row in zip(keys(frame, identity), frame.itertuples(index=False, name=None), strict=True):
            life = lives.setdefault(key, _Life([], row))
            life.seen.append(position)
            life.row = row
    return _frame(columns, span, asked, list(lives.values()), _types(answers))


def _types(answers: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    return {name: frame[name].dtype for frame in answers.values() for name in frame.columns}


def _frame(
    columns: list[str], span: Sequence[CaptureRef], asked: list[int], lives: list[_Life], types: dict[str, Any]
) -> pd.DataFrame:
    lives.sort(key=lambda life: life.seen[0])
    frame = pd.DataFrame([life.row for life in lives], columns=columns)
    frame = frame.astype({name: types[name] for name in columns})
    first = np.array([life.seen[0] for life in lives], np.int64)
    last = np.array([life.seen[-1] for life in lives], np.int64)
    seen = np.array([len(life.seen) for life in lives], np.int64)
    known = np.zeros(len(span) + 1, np.int64)
    known[np.array(asked, np.int64) + 1] = 1
    between = np.cumsum(known)[last + 1] - np.cumsum(known)[first]
    times = pd.to_datetime([ref.time_ns // 1000 for ref in span], unit="us", utc=True)
    ids = np.array([ref.id for ref in span], dtype=object)
    return frame.assign(
        first_seen=times[first],
        last_seen=times[last],
        first_capture=ids[first],
        last_capture=ids[last],
        captures=seen,
        gaps=between - seen,
        unknown=last - first + 1 - between,
        since_start=first == (asked[0] if asked else 0),
        until_end=last == (asked[-1] if asked else 0),
    )
