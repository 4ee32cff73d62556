"""What became of one file, page or run of clusters: a text diff where it is text, else bytes that differ.

Reads both moments through the case, and says whose it is. Refuses to hold more than a bounded part of a content, and
to follow what a guest made of a path: a link is compared as a link.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pandas as pd

from workbench.errors import DiskError, UsageError
from workbench.model import PAGE
from workbench.notebook.hexdiff import Differing, differing
from workbench.notebook.text import inert, when
from workbench.progress import Progress, ProgressEvent, silent

if TYPE_CHECKING:
    from workbench.case import Diff, Moment

__all__ = ["Found", "cluster_difference", "file_difference", "page_difference"]

_MOST_CLUSTERS = 8 << 20
"""Bytes of a run of clusters that are read."""
_OWNER = ("owner", "process", "pid", "path", "virtual", "protection", "detail")

Fact = tuple[object, object, object]


@dataclass(frozen=True, slots=True)
class Found:
    """What to show of one choice.

    Attributes
    ----------
    heading, note : str
        The guest's texts in them are not inert yet.
    facts : list of (name, before, after)
    text : str
        A unified diff, or "".
    content : Differing, optional
        Where there is no text diff: the bytes.
    """

    heading: str
    note: str = ""
    facts: list[Fact] = field(default_factory=list)
    text: str = ""
    content: Differing | None = None


def file_difference(diff: Diff, row: pd.Series, progress: Progress = silent) -> Found:
    """Compare what a row of `Diff.files` is about.

    Raises
    ------
    StoreError, AnalysisError
        DiskError only if both moments should have the file and neither can be read.
    """
    path, old = str(row["path"]), row["old_path"] if _is_there(row["old_path"]) else row["path"]
    heading = f"{row['change']}: {path}" + (f", before {old}" if old != path else "")
    facts = _facts(row)
    if row["kind"] != "file":
        return Found(heading, f"a {row['kind']}", facts)
    if _is_there(row["sha256_before"]) and row["sha256_before"] == row["sha256_after"]:
        return Found(heading, "the content is the same", facts)
    note = ""
    if old == path:
        try:
            progress(ProgressEvent("comparing text"))
            text = diff.text(path)
            return Found(heading, "" if text else "the content is the same", facts, text)
        except DiskError as error:
            note = error.message
    return Found(heading, note, facts, content=_file_bytes(diff, row, str(old), progress))


def _file_bytes(diff: Diff, row: pd.Series, old: str, progress: Progress) -> Differing:
    before = None if row["change"] == "created" or _is_there(row["target_before"]) else _opened(diff.a, old)
    after = None if row["change"] == "deleted" else _opened(diff.b, str(row["path"]))
    if before is None and after is None:
        raise DiskError("neither moment's content can be read", path=str(row["path"]), cure="Its notes may say why.")
    try:
        sizes = [int(row[name]) for name in ("size_before", "size_after") if _is_there(row[name])]
        return differing(before, after, total=max(sizes, default=0), progress=progress)
    finally:
        for each in (before, after):
            if each is not None:
                each.close()


def _opened(moment: Moment, path: str) -> BinaryIO | None:
    try:
        return cast("BinaryIO", moment.open(path))
    except DiskError:
        return None


def page_difference(diff: Diff, row: pd.Series, progress: Progress = silent) -> Found:
    """Compare a page, a row of `Diff.pages`.

    Raises
    ------
    StoreError
    """
    region, page = str(row["region"]), int(row["page"])
    progress(ProgressEvent("reading the page"))
    sides = [_region_bytes(each, region, page * PAGE, PAGE) for each in (diff.a, diff.b)]
    start = int(row["address"]) if _is_there(row["address"]) else page * PAGE
    # Whose it was before is not known: the owner is the later moment's.
    facts: list[Fact] = [(name, "", _shown(name, row[name])) for name in _OWNER if _is_there(row[name])]
    heading = f"page {page} of {region}, {start:#x}"
    return Found(heading, "", facts, content=differing(sides[0], sides[1], start=start))


def cluster_difference(diff: Diff, row: pd.Series, progress: Progress = silent) -> Found:
    """Compare changed clusters of a disk, a row of `Diff.blocks`.

    Raises
    ------
    StoreError
    """
    region, offset, length = f"disk:{row['disk']}", int(row["offset"]), int(row["length"])
    progress(ProgressEvent("reading clusters"))
    wanted = min(length, _MOST_CLUSTERS)
    sides = [_region_bytes(each, region, offset, wanted) for each in (diff.a, diff.b)]
    note = f"the first {wanted:,} of {length:,} bytes" if wanted < length else ""
    facts: list[Fact] = [(name, "", row[name]) for name in ("kind", "volume", "area") if _is_there(row[name])]
    if _is_there(row["path"]) or _is_there(row["path_before"]):
        before, after = (row[name] if _is_there(row[name]) else "" for name in ("path_before", "path"))
        facts.append(("path", before, after))
    heading = f"{length:,} bytes of {row['disk']} at {offset:#x}"
    return Found(heading, note, facts, content=differing(sides[0], sides[1], start=offset))


def _region_bytes(moment: Moment, region: str, offset: int, length: int) -> bytes | None:
    """Return bytes of a region, None where the moment has no such region or it does not reach so far."""
    try:
        return moment.read(region, offset, length)
    except UsageError:
        return None


def _facts(row: pd.Series) -> list[Fact]:
    """Return what is not the same before and after: columns `X_before` beside `X_after` or `X`."""
    found: list[Fact] = []
    for name in (str(each).removesuffix("_before") for each in row.index if str(each).endswith("_before")):
        before, after = row[f"{name}_before"], row[f"{name}_after" if f"{name}_after" in row.index else name]
        one, two = (_shown(name, each) if _is_there(each) else "" for each in (before, after))
        if one != two:
            found.append((name, one, two))
    return found + [(name, "", row[name]) for name in ("source", "state", "note") if _is_there(row[name])]


def _is_there(value: Any) -> bool:
    return (
        value is not None
        and value is not pd.NaT
        and not (pd.api.types.is_scalar(value) and pd.isna(value))
        and value != ""
    )


def _shown(name: str, value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return when(value.value)
    if name == "virtual":
        return f"{int(value):#x}"
    return f"{int(value):04o}" if name == "mode" else inert(value)
