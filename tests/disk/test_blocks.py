"""Which bytes of the disks changed and whose they are: planted in places that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.disk.blocks import changed_blocks
from workbench.disk.moments import Moments
from workbench.disk.pieces import clipped, differing, joined
from workbench.model import CLUSTER

from .editing import Disk, moments_of, new_disk
from .images import case_of, run, sparse

MB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    source = tmp_path / "source"
    (source / "etc").mkdir(parents=True)
    (source / "one").write_bytes(b"1" * 300_000)
    (source / "two").write_bytes(b"2" * 5000)
    return new_disk(tmp_path, source, size=32 * MB)


def poke(disk: Disk, offset: int, content: bytes) -> None:
    with disk.path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def blocks(folder: Path, *files: Path) -> pd.DataFrame:
    moments, captures = moments_of(folder, files)
    return changed_blocks(moments, *captures)


def test_nothing_changed_is_no_row(tmp_path: Path, disk: Disk) -> None:
    frame = blocks(tmp_path, disk.copy("a"), disk.copy("b"))
    assert frame.empty
    assert list(frame.columns) == ["disk", "offset", "length", "kind", "volume", "path", "path_before", "area"]


def test_two_files_in_one_cluster_are_told_apart(tmp_path: Path, disk: Disk) -> None:
    before, content = disk.copy("a"), disk.path.read_bytes()
    one, two = content.index(b"1" * 100_000), content.index(b"2" * 5000)
    poke(disk, one + 4096, b"x" * 1024)
    poke(disk, two, bytes(4096))
    frame = blocks(tmp_path, before, disk.copy("b"))
    rows = {row.path: row for row in frame.itertuples()}
    assert set(rows) == {"/one", "/two"}
    assert (rows["/one"].offset, rows["/one"].length, rows["/one"].kind) == (one + 4096, 1024, "written")
    assert (rows["/two"].offset, rows["/two"].length, rows["/two"].kind) == (two, 4096, "zeroed")
    assert set(frame["area"]) == {"file"}
    assert set(frame["volume"]) == {"vda"}


def test_areas_of_a_file_system(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    journal = int(run("debugfs", "-R", "bmap <8> 5", disk.path).split()[-1]) * 4096
    root = int(run("debugfs", "-R", "bmap / 0", disk.path).split()[-1]) * 4096
    poke(disk, journal, b"log")
    poke(disk, 30 * MB, b"hidden")
    poke(disk, root + 4000, b"\1")
    poke(disk, 1024 + 0x78, b"label")
    frame = blocks(tmp_path, before, disk.copy("b"))
    told = {(row.offset, row.area, row.path) for row in frame.itertuples()}
    assert told == {
        (1024, "metadata", ""),
        (root + 3584, "directory", "/"),
        (journal, "journal", ""),
        (30 * MB, "unallocated", ""),
    }


def test_what_a_deleted_file_had_keeps_its_name(tmp_path: Path, disk: Disk) -> None:
    before, place = disk.copy("a"), disk.path.read_bytes().index(b"1" * 100_000)
    disk.do("rm /one")
    disk.apply()
    poke(disk, place, bytes(8192))
    frame = blocks(tmp_path, before, disk.copy("b"))
    row = frame[frame["offset"] == place].iloc[0]
    assert (row["path"], row["path_before"], row["area"], row["kind"]) == ("/one", "/one", "unallocated", "zeroed")


def test_partition_table_and_what_lies_outside_of_volumes(tmp_path: Path, disk: Disk) -> None:
    whole = sparse(tmp_path / "whole", 40 * MB)
    run("sgdisk", "-n", "1:2048:67583", whole)
    with whole.open("r+b") as file:
        file.seek(MB)
        file.write(disk.path.read_bytes())
    before = tmp_path / "before"
    before.write_bytes(whole.read_bytes())
    place = MB + disk.path.read_bytes().index(b"1" * 100_000)
    with whole.open("r+b") as file:
        for offset, content in ((100, b"boot"), (place, b"file"), (35 * MB, b"outside")):
            file.seek(offset)
            file.write(content)
    store, captures = case_of(tmp_path / "case", [{"vda": before}, {"vda": whole}])
    frame = changed_blocks(Moments(store), *captures)
    told = [(row.offset, row.area, row.volume, Path(row.path).name) for row in frame.itertuples()]
    assert told == [
        (0, "partition table", "", ""),
        (place, "file", "vda1", "one"),
        (35 * MB, "unknown", "", ""),
    ]


def test_a_disk_that_came_is_all_written(tmp_path: Path, disk: Disk) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(CLUSTER) + b"something" + bytes(2 * CLUSTER))
    store, captures = case_of(tmp_path / "case", [{"vda": disk.copy("a")}, {"vda": disk.copy("b"), "vdb": other}])
    frame = changed_blocks(Moments(store), *captures)
    assert set(frame["disk"]) == {"vdb"}
    assert frame["offset"].tolist()[0] == CLUSTER


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)), max_size=20), st.integers(0, 200), st.integers(0, 60)
)
def test_ranges_are_joined_and_clipped_as_sets(pairs: list[tuple[int, int]], begin: int, length: int) -> None:
    ranges = np.array(pairs, np.int64).reshape(-1, 2)
    whole = {at for start, size in pairs for at in range(start, start + size)}
    one = joined(ranges)
    assert {at for start, size in one.tolist() for at in range(start, start + size)} == whole
    assert all(first[0] + first[1] < second[0] for first, second in zip(one.tolist(), one.tolist()[1:], strict=False))
    part = clipped(one, begin, begin + length)
    assert {at for start, size in part.tolist() for at in range(start, start + size)} == {
        at for at in whole if begin <= at < begin + length
    }


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(512 * 20, 512 * 41))
def test_differing_sectors_are_found_to_the_sector(sectors: list[int], size: int) -> None:
    one, two = bytes(size), bytearray(size)
    for sector in sectors:
        if sector * 512 + 5 < size:
            two[sector * 512 + 5] = 1
    found = differing(lambda at, n: one[at : at + n], lambda at, n: bytes(two[at : at + n]), np.array([[0, 512 * 41]]))
    told = {sector for at, length in found.tolist() for sector in range(at // 512, -(-(at + length) // 512))}
    assert told == {sector for sector in sectors if sector * 512 + 5 < size}
    assert all(at + length <= size for at, length in found.tolist())
