"""The walk of a moment: every entry with the metadata that was planted, a function of the capture alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.disk.extentmap import DATA, ELSEWHERE, FREE, HOLE, JOURNAL, RESIDENT, ExtentMap, extent_frame
from workbench.disk.inodes import inode_table
from workbench.disk.moments import Moments
from workbench.disk.walk import walk_frame
from workbench.errors import DiskError

from .editing import moments_of, new_disk, sha
from .images import TIME_NS, tree


@pytest.fixture
def opened(tmp_path: Path):
    (tmp_path / "tree").mkdir()
    disk = new_disk(tmp_path, tree(tmp_path / "tree"), size=32 << 20)
    disk.do("sif /a.txt generation 4711")
    disk.apply()
    moments, captures = moments_of(tmp_path, [disk.copy("a")])
    return moments, captures[0]


def row(frame: pd.DataFrame, path: str) -> pd.Series:
    return frame[frame["path"] == path].iloc[0]


def test_every_entry_with_its_metadata(opened, tmp_path: Path) -> None:
    moments, capture = opened
    frame = moments.walk(capture)
    there = {"/" + os.path.relpath(os.path.join(at, name), tmp_path / "tree")
             for at, folders, files in os.walk(tmp_path / "tree") for name in folders + files}  # fmt: skip
    assert set(frame["path"]) == there | {"/", "/lost+found"}
    one = row(frame, "/a.txt")
    assert (one["kind"], one["size"], one["mode"], one["links"], one["generation"]) == ("file", 20, 0o640, 2, 4711)
    assert one["modified"] == pd.Timestamp(TIME_NS + 5 * 10**9, unit="ns", tz="UTC")
    assert one["inode"] == row(frame, "/etc/b.txt")["inode"]
    assert row(frame, "/to_a")["target"] == "a.txt"
    assert row(frame, "/far")["target"] == "x/" * 60
    assert row(frame, "/" + os.fsdecode(b"odd\xff\xfe"))["size"] == 3
    assert set(frame["state"]) == {"clean"}
    assert set(frame["source"]) == {"disk"}
    assert str(frame["modified"].dtype) == "datetime64[ns, UTC]"
    assert frame.attrs["damage"] == []


def test_directories_come_before_what_is_in_them(opened) -> None:
    paths = opened[0].walk(opened[1])["path"].tolist()
    assert all(paths.index(path.rpartition("/")[0] or "/") < at for at, path in enumerate(paths) if at)


def test_the_same_capture_gives_the_same_frame(opened) -> None:
    moments, capture = opened
    again = Moments(moments.store, moments._opener)
    pd.testing.assert_frame_equal(again.walk(capture), moments.walk(capture))
    pd.testing.assert_frame_equal(again.extents(capture), moments.extents(capture))


def test_a_walk_that_is_cut_off_says_so(opened) -> None:
    moments, capture = opened
    frame = walk_frame(moments.parts(capture), most=5)
    assert len(frame) == 5
    assert frame.attrs["damage"] == ["vda: more than 5 entries; the rest is left out"]


def test_a_walk_that_breaks_off_keeps_what_it_has(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    moments, capture = opened
    part = moments.parts(capture)[0]
    entries = list(part.filesystem.walk())

    def broken():
        yield from entries[:3]
        raise DiskError("the tree ends here")

    monkeypatch.setattr(part.filesystem, "walk", broken)
    frame = walk_frame([part])
    assert frame.attrs["damage"] == ["vda: the walk broke off: the tree ends here"]


def test_times_that_no_clock_has(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    moments, capture = opened
    part = moments.parts(capture)[0]
    entries = [replace(entry, modified_ns=1 << 80) for entry in part.filesystem.walk()]
    monkeypatch.setattr(part.filesystem, "walk", lambda: iter(entries))
    frame = walk_frame([part])
    assert frame["modified"].isna().all()
    assert frame.attrs["damage"] == [f"vda: {len(entries)} entries whose time 'modified' cannot be told"]


def test_no_disk_is_an_empty_walk() -> None:
    assert walk_frame([]).empty


def test_extents_hold_the_content(opened, tmp_path: Path) -> None:
    moments, capture = opened
    walk, extents, part = moments.walk(capture), moments.extents(capture), moments.parts(capture)[0]
    mine = extents[extents["inode"] == row(walk, "/big")["inode"]]
    found = b"".join(part.raw.read(at, size) for at, size in zip(mine["offset"], mine["length"], strict=True))
    assert found[: 3 << 20] == (tmp_path / "tree" / "big").read_bytes()
    holes = extents[extents["inode"] == row(walk, "/holes")["inode"]]
    assert set(holes["kind"]) == {DATA, HOLE}
    inside = extents[extents["inode"] == row(walk, "/a.txt")["inode"]].iloc[0]
    assert (inside["kind"], inside["digest"]) == (RESIDENT, sha(b"nothing to see here\n"))
    assert JOURNAL in set(extents["kind"])
    free = extents[extents["kind"] == FREE]["length"].sum()
    assert 10 << 20 < free < 32 << 20


def test_content_that_lies_nobody_knows_where_is_elsewhere(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    moments, capture = opened
    part, walk = moments.parts(capture)[0], moments.walk(capture)

    def broken(inode: int):
        raise DiskError("no")

    monkeypatch.setattr(part.filesystem, "extents", broken)
    found = ExtentMap(extent_frame([part], walk), "vda")
    assert ELSEWHERE in set(found.kind)
    assert row(walk, "/big")["inode"] in found.elsewhere()


def test_extents_that_overlap_are_all_found() -> None:
    rng = np.random.default_rng(3)
    start, length = rng.integers(0, 1000, 200), rng.integers(1, 80, 200)
    frame = pd.DataFrame({"volume": "v", "kind": np.int8(DATA), "inode": np.arange(200), "file_offset": 0,
                          "offset": start, "length": length, "digest": ""})  # fmt: skip
    extents = ExtentMap(frame, "v")
    begin, end = rng.integers(0, 1100, 50), rng.integers(1, 60, 50)
    ranges, rows = extents.touching(begin, begin + end)
    found = {(at, inode) for at, inode in zip(ranges.tolist(), extents.owners(rows).tolist(), strict=True)}
    assert found == {
        (at, inode)
        for at in range(50)
        for inode in range(200)
        if start[inode] < begin[at] + end[at] and begin[at] < start[inode] + length[inode]
    }


def test_inode_records_lie_where_debugfs_finds_them(opened) -> None:
    moments, capture = opened
    table = inode_table(moments.parts(capture)[0])
    assert table is not None
    walk = moments.walk(capture)
    inode = int(row(walk, "/a.txt")["inode"])
    assert table.record(inode)[0x64:0x68] == (4711).to_bytes(4, "little")
    assert inode in set(table.within(table.place(inode) + 10, 1))
    assert table.place(1 << 40) == -1
    assert table.record(0) == b""
