"""Executable pages of processes that no file accounts for, and mappings that can be written and executed.

What a process executes comes from a file: the page is the page cache's, or a private copy with the same content. All
else is code that was made in memory.

Refuses to say what such code is for: a compiler at run time does the same. Nor does it know disks: the page cache is
held against them by `workbench.instant.code`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.memory.owning.frames import I64, U64
from workbench.memory.owning.owned import Maps, Owned
from workbench.memory.owning.processes import EXEC, SHARED, WRITE
from workbench.memory.owning.structpages import State, StructPages
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.tables import EXECUTABLE

__all__ = ["Suspect", "distinct", "page_index", "suspects", "writable_executable"]

_STEP = 2048


@dataclass(frozen=True, slots=True)
class Suspect:
    """Mapped pages of one kind that are to be told.

    Attributes
    ----------
    finding : str
    weight : {"high", "low"}
    leaves : (n,) int64
        Positions in `maps.pages`.
    beside : (n,) int64
        The frame that each was compared with, -1 for none.
    """

    finding: str
    weight: str
    leaves: I64
    beside: I64


def suspects(
    moment: Moment, owned: Owned, before: Maps | None, struct_before: StructPages | None, changed: I64
) -> list[Suspect]:
    """Return the executable pages of processes that are new or changed, and not what a file says.

    Parameters
    ----------
    owned : Owned
        All frames of the moment.
    before : Maps, optional
        Of the earlier moment; without it, every page counts as new.
    struct_before : StructPages, optional
        Of the earlier moment, of the frames `changed`.
    changed : (n,) int64
        Frames whose content changed, ascending.

    Raises
    ------
    StoreError
    """
    pages, areas, struct = owned.maps.pages, owned.maps.areas, owned.struct
    known = np.flatnonzero(owned.maps.area >= 0)
    area = owned.maps.area[known]
    row = np.searchsorted(owned.frame, pages.frame[known])
    state, flags = struct.state[row], areas.flags[area]
    fresh = np.isin(pages.frame[known], changed) | ~_was_there(owned.maps, known, before)
    runs = (flags & EXEC != 0) & (areas.start[area] != areas.end[area])
    private = flags & SHARED == 0
    nameless = areas.file[area] == 0
    made = runs & private & fresh & (state == State.ANONYMOUS)
    strange = runs & private & fresh & nameless & (state == State.UNKNOWN)
    beyond = fresh & ~runs & (pages.bits[known] & EXECUTABLE != 0) & np.isin(state, (State.ANONYMOUS, State.FILE))
    copied = distinct(owned, known[made & ~nameless])
    found = [
        _alone("executable_anonymous", "high", distinct(owned, known[made & nameless])),
        _alone("executable_kernel_page", "low", distinct(owned, known[strange])),
        _alone("executable_beyond_mapping", "high", distinct(owned, known[beyond])),
        *_copies(moment, owned, copied),
    ]
    mapped = known[runs & (state == State.FILE)]
    found.append(_alone("file_page_replaced", "high", distinct(owned, mapped[_replaced(owned, mapped)])))
    if struct_before is not None:
        edited = distinct(owned, mapped[_edited(owned, mapped, struct_before, changed)])
        found.append(_alone("file_page_changed", "high", edited))
    return [each for each in found if len(each.leaves)]


def _alone(finding: str, weight: str, leaves: I64) -> Suspect:
    return Suspect(finding, weight, leaves, np.full(len(leaves), -1))


def distinct(owned: Owned, leaves: I64) -> I64:
    """Return one mapping for each frame: that of the process that started first."""
    pages = owned.maps.pages
    started = np.array([each.start for each in owned.maps.processes], np.uint64)
    order = np.lexsort((pages.virtual[leaves], started[pages.space[leaves]], pages.frame[leaves]))
    leaves = leaves[order]
    return leaves[np.unique(pages.frame[leaves], return_index=True)[1]]


def _was_there(maps: Maps, leaves: I64, before: Maps | None) -> NDArray[np.bool_]:
    """Tell which mapped pages the same process had executable at the same address and in the same frame before."""
    if before is None:
        return np.zeros(len(leaves), bool)
    same = {(each.pid, each.start): at for at, each in enumerate(before.processes)}
    number = np.array([same.get((each.pid, each.start), -1) for each in maps.processes], np.int64)
    kept = np.flatnonzero(before.area >= 0)
    kept = kept[before.areas.flags[before.area[kept]] & EXEC != 0]
    old = _keys(before.pages.space[kept], before.pages.virtual[kept], before.pages.frame[kept])
    new = _keys(number[maps.pages.space[leaves]], maps.pages.virtual[leaves], maps.pages.frame[leaves])
    found: NDArray[np.bool_] = np.isin(new, old)
    return found


def _keys(space: I64, virtual: U64, frame: I64) -> NDArray[np.void]:
    """Return (process, address, frame) as one comparable value each."""
    columns = np.stack([space.astype(np.uint64), virtual, frame.astype(np.uint64)], axis=1)
    kind = np.dtype([("space", "<u8"), ("virtual", "<u8"), ("frame", "<u8")])
    return np.ascontiguousarray(columns).view(kind)[:, 0]


def _replaced(owned: Owned, leaves: I64) -> NDArray[np.bool_]:
    """Tell which pages are of another file, or another place in it, than their mapping says."""
    areas, struct, area = owned.maps.areas, owned.struct, owned.maps.area[leaves]
    row = np.searchsorted(owned.frame, owned.maps.pages.frame[leaves])
    index = page_index(owned, leaves)
    other = (struct.mapping[row] != areas.mapping[area]) | (struct.index[row] != index)
    found: NDArray[np.bool_] = other & (areas.mapping[area] != 0)
    return found


def page_index(owned: Owned, leaves: I64) -> I64:
    """Return which page of its file each mapped page should be."""
    areas, area = owned.maps.areas, owned.maps.area[leaves]
    return (areas.offset[area] + (owned.maps.pages.virtual[leaves] - areas.start[area]).astype(np.int64)) >> 12


def _edited(owned: Owned, leaves: I64, before: StructPages, changed: I64) -> NDArray[np.bool_]:
    """Tell which pages of a file were the same file's before, all there, with another content."""
    frame, struct = owned.maps.pages.frame[leaves], owned.struct
    if not len(changed):
        return np.zeros(len(leaves), bool)
    at = np.minimum(np.searchsorted(changed, frame), len(changed) - 1)
    row = np.searchsorted(owned.frame, frame)
    same = (before.mapping[at] == struct.mapping[row]) & (before.index[at] == struct.index[row])
    found: NDArray[np.bool_] = (changed[at] == frame) & same & (before.state[at] == State.FILE) & before.settled[at]
    return found


def _copies(moment: Moment, owned: Owned, leaves: I64) -> list[Suspect]:
    """Hold private copies of a file's pages against the page cache."""
    cached = _cached(owned, leaves)
    differs = np.zeros(len(leaves), bool)
    for begin in range(0, len(leaves), _STEP):
        part = slice(begin, begin + _STEP)
        mine, _ = moment.frames.take(owned.maps.pages.frame[leaves[part]])
        theirs, _ = moment.frames.take(cached[part])
        differs[part] = (mine != theirs).any(axis=1)
    alone = cached < 0
    return [
        Suspect("executable_copy_differs", "high", leaves[differs & ~alone], cached[differs & ~alone]),
        Suspect("executable_copy_unverified", "low", leaves[alone], cached[alone]),
    ]


def _cached(owned: Owned, leaves: I64) -> I64:
    """Return the frame of the page cache with the page that each mapped page was copied from, -1 for none."""
    struct = owned.struct
    files = np.flatnonzero((struct.state == State.FILE) & struct.settled)
    if not len(leaves):
        return np.zeros(0, np.int64)
    keys = zip(struct.mapping[files].tolist(), struct.index[files].tolist(), strict=True)
    have = dict(zip(keys, owned.frame[files].tolist(), strict=True))
    mapping = owned.maps.areas.mapping[owned.maps.area[leaves]].tolist()
    wanted = zip(mapping, page_index(owned, leaves).tolist(), strict=True)
    return np.array([have.get(key, -1) for key in wanted], np.int64)


def writable_executable(maps: Maps, before: Maps | None) -> I64:
    """Return the areas that can be written and executed, and did not overlap one such of their process before."""
    areas = maps.areas
    found = np.flatnonzero((areas.flags & WRITE != 0) & (areas.flags & EXEC != 0))
    if before is None:
        return found
    both = (before.areas.flags & WRITE != 0) & (before.areas.flags & EXEC != 0)
    old: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for at in np.flatnonzero(both).tolist():  # by process and start
        starts, ends = old.setdefault(_process(before, at), ([], []))
        starts.append(int(before.areas.start[at]))
        ends.append(int(before.areas.end[at]))
    return np.array([at for at in found.tolist() if not _overlaps(maps, at, old)], np.int64)


def _process(maps: Maps, area: int) -> tuple[int, int]:
    process = maps.processes[int(maps.areas.process[area])]
    return process.pid, process.start


def _overlaps(maps: Maps, at: int, old: dict[tuple[int, int], tuple[list[int], list[int]]]) -> bool:
    starts, ends = old.get(_process(maps, at), ([], []))
    before = bisect_left(starts, int(maps.areas.end[at])) - 1  # mappings of a process do not overlap each other
    return before >= 0 and ends[before] > int(maps.areas.start[at])
