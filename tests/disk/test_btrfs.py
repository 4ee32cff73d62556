"""btrfs through the optional extra: what mkfs.btrfs put there is read; without the library, a refusal with its cure."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from workbench.disk.btrfs import can_read
from workbench.disk.filesystem import FileSystem
from workbench.disk.moments import Moments
from workbench.disk.mounted import open_disks
from workbench.disk.opening import can_open, open_filesystem
from workbench.disk.questions import files
from workbench.errors import DiskError, UnsupportedError

from . import images
from .images import run

SIZE = 128 << 20
BIG = b"0123456789abcdef" * 40_000
WEIRD = "caf\udce9"
"""A name that is not UTF-8."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("btrfs") / "source"
    (source / "etc").mkdir(parents=True)
    (source / "etc" / "small").write_bytes(b"kept in the tree\n")
    (source / "big").write_bytes(BIG)
    (source / WEIRD).write_bytes(b"odd")
    (source / "link").symlink_to("etc/small")
    os.link(source / "big", source / "second")
    with (source / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    for number in range(400):
        (source / "etc" / f"n{number:05}").touch()
    os.utime(source / "big", ns=(1, 1_600_000_000 * 10**9))
    return source


@pytest.fixture(scope="module")
def image(tree: Path) -> Path:
    file = images.sparse(tree.parent / "disk", SIZE)
    run("mkfs.btrfs", "-q", "-L", "data", "-U", "11111111-2222-3333-4444-555555555555", "--rootdir", tree, file)
    return file


@pytest.fixture(scope="module")
def system(image: Path, tmp_path_factory: pytest.TempPathFactory) -> FileSystem:
    return open_filesystem(images.volume_of(tmp_path_factory.mktemp("case") / "case", image))


def content(system: FileSystem, path: str) -> bytes:
    return system.open(system.lookup(path).inode).readall() or b""


def test_says_what_it_is(system: FileSystem) -> None:
    assert (system.kind, system.label, system.state) == ("btrfs", "data", "clean")
    assert system.uuid == "11111111-2222-3333-4444-555555555555"
    assert can_read()
    assert can_open("btrfs")


def test_every_name_is_walked_once(system: FileSystem, tree: Path) -> None:
    found = [entry.path for entry in system.walk()]
    assert len(found) == len(set(found))
    real = {
        "/" + os.path.relpath(Path(above) / name, tree) for above, *both in os.walk(tree) for n in both for name in n
    }
    assert set(found) == {"/"} | real
    assert system.damage() == []


def test_contents_are_those_put_there(system: FileSystem) -> None:
    assert content(system, "/etc/small") == b"kept in the tree\n"
    assert content(system, "/big") == BIG
    assert content(system, "/second") == BIG
    assert content(system, "/sparse") == bytes(1 << 20) + b"end"
    assert content(system, f"/{WEIRD}") == b"odd"
    assert content(system, "/etc/n00000") == b""
    with system.open(system.lookup("/big").inode) as file:
        file.seek(300_001)
        assert file.read(7) == BIG[300_001:300_008]


def test_metadata_is_that_put_there(system: FileSystem, tree: Path) -> None:
    entry, told = system.lookup("/big"), (tree / "big").stat()
    assert (entry.kind, entry.size, entry.uid) == ("file", len(BIG), told.st_uid)
    assert entry.mode == told.st_mode & 0o7777
    assert entry.modified_ns == 1_600_000_000 * 10**9
    assert system.lookup("/link").target == "etc/small"
    assert system.lookup("/second").inode == entry.inode
    assert len(list(system.children("/etc"))) == 401
    with pytest.raises(DiskError, match="no such file"):
        system.lookup("/no/such")


def test_what_cannot_be_told_is_refused(system: FileSystem) -> None:
    for question in (system.deleted, system.unallocated, lambda: system.extents(system.lookup("/big").inode)):
        with pytest.raises(UnsupportedError):
            list(question())


def test_a_moment_shows_it_and_its_changes(image: Path, tree: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed.write_bytes(image.read_bytes().replace(b"kept in the tree\n", b"kept in the TREE\n"))
    store, captures = images.case_of(tmp_path / "case", [{"vda": image}, {"vda": changed}])
    assert open_disks(store.view(captures[0])).find("/vda/etc/small")[2].size == 17
    for deep in (False, True):
        found = files(Moments(store), captures[1], captures[0], deep=deep)
        assert found[["path", "change"]].to_numpy().tolist() == [["/vda/etc/small", "modified"]]
    assert found["sha256_after"].iloc[0] == hashlib.sha256(b"kept in the TREE\n").hexdigest()


@pytest.mark.parametrize("seed", range(4))
def test_bytes_flipped_in_its_trees_end_in_a_partial_answer_or_an_error(image: Path, tmp_path: Path, seed: int) -> None:
    data = bytearray(image.read_bytes())
    places = [at for at in range(0x10000, 48 << 20, 512) if any(data[at : at + 512])]
    for step in range(40):
        at = places[(seed * 7919 + step * 104_729) % len(places)] + (step * 37 + seed) % 512
        data[at] ^= 0xFF
    broken = tmp_path / "broken"
    broken.write_bytes(data)
    try:
        system = open_filesystem(images.volume_of(tmp_path / "case", broken))
        for count, entry in enumerate(system.walk()):
            assert count < 100_000
            if entry.kind == "file" and entry.size < 1 << 24:
                try:
                    system.open(entry.inode).read(1 << 20)
                except DiskError:
                    continue
    except (DiskError, UnsupportedError):
        return


def test_without_the_library_the_cure_is_named(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dissect.btrfs", None)
    assert not can_open("btrfs")
    view = images.view_of(tmp_path / "case", vda=image)
    with pytest.raises(UnsupportedError, match=r"rewind-workbench\[btrfs\]"):
        open_filesystem(images.volume_of(tmp_path / "other", image))
    disks = open_disks(view)
    assert disks.mounted == ()
    assert "rewind-workbench[btrfs]" in disks.findings[0].words
