"""File systems as their readers give them: what mkfs put there is what is read, and what cannot be is said."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import time
from pathlib import Path

import pytest

from workbench.disk import tsk
from workbench.disk.filesystem import Entry, FileSystem
from workbench.disk.image import Slice
from workbench.disk.opening import open_filesystem
from workbench.errors import DamagedError, DiskError, UnsupportedError

from . import images
from .images import BIG, TEXT, TIME_NS, run


def content(system: FileSystem, path: str) -> bytes:
    return system.open(system.lookup(path).inode).readall() or b""


def by_path(system: FileSystem) -> dict[str, Entry]:
    entries = list(system.walk())
    found = {entry.path: entry for entry in entries}
    assert len(found) == len(entries), "every name once"
    for at, entry in enumerate(entries):
        above = entry.path.rpartition("/")[0] or "/"
        assert entry.path == "/" or above in {each.path for each in entries[:at]}, "directories first"
    return found


def by_extents(volume: Slice, system: FileSystem, path: str) -> bytes:
    """A file put together out of the disk itself."""
    out = bytearray(system.lookup(path).size)
    for extent in system.extents(system.lookup(path).inode):
        if extent.offset >= 0:
            data = volume.under.read(extent.offset, extent.length)
            out[extent.file_offset : extent.file_offset + extent.length] = data
    return bytes(out)


@pytest.fixture(scope="module", params=["ext2", "ext3", "ext4", "ext4-1k"])
def ext(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Slice]:
    kind, _, extra = request.param.partition("-")
    options = {"": ["-b", "4096"], "1k": ["-b", "1024"]}[extra]
    place = tmp_path_factory.mktemp("ext")
    file = images.ext(place / "disk", source, kind, *options, "-U", "11111111-2222-3333-4444-555555555555")
    return kind, images.volume_of(place / "case", file)


class TestExt:
    def test_says_what_it_is(self, ext: tuple[str, Slice]) -> None:
        system = open_filesystem(ext[1])
        assert (system.kind, system.label, system.state) == (ext[0], "data", "clean")
        assert system.uuid == "11111111-2222-3333-4444-555555555555"
        assert system.cluster in (1024, 4096)

    def test_every_name_is_found_with_its_metadata(self, ext: tuple[str, Slice], source: Path) -> None:
        found = by_path(open_filesystem(ext[1]))
        names = {os.fsdecode(os.path.join(at, name)) for at, dirs, files in os.walk(source) for name in dirs + files}
        paths = {"/" + os.path.relpath(name, source) for name in names}
        assert set(found) == paths | {"/", "/lost+found"}
        for path in paths:
            told = os.lstat(source / path[1:])
            assert (found[path].mode, found[path].uid) == (told.st_mode & 0o7777, told.st_uid)
            assert found[path].size == told.st_size or found[path].kind == "directory"
            assert (found[path].modified_ns or 0) // 10**9 == told.st_mtime_ns // 10**9
        assert found["/a.txt"].modified_ns == TIME_NS + 5 * 10**9

    def test_kinds_links_and_odd_names(self, ext: tuple[str, Slice]) -> None:
        found = by_path(open_filesystem(ext[1]))
        assert found["/a.txt"].inode == found["/etc/b.txt"].inode
        assert found["/a.txt"].links == 2
        assert found["/pipe"].kind == "fifo"
        assert (found["/to_a"].kind, found["/to_a"].target) == ("link", "a.txt")
        assert found["/far"].target == "x/" * 60, "a target too long for the inode"
        assert found["/loop"].target == "loop"
        assert found["/odd\udcff\udcfe"].size == 3

    def test_content_and_where_it_lies(self, ext: tuple[str, Slice], source: Path) -> None:
        system = open_filesystem(ext[1])
        for name in ("a.txt", "big", "holes", "etc/b.txt", "odd\udcff\udcfe"):
            expected = (source / name).read_bytes()
            assert content(system, f"/{name}") == expected
            assert by_extents(ext[1], system, f"/{name}") == expected
        assert any(extent.offset < 0 for extent in system.extents(system.lookup("/holes").inode))
        assert list(system.extents(system.lookup("/to_a").inode)) == [], "it lies in the inode"

    def test_seeking_reads_the_same(self, ext: tuple[str, Slice]) -> None:
        system = open_filesystem(ext[1])
        with system.open(system.lookup("/big").inode) as file:
            file.seek(12345)
            assert file.read(777) == BIG[12345 : 12345 + 777]
            assert file.seek(-5, os.SEEK_END) == len(BIG) - 5
            assert file.read(100) == BIG[-5:]
            assert file.read(1) == b""

    def test_children_and_what_is_not_there(self, ext: tuple[str, Slice]) -> None:
        system = open_filesystem(ext[1])
        assert {entry.path for entry in system.children("/etc")} == {"/etc/b.txt", "/etc/deep", "/etc/up"}
        for path in ("/nothing", "/a.txt/below", "/loop/x"):
            with pytest.raises(DiskError, match="no such file"):
                system.lookup(path)
        with pytest.raises(DiskError, match="not a directory"):
            list(system.children("/a.txt"))
        with pytest.raises(DiskError, match="has content"):
            system.open(system.lookup("/etc").inode)
        for inode in (0, 1 << 40, -1):
            with pytest.raises(DiskError):
                system.open(inode)

    def test_free_space_is_what_no_file_uses(self, ext: tuple[str, Slice]) -> None:
        system = open_filesystem(ext[1])
        runs = [(extent.offset, extent.offset + extent.length) for extent in system.unallocated()]
        assert runs == sorted(runs)
        used = [
            (extent.offset, extent.offset + extent.length)
            for entry in system.walk()
            for extent in system.extents(entry.inode)
            if extent.offset >= 0
        ]
        assert not [(a, b) for a in runs for b in used if a[0] < b[1] and b[0] < a[1]]
        blocks = [line for line in _dumpe2fs(ext[1]).splitlines() if line.startswith("Free blocks")]
        size = system.cluster
        assert sum(end - start for start, end in runs) // size == int(blocks[0].split()[-1])


def _dumpe2fs(volume: Slice) -> str:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(volume.read(0, volume.size))
        file.flush()
        return run("dumpe2fs", "-h", file.name).decode()


class TestExtInTheLarge:
    def test_a_hundred_thousand_files_in_one_directory(self, tmp_path: Path) -> None:
        file = images.crowded(tmp_path / "disk", 100_000)
        system = open_filesystem(images.volume_of(tmp_path / "case", file))
        assert sum(1 for entry in system.walk() if entry.path.startswith("/many/")) == 100_000
        assert system.lookup("/many/099999").size == len(TEXT)
        assert system.lookup("/many/077777").inode == system.lookup("/one").inode
        assert system.damage() == []

    def test_a_file_over_four_gigabytes(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        with (tmp_path / "tree" / "huge").open("wb") as file:
            file.seek(5 << 30)
            file.write(b"the end")
        disk = images.ext(tmp_path / "disk", tmp_path / "tree", size=8 << 30)
        system = open_filesystem(images.volume_of(tmp_path / "case", disk))
        entry = system.lookup("/huge")
        assert entry.size == (5 << 30) + 7
        with system.open(entry.inode) as content:
            content.seek(5 << 30)
            assert content.read(100) == b"the end"
            content.seek((4 << 30) - 3)
            assert content.read(6) == bytes(6)
        holes = sum(extent.length for extent in system.extents(entry.inode) if extent.offset < 0)
        assert holes == 5 << 30

    def test_many_levels_of_directories(self, tmp_path: Path) -> None:
        (tmp_path / "tree" / "/".join("d" * 300)).mkdir(parents=True)
        file = images.ext(tmp_path / "disk", tmp_path / "tree")
        system = open_filesystem(images.volume_of(tmp_path / "case", file))
        assert max(entry.path.count("/") for entry in system.walk()) == 300
        assert system.damage() == []


def test_ext4_with_bigalloc_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    file = images.ext(tmp_path / "disk", source, "ext4", "-O", "bigalloc", "-b", "4096")
    with pytest.raises(UnsupportedError, match="bigalloc"):
        open_filesystem(images.volume_of(tmp_path / "case", file))


class TestExtDamaged:
    def test_a_copy_of_the_superblock_is_read_where_the_first_is_damaged(self, source: Path, tmp_path: Path) -> None:
        file = images.ext(tmp_path / "disk", source, "ext4", "-b", "1024")
        with file.open("r+b") as disk:
            disk.seek(1024)
            disk.write(bytes(1024))
        system = open_filesystem(images.volume_of(tmp_path / "case", file))
        assert content(system, "/a.txt") == TEXT
        assert system.damage() == ["the superblock is damaged; its copy at byte 8389632 is read instead"]

    def test_a_directory_that_cannot_be_read_is_counted(self, source: Path, tmp_path: Path) -> None:
        file = images.ext(tmp_path / "disk", source, "ext4", "-b", "1024", "-O", "^metadata_csum")
        run("debugfs", "-w", "-R", "sif /etc/deep block[0] 0", file)
        run("debugfs", "-w", "-R", "sif /etc/deep flags 0x80000", file)
        system = open_filesystem(images.volume_of(tmp_path / "case", file))
        found = by_path(system)
        assert "/etc/deep" in found
        assert "/etc/deep/er" not in found
        assert [line for line in system.damage() if "/etc/deep" in line]

    def test_directories_that_hold_each_other_end(self, source: Path, tmp_path: Path) -> None:
        file = images.ext(tmp_path / "disk", source, "ext4", "-O", "^metadata_csum")
        run("debugfs", "-w", "-R", "ln <2> /etc/deep/er/top", file)
        run("debugfs", "-w", "-R", "ln /etc /etc/deep/er/again", file)
        system = open_filesystem(images.volume_of(tmp_path / "case", file))
        found = [entry.path for entry in system.walk()]
        assert {"/etc/deep/er/top", "/etc/deep/er/again"} <= set(found)
        assert len(found) < 40

    def test_damage_of_the_case_is_not_taken_for_the_guests(self, source: Path, tmp_path: Path) -> None:
        file = images.ext(tmp_path / "disk", source)
        volume = images.volume_of(tmp_path / "case", file)
        for pack in (tmp_path / "case").glob("packs/*/*.pack"):
            data = bytearray(pack.read_bytes())
            data[: len(data) * 3 // 4] = bytes(len(data) * 3 // 4)
            pack.chmod(0o644)
            pack.write_bytes(data)
        with pytest.raises(DamagedError):
            list(open_filesystem(volume).walk())


class TestFat:
    @pytest.mark.parametrize(("bits", "size"), [(12, 4 << 20), (16, 64 << 20), (32, 64 << 20)])
    def test_names_content_and_free_space(self, bits: int, size: int, tmp_path: Path) -> None:
        options = ("-s", "1") if bits == 32 else ()
        file = images.fat(tmp_path / "disk", bits, size, *options)
        volume = images.volume_of(tmp_path / "case", file)
        system = open_filesystem(volume)
        assert (system.kind, system.label, system.uuid) == (f"fat{bits}", "DATA", "1234-ABCD")
        found = by_path(system)
        assert set(found) == {"/", "/a.txt", "/A name that is long.dat", "/etc", "/etc/b.txt"}
        assert content(system, "/a.txt") == TEXT
        assert content(system, "/ETC/B.TXT") == TEXT, "names do not tell apart what is upper case"
        expected = BIG[: 1 << 18]
        assert content(system, "/A name that is long.dat") == expected
        assert by_extents(volume, system, "/A name that is long.dat") == expected
        used = -(-(1 << 18) // system.cluster) + 3 + (1 if bits == 32 else 0)
        runs = list(system.unallocated())
        total = sum(extent.length for extent in runs) // system.cluster
        assert total + used == _fat_clusters(file, bits)

    def test_times_do_not_depend_on_the_hosts_zone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = images.fat(tmp_path / "disk", 16)
        volume = images.volume_of(tmp_path / "case", file)
        seen = set()
        for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            seen.add(open_filesystem(volume).lookup("/a.txt").modified_ns)
        monkeypatch.undo()
        time.tzset()
        assert len(seen) == 1
        assert abs(seen.pop() - time.time_ns()) < 600 * 10**9

    def test_what_was_deleted_is_remembered(self, tmp_path: Path) -> None:
        file = images.fat(tmp_path / "disk", 16)
        assert list(open_filesystem(images.volume_of(tmp_path / "clean", file)).deleted()) == []
        run("mdel", "-i", file, "::/A name that is long.dat")
        system = open_filesystem(images.volume_of(tmp_path / "case", file))
        assert "/A name that is long.dat" not in by_path(system)
        (gone,) = system.deleted()
        assert gone.deleted
        assert gone.size == 1 << 18
        assert system.open(gone.inode).readall() == BIG[: 1 << 18]


def _fat_clusters(file: Path, bits: int) -> int:
    raw = file.read_bytes()[:512]
    sector, per, reserved, tables, roots, small, _, short = struct.unpack_from("<HBHBHHBH", raw, 11)
    large, long = struct.unpack_from("<II", raw, 32)
    return ((small or large) - reserved - tables * (short or long) - roots * 32 // sector) // per


class TestNtfs:
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Slice:
        file = images.sparse(tmp_path / "disk")
        run("mkntfs", "-Q", "-F", "-L", "data", file)
        for name, data in (("a.txt", TEXT), ("big", BIG), ("a.txt:hidden", b"in a stream"), ("holes", _HOLES)):
            (tmp_path / "content").write_bytes(data)
            target, _, stream = name.partition(":")
            words = ["-N", stream] if stream else []
            run("ntfscp", *words, file, tmp_path / "content", target)
        return images.volume_of(tmp_path / "case", file)

    def test_names_streams_and_content(self, volume: Slice) -> None:
        system = open_filesystem(volume)
        assert (system.kind, system.state, system.cluster) == ("ntfs", "clean", 4096)
        found = by_path(system)
        assert {"/a.txt", "/big", "/a.txt:hidden", "/$MFT"} <= set(found)
        assert content(system, "/a.txt") == TEXT
        assert content(system, "/A.TXT:hidden") == b"in a stream"
        assert system.open(found["/a.txt:hidden"].inode).readall() == b"in a stream"
        assert content(system, "/big") == BIG
        assert by_extents(volume, system, "/big") == BIG
        assert content(system, "/holes") == _HOLES
        assert list(system.extents(found["/a.txt"].inode)) == [], "it lies in the record"
        assert abs((found["/big"].created_ns or 0) - time.time_ns()) < 600 * 10**9

    def test_free_space(self, volume: Slice) -> None:
        system = open_filesystem(volume)
        total = sum(extent.length for extent in system.unallocated())
        big = next(extent for extent in system.extents(system.lookup("/big").inode) if extent.offset >= 0)
        assert 40 << 20 < total < 64 << 20
        assert not [e for e in system.unallocated() if e.offset <= big.offset < e.offset + e.length]


_HOLES = b"x" * 70000 + bytes(200000) + b"y"


class TestExfat:
    def test_names_content_and_free_space(self, tmp_path: Path) -> None:
        file = images.exfat(tmp_path / "disk", {"A name that is long.dat": BIG[: 1 << 18], "a.txt": TEXT})
        volume = images.volume_of(tmp_path / "case", file)
        system = open_filesystem(volume)
        assert system.kind == "exfat"
        assert {"/", "/A name that is long.dat", "/a.txt"} <= set(by_path(system))
        assert content(system, "/a.txt") == TEXT
        assert content(system, "/A name that is long.dat") == BIG[: 1 << 18]
        assert by_extents(volume, system, "/A name that is long.dat") == BIG[: 1 << 18]
        free = list(system.unallocated())
        used = [e for e in system.extents(system.lookup("/a.txt").inode) if e.offset >= 0]
        assert sum(each.length for each in free) > 48 << 20
        assert not [e for e in free for u in used if e.offset <= u.offset < e.offset + e.length]


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Slice:
    place = tmp_path_factory.mktemp("xfs")
    return images.volume_of(place / "case", images.xfs(place / "disk", place))


class TestXfs:
    def test_names_and_content(self, xfs: Slice) -> None:
        system = open_filesystem(xfs)
        assert (system.kind, system.label, system.state, system.cluster) == ("xfs", "data", "clean", 4096)
        found = by_path(system)
        assert set(found) == {"/", "/a.txt", "/big", "/etc", "/etc/b.txt", "/to_a", "/far", "/pipe"}
        assert (found["/a.txt"].mode, found["/a.txt"].uid, found["/a.txt"].gid) == (0o640, 5, 6)
        assert found["/to_a"].target == "a.txt"
        assert found["/far"].target == "x/" * 60
        assert found["/pipe"].kind == "fifo"
        assert abs((found["/big"].modified_ns or 0) - time.time_ns()) < 3600 * 10**9
        assert content(system, "/etc/b.txt") == TEXT
        assert content(system, "/big") == BIG
        assert by_extents(xfs, system, "/big") == BIG
        with pytest.raises(DiskError, match="no such file"):
            system.lookup("/nothing")

    def test_what_it_cannot_do_is_refused(self, xfs: Slice) -> None:
        with pytest.raises(UnsupportedError, match="deleted"):
            list(open_filesystem(xfs).deleted())

    def test_free_space(self, xfs: Slice) -> None:
        system = open_filesystem(xfs)
        free = list(system.unallocated())
        (big,) = system.extents(system.lookup("/big").inode)
        assert xfs.size // 2 < sum(each.length for each in free) < xfs.size
        assert not [e for e in free if e.offset < big.offset + big.length and big.offset < e.offset + e.length]


def test_a_directory_with_too_many_names_is_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = images.sparse(tmp_path / "disk", 16 << 20)
    run("mkntfs", "-Q", "-F", file)
    (tmp_path / "content").write_bytes(b"x")
    for number in range(40):
        run("ntfscp", file, tmp_path / "content", f"a name that takes much room in an index {number}")
    system = open_filesystem(images.volume_of(tmp_path / "case", file))
    assert len([entry for entry in system.walk() if "takes much room" in entry.path]) == 40
    assert system.damage() == []
    monkeypatch.setattr(tsk, "MOST_INDEX", 4096)
    with pytest.raises(DiskError, match="more names than can be gone through"):
        list(system.walk())
    list(system.deleted())
    assert any("more names" in line for line in system.damage())


def test_a_large_file_is_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    data = hashlib.shake_128(b"seed").digest(96 << 20)
    (tmp_path / "tree" / "large").write_bytes(data)
    file = images.ext(tmp_path / "disk", tmp_path / "tree", size=160 << 20)
    shutil.rmtree(tmp_path / "tree")
    system = open_filesystem(images.volume_of(tmp_path / "case", file))
    inode = system.lookup("/large").inode
    digest = hashlib.blake2b()
    with system.open(inode) as content:
        while part := content.read(1 << 20):
            digest.update(part)
    assert digest.digest() == hashlib.blake2b(data).digest()
