"""Processes in the order of a tree: children below their parents, with how deep each stands.

Refuses to lose a process: what has no parent here, or is its own ancestor, stands at the top.
"""

from __future__ import annotations

import pandas as pd

__all__ = ["FIRST", "as_tree"]

FIRST = ("name", "pid", "ppid", "uid", "started", "state", "executable", "arguments")
"""Columns that a reader looks for first."""


def as_tree(frame: pd.DataFrame, child: str = "pid", parent: str = "ppid") -> pd.DataFrame:
    """Return the rows as a tree.

    Parameters
    ----------
    frame : DataFrame
        As `Moment.processes` gives it; `attrs["absent"]` goes with the rows.
    child, parent : str
        Columns of numbers.

    Returns
    -------
    DataFrame
        The same rows and columns, `FIRST` before the others, and `depth` (int64).
    """
    ids, parents = frame[child].tolist(), frame[parent].tolist()
    order = _walk(ids, parents)
    names = [name for name in FIRST if name in frame.columns]
    found = frame[[*names, *(name for name in frame.columns if name not in names)]]
    found = found.iloc[[at for at, _ in order]].reset_index(drop=True)
    found["depth"] = [deep for _, deep in order]
    place = {at: row for row, (at, _) in enumerate(order)}
    found.attrs = {**frame.attrs, "absent": [[place[row], *rest] for row, *rest in frame.attrs.get("absent", ())]}
    return found


def _walk(ids: list[int], parents: list[int]) -> list[tuple[int, int]]:
    """Return (row, depth) of every row, parents before children."""
    known = set(ids)
    below: dict[int, list[int]] = {}
    tops = []
    for at, (own, above) in enumerate(zip(ids, parents, strict=True)):
        if above in known and above != own:
            below.setdefault(above, []).append(at)
        else:
            tops.append(at)
    order: list[tuple[int, int]] = []
    seen: set[int] = set()
    for top in [*tops, *range(len(ids))]:  # those that only a circle leads to come last
        waiting = [(top, 0)]
        while waiting:
            at, deep = waiting.pop()
            if at not in seen:
                seen.add(at)
                order.append((at, deep))
                waiting += [(each, deep + 1) for each in reversed(below.get(ids[at], ()))]
    return order
