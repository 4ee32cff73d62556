"""Strings in a moment's memory, ASCII and UTF-16LE, found by whole arrays: physical memory, or one process's.

Text is kept as the guest had it and made harmless only where it is shown. A string that goes on over the border of two
pages is found where the pages are neighbours in the addresses asked for (physical, or virtual for a process). Refuses
to give more than it was asked for without saying so; one of more than 64 KiB may come in two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.errors import UsageError
from workbench.memory.physical import PhysicalMemory

if TYPE_CHECKING:
    from workbench.memory.questions import Scene
    from workbench.memory.reading import Process

__all__ = ["process_strings", "strings", "strings_of"]

_BUFFER = 16 << 20
_LONGEST = 64 << 10
_GAP = np.full(2, 0xFF, np.uint8)
"""Between pieces that are not neighbours: in no string of either encoding."""
_MOST_ROWS = 1_000_000
_MOST_TEXT = 512 << 20
_TAB = 9

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]


def strings_of(
    memory: PhysicalMemory, *, minimum: int = 6, containing: str | bytes | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the strings of what the guest sees as its memory, in batches by address.

    Parameters
    ----------
    memory : PhysicalMemory
    minimum : int
        Characters (printable ASCII and tabs) of the shortest string, 4 to 1024.
    containing : str or bytes, optional
        Only strings with these characters in them, in either encoding.

    Yields
    ------
    DataFrame
        address (UInt64, guest-physical), region (str), offset (Int64, bytes in the region), encoding (str: "ascii" or
        "utf-16le"), text (str).

    Raises
    ------
    UsageError
        If `minimum` is out of bounds, or `containing` is no ASCII.
    StoreError
    """
    runs = ((address, content) for address, content in memory.runs())
    for batch in _batches(runs, minimum, containing):
        address = batch["address"].to_numpy(np.int64)
        at = np.array([each.start for each in memory.ranges], np.int64).searchsorted(address, "right") - 1
        moved = np.array([each.offset - each.start for each in memory.ranges], np.int64)
        names = pa.DictionaryArray.from_arrays(at, [each.block for each in memory.ranges])
        batch.insert(1, "region", names.cast(pa.large_string()).to_pandas())
        batch.insert(2, "offset", pd.Series(address + moved[at], dtype="Int64"))
        yield batch


def process_strings(
    process: Process, *, minimum: int = 6, containing: str | bytes | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the strings of what is in memory of a process, in batches by address.

    Parameters are those of `strings_of`.

    Yields
    ------
    DataFrame
        address (UInt64, virtual), encoding, text (str).

    Raises
    ------
    UsageError, UnreadableError, StoreError
    """
    pieces = ((address, np.frombuffer(data, np.uint8)) for address, data in process.pieces())
    return _batches(pieces, minimum, containing)


def strings(
    scene: Scene,
    minimum: int = 6,
    containing: str | None = None,
    pid: int | None = None,
    task: str | None = None,
    most: int = _MOST_ROWS,
) -> pd.DataFrame:
    """Answer `workbench.strings`: the strings of physical memory, or of one process.

    Parameters
    ----------
    scene : Scene
    minimum, containing
        As for `strings_of`.
    pid, task
        A process, as for `workbench.memory.reading.process`.
    most : int
        Rows of the answer; that there would be more is told in `attrs["error"]`.

    Returns
    -------
    DataFrame
        As `strings_of` or `process_strings` yield it.

    Raises
    ------
    UsageError, AnalysisError, StoreError
    """
    from workbench.memory.reading import number, process

    if not 0 < most <= _MOST_ROWS:
        raise UsageError("not a number of rows that an answer has", found=most, most=_MOST_ROWS)
    if pid is None and task is None:
        return _together(strings_of(scene.sight.memory, minimum=minimum, containing=containing), most)
    found = process(scene.sight, pid, task=number(task))
    frame = _together(process_strings(found, minimum=minimum, containing=containing), most)
    if found.notes:
        frame.attrs["error"] = "; ".join(filter(None, [frame.attrs.get("error", ""), *found.notes]))
    return frame


def _together(batches: Iterator[pd.DataFrame], most: int) -> pd.DataFrame:
    kept: list[pd.DataFrame] = []
    rows = size = 0
    error = ""
    for batch in batches:
        kept.append(batch.head(most - rows))
        size += int(batch["text"].str.len().sum())
        if rows + len(batch) > most or size > _MOST_TEXT:
            error = f"there are more strings than the {most} rows or {_MOST_TEXT >> 20} MiB of an answer"
            break
        rows += len(batch)
    frame = pd.concat(kept, ignore_index=True)
    if error:
        frame.attrs["error"] = error
    return frame


# Pieces of memory into buffers.


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Pieces in one array.

    Attributes
    ----------
    content : uint8
    at, address : int64
        Where each piece begins in `content`, and its address.
    told : int
        Bytes at the beginning that the buffer before had too.
    goes_on : bool
        Whether the next buffer begins where this ends.
    """

    content: U8
    at: I64
    address: I64
    told: int
    goes_on: bool

    def addresses(self, offsets: I64) -> I64:
        """Return the addresses of offsets."""
        piece = self.at.searchsorted(offsets, "right") - 1
        return self.address[piece] + offsets - self.at[piece]


def _batches(pieces: Iterable[tuple[int, U8]], minimum: int, containing: str | bytes | None) -> Iterator[pd.DataFrame]:
    if not 4 <= minimum <= 1024:
        raise UsageError("not a length that is sought", minimum=minimum, cure="Ask for 4 to 1024 characters.")
    wanted = _plain(containing)
    some = False
    tail = np.zeros(0, np.uint8)
    for group, goes_on in _groups(pieces):
        buffer = _buffer(group, tail, goes_on)
        spans = list(_spans(buffer.content, minimum))
        keep = _held_back(spans, buffer, minimum)
        tail = buffer.content[keep:]
        some = True
        yield _frame(buffer, spans, keep, wanted)
    if not some:
        yield _frame(_buffer([(0, tail)], tail, goes_on=False), [], 0, wanted)


def _plain(containing: str | bytes | None) -> str | None:
    if isinstance(containing, bytes):
        containing = containing.decode("latin-1")
    if containing is not None and not containing.isascii():
        raise UsageError("only ASCII can be sought in strings", found=containing)
    return containing


def _groups(pieces: Iterable[tuple[int, U8]]) -> Iterator[tuple[list[tuple[int, U8]], bool]]:
    """Yield pieces of about one buffer, and whether the next ones go on where they end."""
    group: list[tuple[int, U8]] = []
    size = 0
    for address, content in pieces:
        if size >= _BUFFER:
            yield group, group[-1][0] + len(group[-1][1]) == address
            group, size = [], 0
        group.append((address, content))
        size += len(content)
    if group:
        yield group, False


def _buffer(group: list[tuple[int, U8]], tail: U8, goes_on: bool) -> _Buffer:
    parts, at, addresses = [tail], [0], [group[0][0] - len(tail)]
    size, end = len(tail), group[0][0]
    for address, content in group:
        if address != end:
            parts.append(_GAP)
            size += len(_GAP)
            at.append(size)
            addresses.append(address)
        parts.append(content)
        size, end = size + len(content), address + len(content)
    return _Buffer(np.concatenate(parts), np.array(at), np.array(addresses), len(tail), goes_on)


# Arrays into strings.


@dataclass(frozen=True, slots=True)
class _Spans:
    """Strings of one encoding: `starts` and `ends` in characters of `units`, which begin at byte `phase`."""

    encoding: str
    units: U8
    phase: int
    step: int
    starts: I64
    ends: I64


def _spans(content: U8, minimum: int) -> Iterator[_Spans]:
    printable = (content - np.uint8(0x20) < np.uint8(0x5F)) | (content == _TAB)
    yield _Spans("ascii", content, 0, 1, *_edges(_windows(printable, minimum), minimum))
    wide = printable[:-1] & (content[1:] == 0)
    for phase in (0, 1):
        found = _edges(_windows(wide[phase::2], minimum), minimum)
        yield _Spans("utf-16le", content[phase::2], phase, 2, *found)


def _windows(mask: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Return where `count` in a row are set, in steps that double."""
    have = 1
    while have < count and len(mask):
        more = min(have, count - have)
        mask = mask[:-more] & mask[more:]
        have += more
    return mask


def _edges(windows: NDArray[np.bool_], count: int) -> tuple[I64, I64]:
    """Return where runs of windows begin, and where what the last of each covers ends."""
    if not len(windows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    changes = np.flatnonzero(windows[1:] != windows[:-1]) + 1
    bounds = np.concatenate([[0] * bool(windows[0]), changes, [len(windows)] * bool(windows[-1])]).astype(np.int64)
    return bounds[0::2], bounds[1::2] + count - 1


def _held_back(spans: list[_Spans], buffer: _Buffer, minimum: int) -> int:
    """Return from where on the next buffer must look again: what may go on there, at most 64 KiB."""
    size = len(buffer.content)
    if not buffer.goes_on:
        return size
    first = size - 2 * minimum - 2
    for each in spans:
        if len(each.ends) and _touches(each, size)[-1]:
            first = min(first, each.phase + each.step * int(each.starts[-1]))
    return max(0, first, size - _LONGEST)


def _touches(spans: _Spans, size: int) -> NDArray[np.bool_]:
    """Return which strings may go on behind the end of a buffer of `size` bytes."""
    touching: NDArray[np.bool_] = spans.phase + spans.step * spans.ends > size - spans.step
    return touching


def _frame(buffer: _Buffer, spans: list[_Spans], keep: int, wanted: str | None) -> pd.DataFrame:
    tables = [_table(buffer, each, keep, wanted) for each in spans]
    if not tables:
        none = {"address": pa.array([], pa.uint64()), "encoding": pa.array([], pa.large_string())}
        tables = [pa.table({**none, "text": pa.array([], pa.large_string())})]
    frame: pd.DataFrame = pa.concat_tables(tables).sort_by("address").to_pandas()
    return frame.astype({"address": "UInt64", "encoding": "str", "text": "str"})


def _table(buffer: _Buffer, spans: _Spans, keep: int, wanted: str | None) -> Any:
    """Return the strings that end in this buffer, and were not told with the one before."""
    size = len(buffer.content)
    last = spans.phase + spans.step * spans.ends
    whole = last > buffer.told - spans.step if buffer.told else np.ones(len(last), bool)
    starts, ends = spans.starts, spans.ends
    if buffer.goes_on:
        later = _touches(spans, size)
        # What began before the part that is looked at again is too long to wait for: it ends there.
        ends = np.where(later, (keep - spans.phase) // spans.step, ends)
        whole &= ~later | (spans.phase + spans.step * starts < keep)
    starts, ends = starts[whole], ends[whole]
    text = _text(spans.units, starts, ends)
    address = pa.array(buffer.addresses(spans.phase + spans.step * starts).astype(np.uint64))
    encoding = pa.DictionaryArray.from_arrays(np.zeros(len(starts), np.int8), [spans.encoding])
    table = pa.table({"address": address, "encoding": encoding.cast(pa.large_string()), "text": text})
    return table if wanted is None else table.filter(pc.match_substring(text, wanted))


def _text(units: U8, starts: I64, ends: I64) -> Any:
    """Return the characters of strings as an Arrow array, without a Python object for each."""
    marks = np.zeros(len(units) + 1, np.int8)
    marks[starts] = 1
    marks[ends] -= 1
    inside = np.cumsum(marks[:-1], dtype=np.int8).view(np.bool_)
    offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
    data = np.ascontiguousarray(units[inside])
    return pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(data))
