"""Columns of the room's frames: names that may not be UTF-8, times that may not be, and both through Arrow.

A guest's name is bytes; in frames it is text with surrogate escapes, which Arrow and Parquet refuse. `armoured` turns
such columns into bytes for storing and sending, `disarmoured` turns them back. Refuses to lose a byte of a name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.store.types import I64

__all__ = ["NAMES", "NO_TIME", "armoured", "disarmoured", "names", "nanoseconds", "times"]

NAMES = ("path", "old_path", "path_before", "target", "written_to")
"""Columns that hold names as guests wrote them."""
NO_TIME = np.iinfo(np.int64).min
"""How numpy writes "not a time"."""
_LAST = np.iinfo(np.int64).max


def names(values: Sequence[str | None]) -> pd.Series:
    """Return names as a column of Python strings: pandas' own kind of text refuses what is not UTF-8."""
    return pd.Series(values, dtype=object)


def nanoseconds(values: Sequence[int | None]) -> tuple[I64, int]:
    """Return times as int64 with `NO_TIME` for none, and how many lie beyond the years 1677 to 2262."""
    try:
        return np.array([NO_TIME if value is None else value for value in values], np.int64), 0
    except OverflowError:
        fits = [value is None or NO_TIME < value <= _LAST for value in values]
        kept = [value if fit and value is not None else NO_TIME for value, fit in zip(values, fits, strict=True)]
        return np.array(kept, np.int64), fits.count(False)


def times(values: NDArray[np.int64]) -> pd.Series:
    """Return ns since the epoch as a column of datetime64[ns, UTC]."""
    return pd.Series(values.view("M8[ns]")).dt.tz_localize("UTC")


def armoured(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose names are bytes, so that Arrow takes it."""
    mine = [name for name in NAMES if name in frame.columns]
    return _turned(frame, mine, lambda value: os.fsencode(value) if isinstance(value, str) else None)


def disarmoured(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame that `armoured` was given."""
    mine = [name for name in NAMES if name in frame.columns]
    return _turned(frame, mine, lambda value: os.fsdecode(value) if isinstance(value, bytes) else None)


def _turned(frame: pd.DataFrame, columns: list[str], how: Callable[[object], object]) -> pd.DataFrame:
    new = frame.copy(deep=False)
    for name in columns:
        new[name] = pd.Series([how(value) for value in frame[name]], dtype=object, index=frame.index)
    return new
