"""Files that a guest wrote and its disk does not have yet, read from the moment, against what the guest says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.case import Moment
from workbench.errors import DiskError, UsageError
from workbench.memory.cached import cached_of
from workbench.memory.owning.filesystems import read_super_blocks
from workbench.memory.owning.structpages import read_struct_pages
from workbench.model import PAGE

from .conftest import Lying, Unsynced

EXTRA = "/mnt/data1/"


def shown(path: str) -> str:
    """Return where a path of the guest is shown: its second disk is in no fstab."""
    return path.replace(EXTRA, "/vdb/")


def digest(moment: Moment, path: str) -> str:
    with moment.open(shown(path)) as file:
        return hashlib.sha256(file.read()).hexdigest()


def test_files_are_read_as_the_guest_read_them(unsynced: Unsynced) -> None:
    moment = unsynced.case.moment("written")
    assert len(unsynced.sha256) == 6
    assert {path: digest(moment, path) for path in unsynced.sha256} == unsynced.sha256
    assert moment.read_text("/srv/appended").endswith("third line\n")
    assert "/srv/gone" not in moment.ls("/srv")["path"].tolist()
    walk = moment.walk().set_index("path")
    newer = [shown(path) for path in unsynced.sha256 if path != "/srv/to"]
    assert set(walk.loc[newer, "source"]) == {"page cache"}
    assert walk.loc["/srv/kept", "source"] == "disk"


def test_the_disk_can_be_read_alone(unsynced: Unsynced) -> None:
    moment = unsynced.case.moment("written")
    assert moment.read_text("/srv/appended", source="disk") == "first line\nsecond line\n"
    assert "CHANGED" not in moment.read_text("/srv/overwritten", source="disk")
    assert "page cache" not in set(moment.walk(source="disk")["source"])
    with pytest.raises(UsageError, match="no source"):
        moment.ls("/srv", source="tape")  # type: ignore[arg-type]


def test_a_change_in_memory_alone_is_found_fast_and_deep_alike(unsynced: Unsynced) -> None:
    diff = unsynced.case.diff("synced", "written")
    found = diff.files()
    changes = dict(zip(found["path"], zip(found["change"], found["source"], strict=True), strict=True))
    assert changes["/srv/appended"] == changes["/srv/overwritten"] == ("modified", "page cache")
    assert changes["/srv/new"] == changes["/srv/folder/deep"] == ("created", "page cache")
    assert changes["/srv/to"] == ("renamed", "page cache")
    assert changes["/srv/gone"][0] == "deleted"
    assert changes["/vdb/overwritten"] == ("modified", "page cache")
    assert "/srv/kept" not in changes
    pd.testing.assert_frame_equal(found, diff.files(deep=True), check_like=True)
    told = found.set_index("path")["sha256_after"]
    assert told["/srv/folder/deep"] == unsynced.sha256["/srv/folder/deep"]
    assert found.attrs.get("alone", {}) == {}
    assert "+third line" in diff.text("/srv/appended")
    assert not {"/srv/appended", "/srv/overwritten"} & set(diff.files(source="disk")["path"])


def test_what_reaches_the_disk_later_is_no_further_change(unsynced: Unsynced) -> None:
    diff = unsynced.case.diff("written", "settled")
    assert not {shown(path) for path in unsynced.sha256} & set(diff.files()["path"])
    pd.testing.assert_frame_equal(diff.files(), diff.files(deep=True), check_like=True)
    assert diff.text("/srv/appended") == ""


def test_history_begins_where_the_guest_wrote(unsynced: Unsynced) -> None:
    written, settled = (unsynced.case.moment(name).id for name in ("written", "settled"))
    versions = unsynced.case.history("/srv/appended")
    assert versions["size"].tolist() == [23, 34]
    assert versions["first_capture"].iloc[1] == written
    assert unsynced.case.history("/srv/appended", source="disk")["first_capture"].iloc[1] == settled
    assert unsynced.case.history("/srv/new")["present"].tolist() == [False, True]


def test_files_are_taken_out_with_what_memory_has(unsynced: Unsynced, tmp_path: Path) -> None:
    manifest = unsynced.case.moment("written").extract("/srv", tmp_path / "out").set_index("path")
    for path in ("/srv/appended", "/srv/folder/deep", "/srv/new"):
        assert manifest.loc[path, "sha256"] == unsynced.sha256[path]
    with pytest.raises(DiskError, match="no such file"):
        unsynced.case.moment("written").extract("/srv/gone", tmp_path / "gone")


# Memory that lies, planted in a copy.


@pytest.mark.parametrize("size", [(1 << 64) - 1, 1 << 63, (1 << 62) + 1])
def test_a_size_that_cannot_be_is_the_disks(lying: Lying, size: int) -> None:
    number = int(lying.case.moment("synced").stat("/srv/overwritten")["inode"].iloc[0])
    at = lying.inode(number) + lying.kernel.structures.offset("inode", "i_size")
    assert lying.plant(lying.word(at, size)).stat("/srv/overwritten")["size"].iloc[0] == 20000


def test_a_page_that_says_it_is_far_outside_is_not_taken(lying: Lying) -> None:
    rows = cached_of(lying.kernel)
    number = int(lying.case.moment("synced").stat("/srv/overwritten")["inode"].iloc[0])
    mine = rows[(rows["device"] == "vda") & (rows["inode"] == number) & (rows["offset"] == 4096)]
    base, size = lying.kernel.structures.symbol("vmemmap_base"), lying.kernel.structures.size("page")
    assert base is not None
    page = lying.kernel.word(base) + int(mine["address"].iloc[0]) // PAGE * size
    moment = lying.plant(lying.word(page + lying.kernel.structures.offset("page", "index"), 1 << 62))
    with moment.open("/srv/overwritten") as file:
        content = file.read()
    assert len(content) == 20000
    assert content[4096:8192] == (b"0123456789\n" * 2000)[4096:8192]  # the first half of the change is lost with it
    assert content[8192:8197] == b"ANGED"


@pytest.mark.parametrize("link", [0, 1 << 40])
def test_a_list_of_file_systems_that_breaks_off_leaves_the_disk_alone(lying: Lying, link: int) -> None:
    head = lying.kernel.structures.symbol("super_blocks")
    assert head is not None
    moment = lying.plant(lying.word(head, link))
    assert moment.read_text("/srv/appended") == moment.read_text("/srv/appended", source="disk")
    assert "breaks off" in moment.vol("workbench.cached").attrs["error"]


def test_a_list_of_file_systems_in_a_loop_ends(lying: Lying) -> None:
    first = read_super_blocks(lying.kernel)[0][0].address + lying.kernel.structures.offset("super_block", "s_list")
    moment = lying.plant(lying.word(first, first))
    assert "breaks off" in moment.vol("workbench.cached").attrs["error"]


def test_rings_of_buffers_without_an_end_are_followed_for_a_page(lying: Lying) -> None:
    struct = read_struct_pages(lying.kernel, lying.kernel.frames.numbers)
    rows = np.flatnonzero(struct.private)
    first = struct.private[rows]
    following = lying.kernel.virtual.words(
        first + np.uint64(lying.kernel.structures.offset("buffer_head", "b_this_page"))
    )
    loop = int(following[0])
    at = loop + lying.kernel.structures.offset("buffer_head", "b_this_page")
    moment = lying.plant(lying.word(at, loop))
    assert len(moment.vol("workbench.cached")) <= len(lying.case.moment("written").vol("workbench.cached")) + 8
