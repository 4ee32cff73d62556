"""A page cache laid over an image: what it adds is seen, and what it lies about is bounded, refused or told."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.disk.moments import Moments
from workbench.disk.mounted import open_disks
from workbench.disk.pagecache import PageCache
from workbench.disk.parts import open_parts
from workbench.disk.questions import files
from workbench.disk.walk import walk_frame

from .images import case_of, run, sparse, view_of

UUID = "11111111-2222-3333-4444-555555555555"
CONTENT = bytes(range(256)) * 40  # 10,240 bytes
FILE = stat.S_IFREG | 0o644
MEMORY = b"M" * 4096 + b"N" * 4096 + b"\0" * 4096 + b"\xff" * 4096
"""Four pages of physical memory, from address 0."""
Row = dict[str, object]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pagecache")
    source = place / "source"
    (source / "etc").mkdir(parents=True)
    (source / "etc" / "fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (source / "file").write_bytes(CONTENT)
    (source / "other").write_bytes(b"other")
    image = sparse(place / "disk", 16 << 20)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-U", UUID, "-d", source, image)
    return image


def read(address: int, length: int) -> bytes:
    assert 0 <= address <= len(MEMORY) - length
    return MEMORY[address : address + length]


def ids(addresses: np.ndarray) -> np.ndarray:
    pages = [MEMORY[int(at) // 4096 * 4096 :][:4096].ljust(32)[:32] for at in addresses]
    return np.frombuffer(b"".join(pages), np.uint8).reshape(-1, 32)


def cache(*rows: Row) -> PageCache:
    usual: Row = {
        "device": "vda", "uuid": UUID, "kind": "ext4", "inode": -1, "size": len(CONTENT), "mode": FILE, "links": 1,
        "offset": 0, "length": 4096, "address": 0, "dirty": True,
    }  # fmt: skip
    return PageCache(pd.DataFrame([usual | row for row in rows]), read, ids)


@pytest.fixture
def under(disk: Path, tmp_path: Path) -> Callable[..., tuple[bytes, pd.DataFrame]]:
    """Return the content of /file and the walk, under a page cache with some rows (`inode` "file" is its own)."""
    view = view_of(tmp_path / "case", vda=disk)
    inode = open_disks(view).find("/file")[2].inode

    def opened(*rows: Row) -> tuple[bytes, pd.DataFrame]:
        told = [{**row, "inode": inode} if row.get("inode") == "file" else row for row in rows]
        part = open_parts(view, tmp_path, cache(*told)).parts[0]
        walk = walk_frame([part]).set_index("path")
        with part.filesystem.open(part.filesystem.lookup("/file").inode) as content:
            return content.read(1 << 20), walk

    return opened


def test_pages_lie_over_the_disk_where_they_are(under) -> None:
    content, walk = under({"inode": "file", "offset": 4096, "address": 4096})
    assert content == CONTENT[:4096] + b"N" * 4096 + CONTENT[8192:]
    assert walk.loc["/file", "source"] == "page cache"
    assert walk.loc["/other", "source"] == "disk"


def test_the_size_is_memorys(under) -> None:
    longer, walk = under({"inode": "file", "size": 20_000, "offset": 12_288, "dirty": False})
    assert longer == CONTENT.ljust(12_288, b"\0") + b"M" * 4096 + bytes(20_000 - 16_384)
    assert (walk.loc["/file", "size"], walk.loc["/file", "source"]) == (20_000, "page cache")
    assert under({"inode": "file", "size": 100})[0] == b"M" * 100


def test_a_clean_page_of_the_same_size_is_read_but_is_no_news(under) -> None:
    content, walk = under({"inode": "file", "dirty": False})
    assert content == b"M" * 4096 + CONTENT[4096:]
    assert walk.loc["/file", "source"] == "disk"


def test_pages_over_each_other_count_once(under) -> None:
    rows = [{"inode": "file", "offset": at, "address": address} for at, address in ((0, 0), (100, 4096), (0, 8192))]
    assert under(*rows)[0] == b"M" * 4096 + CONTENT[4096:]


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": -4096},
        {"offset": 1 << 62},
        {"length": 0},
        {"length": -5},
        {"size": -1},
        {"size": (1 << 63) - 1},
        {"mode": stat.S_IFDIR | 0o755},
        {"links": 0},
        {"kind": "ntfs"},
        {"uuid": UUID.replace("1", "2")},
    ],
    ids=str,
)
def test_what_cannot_be_leaves_the_disk_as_it_is(under, lie: Row) -> None:
    content, walk = under({"inode": "file", **lie})
    assert content == CONTENT
    assert walk.loc["/file", "size"] == len(CONTENT)


def test_a_size_beyond_all_disks_is_read_within_bounds(under) -> None:
    content, walk = under({"inode": "file", "size": 1 << 50})
    assert len(content) <= 8 << 20
    assert content.startswith(b"M" * 4096 + CONTENT[4096:])
    assert walk.loc["/file", "size"] == 1 << 50


def test_metadata_outside_of_the_volume_is_left_out(under) -> None:
    content, walk = under({"offset": 1 << 40}, {"offset": -1}, {"offset": (16 << 20) - 100})
    assert content == CONTENT
    assert set(walk["source"]) == {"disk"}


def test_metadata_that_ruins_the_file_system_is_told_and_the_disk_read_alone(disk: Path, tmp_path: Path) -> None:
    opened = open_parts(view_of(tmp_path / "case", vda=disk), tmp_path, cache({"address": 12_288}))
    part = opened.parts[0]
    with part.filesystem.open(part.filesystem.lookup("/file").inode) as content:
        assert content.read() == CONTENT
    assert any("the page cache cannot be laid over it" in each for each in opened.findings)


def test_of_two_systems_with_one_uuid_the_one_named_like_the_volume_counts() -> None:
    rows = [{"inode": 5, "device": name, "address": at} for name, at in (("vda", 0), ("sdb", 4096))]
    held = cache(*rows).of("vda", "ext4", UUID)
    assert held is not None
    assert held.files[5].address.tolist() == [0]
    assert cache(*rows).of("vdz", "ext4", UUID) is None  # which of them cannot be told
    assert cache(rows[1]).of("vda", "ext4", UUID) is not None  # the guest calls its disk otherwise


def test_a_change_in_memory_alone_is_found_fast_and_deep_alike(disk: Path, tmp_path: Path) -> None:
    store, captures = case_of(tmp_path / "case", [{"vda": disk}] * 3)
    inode = open_disks(store.view(captures[0])).find("/file")[2].inode
    caches = dict(
        zip(
            captures,
            [
                cache({"inode": inode, "dirty": False}),
                cache({"inode": inode, "address": 4096}),
                cache({"inode": inode, "address": 4096}),
            ],
            strict=True,
        )
    )
    moments = Moments(store, memory=caches.__getitem__)
    for deep in (False, True):
        found = files(moments, captures[1], captures[0], deep=deep)
        assert found[["path", "change", "source"]].to_numpy().tolist() == [["/file", "modified", "page cache"]]
        assert files(moments, captures[2], captures[1], deep=deep).empty


def test_a_page_that_only_one_moment_holds_is_no_change_if_the_disk_has_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(MEMORY[:4096])
    image = sparse(tmp_path / "disk", 16 << 20)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-U", UUID, "-d", source, image)
    store, captures = case_of(tmp_path / "case", [{"vda": image}] * 2)
    inode = open_disks(store.view(captures[0])).find("/vda/file")[2].inode
    row: Row = {"inode": inode, "size": 4096, "dirty": False}
    caches = dict(zip(captures, [cache(row), cache({**row, "inode": 999})], strict=True))
    moments = Moments(store, memory=caches.__getitem__)
    for deep in (False, True):
        assert files(moments, captures[1], captures[0], deep=deep).empty
