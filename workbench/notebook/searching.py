"""Which rows of a frame are shown, and in which order: the words of a filter box, and sorting by a column.

Refuses to fail on values that cannot be compared: those are sorted as their text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["fitting", "ordered", "terms"]

_TERM = re.compile(r'"([^"]*)"?|(\S+)')


def terms(sought: str, names: Sequence[str]) -> list[tuple[list[int], str]]:
    """Return what is looked for: for each word the columns that may have it, and the text in lower case.

    A word is `text`, or `column:text` where a column's name, without spaces, is or begins with what is before the
    colon; quotes keep spaces together.
    """
    plain = [name.replace(" ", "").lower() for name in names]
    found = []
    for quoted, bare in _TERM.findall(sought.lower()):
        word = quoted or bare
        name, colon, text = word.partition(":")
        asked = name.replace(" ", "")
        exact = [at for at, each in enumerate(plain) if each == asked]
        meant = exact or [at for at, each in enumerate(plain) if asked and each.startswith(asked)]
        found.append((meant, text) if colon and meant else (list(range(len(names))), word))
    return [(columns, text.strip('"')) for columns, text in found if text.strip('"')]


def fitting(sought: str, names: Sequence[str], column: Callable[[int], Sequence[str]], rows: int) -> NDArray[np.bool_]:
    """Return which rows have every word that is looked for.

    Parameters
    ----------
    column : callable
        Gives the texts of a column, in lower case.
    """
    found = np.ones(rows, bool)
    for columns, text in terms(sought, names):
        has = np.zeros(rows, bool)
        for each in columns:
            has |= np.fromiter((text in cell for cell in column(each)), bool, rows)
        found &= has
    return found


def ordered(column: pd.Series, *, falling: bool = False) -> NDArray[np.int64]:
    """Return the places of rows by a column, those without a value last, equal ones as they were."""
    values = column.reset_index(drop=True)
    try:
        by = values.sort_values(ascending=not falling, kind="stable", na_position="last")
    except TypeError:
        by = values.map(repr).sort_values(ascending=not falling, kind="stable")
    return by.index.to_numpy(np.int64)
