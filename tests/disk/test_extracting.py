"""Files taken out of a moment are those of the guest, byte for byte; no name of a guest leads out of the folder."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.disk import extracting
from workbench.disk.extracting import Bounds, extract
from workbench.disk.filesystem import Entry, Extent, Kind, State
from workbench.disk.landing import host_name, stays_inside
from workbench.disk.tsk import open_tsk
from workbench.errors import DamagedError, DiskError, StoreError, StoreFullError, UsageError
from workbench.progress import ProgressEvent

from .images import run, sparse, volume_of

MODIFIED, READ = 1_600_000_000_123_456_789, 1_500_000_000_000_000_007


@dataclass
class Planted:
    """A file system that claims whatever a test wants: children by directory, contents by inode."""

    tree: dict[str, list[Entry]]
    contents: dict[int, bytes | Exception] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    root: Entry | None = None
    kind: str = "fake"
    label: str = ""
    uuid: str = ""
    state: State = "clean"
    cluster: int = 4096

    def walk(self) -> Iterator[Entry]:
        raise NotImplementedError

    def damage(self) -> list[str]:
        return []

    def children(self, path: str) -> Iterator[Entry]:
        yield from self.tree.get(path, [])
        if path in self.broken:
            raise DiskError("directory is damaged", path=path)

    def lookup(self, path: str) -> Entry:
        if path == "/":
            return self.root or entry("/", "directory", 2)
        for each in self.tree.get(path.rpartition("/")[0] or "/", []):
            if each.path == path:
                return each
        raise DiskError("no such path", path=path)

    def open(self, inode: int) -> io.RawIOBase:
        content = self.contents.get(inode, b"")
        if isinstance(content, Exception):
            raise content
        return io.BytesIO(content)  # type: ignore[return-value]

    def extents(self, inode: int) -> Iterator[Extent]:
        raise NotImplementedError

    def deleted(self) -> Iterator[Entry]:
        raise NotImplementedError

    def unallocated(self) -> Iterator[Extent]:
        raise NotImplementedError


def entry(path: str, kind: Kind = "file", inode: int = 11, *, size: int = 0, target: str | None = None) -> Entry:
    return Entry(path, inode, kind, size, 0o644, 0, 0, 1, MODIFIED, MODIFIED, READ, None, target)


def planted(**files: bytes) -> Planted:
    """A root with files."""
    numbers = {name: 100 + number for number, name in enumerate(files)}
    tree = {"/": [entry(f"/{name}", inode=numbers[name], size=len(content)) for name, content in files.items()]}
    return Planted(tree, {numbers[name]: content for name, content in files.items()})


def below(folder: Path) -> set[bytes]:
    """Every name below a folder; links are not followed."""
    base = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(at, name), base)
        for at, folders, files in os.walk(base)
        for name in folders + files
    }


def row_of(frame: pd.DataFrame, path: str) -> pd.Series:
    (found,) = [row for _, row in frame.iterrows() if row["path"] == path]
    return found


# What comes out is what was there.


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A real file system with all that may be in one."""
    folder = tmp_path_factory.mktemp("ext4")
    source = folder / "source"
    (source / "etc" / "deep" / "deeper").mkdir(parents=True)
    (source / "etc" / "passwd").write_bytes(b"root:x:0:0::/root:/bin/sh\n")
    (source / "etc" / "big").write_bytes(os.urandom(3 << 20))
    (source / "etc" / "sparse").write_bytes(b"")
    os.truncate(source / "etc" / "sparse", 8 << 20)
    (source / "etc" / "suid").write_bytes(b"#!")
    (source / "etc" / "suid").chmod(0o6755)
    (source / "etc" / "secret").write_bytes(b"x")
    (source / "etc" / "secret").chmod(0o000)
    (source / "etc" / "deep" / "deeper" / "file").write_bytes(b"deep")
    (source / "etc" / "deep" / "up").symlink_to("../passwd")
    (source / "etc" / "deep" / "out").symlink_to("../../passwd")
    (source / "etc" / "absolute").symlink_to("/etc/passwd")
    os.mkfifo(source / "etc" / "pipe")
    Path(os.fsdecode(os.fsencode(source / "etc") + b"/\xff\xfe")).write_bytes(b"bytes")
    for name, _, files in os.walk(source):
        for each in [name, *(os.path.join(name, file) for file in files)]:
            os.utime(each, ns=(READ, MODIFIED), follow_symlinks=False)
    image = sparse(folder / "image")
    run("mke2fs", "-q", "-t", "ext4", "-I", "256", "-d", source, image)
    run("debugfs", "-w", "-f", "-", image, data=b"cd /etc\nmknod null c 1 3\n")
    return open_tsk(volume_of(folder / "case", image))


def test_a_tree_of_a_real_file_system(ext4: Planted, tmp_path: Path) -> None:
    frame = extract(ext4, "/etc", tmp_path / "out")
    assert frame.attrs["incomplete"] == []
    source_of = {
        "/etc/passwd": b"root:x:0:0::/root:/bin/sh\n",
        "/etc/deep/deeper/file": b"deep",
        "/etc/\udcff\udcfe": b"bytes",
        "/etc/sparse": bytes(8 << 20),
        "/etc/secret": b"x",
    }
    for path, content in source_of.items():
        row = row_of(frame, path)
        written = Path(row["written_to"])
        assert written == tmp_path / "out" / path[1:]
        assert written.read_bytes() == content
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert (row["size"], row["kind"], row["note"]) == (len(content), "file", "")
        assert written.stat().st_mtime_ns == MODIFIED // 10**9 * 10**9  # mke2fs keeps seconds
    big = Path(row_of(frame, "/etc/big")["written_to"])
    assert hashlib.sha256(big.read_bytes()).hexdigest() == row_of(frame, "/etc/big")["sha256"]
    assert Path(row_of(frame, "/etc/sparse")["written_to"]).stat().st_blocks == 0
    assert Path(row_of(frame, "/etc/secret")["written_to"]).stat().st_mode & 0o7777 == 0
    assert (
        Path(row_of(frame, "/etc/deep")["written_to"]).stat().st_mtime_ns == MODIFIED // 10**9 * 10**9
    )  # mke2fs keeps seconds


def test_what_is_not_made_is_listed(ext4: Planted, tmp_path: Path) -> None:
    frame = extract(ext4, "/etc", tmp_path / "out")
    for path, kind, words in (
        ("/etc/pipe", "fifo", "a fifo is not made"),
        ("/etc/null", "character", "a character is not made"),
        ("/etc/absolute", "link", "a link that could lead out: not made"),
        ("/etc/deep/out", "link", "a link that could lead out: not made"),
    ):
        row = row_of(frame, path)
        assert (row["kind"], row["written_to"], row["note"]) == (kind, "", words)
    assert row_of(frame, "/etc/absolute")["target"] == "/etc/passwd"
    up = Path(row_of(frame, "/etc/deep/up")["written_to"])
    assert os.readlink(up) == "../passwd"
    assert up.read_bytes().startswith(b"root:")
    kinds = {stat.S_IFMT(os.lstat(os.path.join(os.fsencode(tmp_path), name)).st_mode) for name in below(tmp_path)}
    assert kinds <= {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}


@pytest.mark.parametrize(("asked", "mode", "note"), [(False, 0o755, "mode was 6755"), (True, 0o6755, "")])
def test_setuid_bits_only_if_asked(ext4: Planted, tmp_path: Path, asked: bool, mode: int, note: str) -> None:
    frame = extract(ext4, "/etc/suid", tmp_path, setuid=asked)
    assert (tmp_path / "suid").stat().st_mode & 0o7777 == mode
    assert frame["note"].tolist() == [note]


def test_one_file_one_directory_and_the_root(tmp_path: Path) -> None:
    system = planted(a=b"1", b=b"22")
    system.tree["/"].append(entry("/d", "directory", 5))
    system.tree["/d"] = [entry("/d/e", "directory", 6), entry("/d/f", inode=100, size=1)]
    system.tree["/d/e"] = [entry("/d/e/g", inode=100, size=1)]
    assert extract(system, "/b", tmp_path / "file")["path"].tolist() == ["/b"]
    assert below(tmp_path / "file") == {b"b"}
    shallow = extract(system, "/d/", tmp_path / "shallow", whole_tree=False)
    assert below(tmp_path / "shallow") == {b"d", b"d/e", b"d/f"}
    assert row_of(shallow, "/d/e")["note"] == "not entered"
    extract(system, "/", tmp_path / "all")
    assert below(tmp_path / "all") == {b"a", b"b", b"d", b"d/e", b"d/f", b"d/e/g"}
    with pytest.raises(DiskError, match="no such path"):
        extract(system, "/nothing", tmp_path / "none")


def test_columns_of_the_manifest(tmp_path: Path) -> None:
    frame = extract(planted(a=b"1"), "/", tmp_path / "out")
    assert list(frame.columns) == ["path", "kind", "size", "sha256", "written_to", "target", "note"]
    assert [str(frame[name].dtype) for name in ("path", "size", "written_to")] == ["object", "int64", "object"]
    assert extract(Planted({}), "/", tmp_path / "none").empty


def test_progress_times_and_who_may_read_it(tmp_path: Path) -> None:
    told: list[ProgressEvent] = []
    extract(planted(a=b"1", b=b"22"), "/", tmp_path / "x" / "out", progress=told.append)
    assert [event.done for event in told] == [1, 3]
    found = (tmp_path / "x" / "out" / "a").stat()
    assert (found.st_mtime_ns, found.st_atime_ns) == (MODIFIED, READ)
    assert (tmp_path / "x" / "out").stat().st_mode & 0o777 == 0o700


# Nothing outside, whatever the names.

HOSTILE = [
    "..",
    ".",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "\0",
    "a\0b",
    "",
    "x" * 300,
    "\udcff" * 256,
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_hostile_name_becomes_one_component(tmp_path: Path, name: str, kind: Kind) -> None:
    system = Planted({"/d": [entry(f"/d/{name}", kind, 50, target="x")], "/": [entry("/d", "directory", 5)]})
    frame = extract(system, "/d", tmp_path / "out")
    names = below(tmp_path) - {b"out", b"out/d"}
    assert len(names) <= 1
    assert all(each.startswith(b"out/d/") and each.count(b"/") == 2 for each in names)
    assert len(names) == (0 if name in {".", ".."} else 1)
    assert len(frame) == 1 + len(names)


def test_names_that_were_cut_stay_apart() -> None:
    one, two = host_name("x" * 300), host_name("x" * 301)
    assert len(one) == len(two) == 255
    assert one != two
    assert host_name("x" * 255) == b"x" * 255
    assert host_name("\udcff") == b"\xff"


def test_a_link_and_then_a_file_through_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    tree = {
        "/": [entry("/d", "directory", 5)],
        "/d": [
            entry("/d/l", "link", 6, target=str(victim)),
            entry("/d/in", "link", 6, target="real"),
            entry("/d/real", "directory", 7),
            entry("/d/in", "directory", 8),
            entry("/d/in", inode=100, size=4),
            entry("/d/in/..", inode=100, size=4),
        ],
        "/d/in": [entry("/d/in/f", inode=100, size=4)],
    }
    frame = extract(Planted(tree, {100: b"evil"}), "/d", tmp_path / "out")
    assert os.listdir(victim) == []
    assert below(tmp_path / "out" / "d" / "real") == set()
    assert below(tmp_path / "out" / "d") == {b"in", b"real", b"in~1", b"in~1/f", b"in~2", b"in%2F.."}
    assert row_of(frame, "/d/l")["written_to"] == ""


@pytest.mark.parametrize(
    ("target", "depth", "stays"),
    [
        ("file", 0, True),
        ("a/b", 0, True),
        ("./a//b", 0, True),
        ("..", 1, True),
        ("..", 0, False),
        ("../..", 1, False),
        ("/etc", 5, False),
        ("a/..", 5, False),
        ("a/../../b", 5, False),
        ("", 5, False),
        ("a\0b", 5, False),
        ("x" * 5000, 5, False),
        (".", 0, True),
    ],
)
def test_links_that_stay_inside(target: str, depth: int, stays: bool) -> None:
    assert stays_inside(target, depth) is stays


NAMES = st.sampled_from(["a", "b", "A", "..", ".", "a/b", "../x", "\udcff", "", "c", "l"])
TARGETS = st.lists(st.sampled_from(["..", "a", "b", "l", ".", "/", ""]), min_size=1, max_size=6).map("/".join)
KINDS = st.sampled_from(["file", "directory", "directory", "link", "link", "fifo"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), NAMES, KINDS, TARGETS), max_size=25))
def test_any_tree_stays_inside(parts: list[tuple[int, str, Kind, str]]) -> None:
    folders, tree = ["/"], dict[str, list[Entry]]()
    for number, (where, name, kind, target) in enumerate(parts):
        parent = folders[where % len(folders)]
        path = f"{parent.rstrip('/')}/{name}"
        tree.setdefault(parent, []).append(entry(path, kind, 100 + number, size=4, target=target))
        if kind == "directory":
            folders.append(path)
    system = Planted(tree, {100 + number: b"evil" for number in range(len(parts))})
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(os.path.realpath(temporary))
        (base / "beside").write_text("mine")
        extract(system, "/", base / "out")
        assert sorted(os.listdir(base)) == ["beside", "out"]
        assert (base / "beside").read_text() == "mine"
        for name in below(base / "out"):
            assert leads_inside(os.path.join(os.fsencode(base / "out"), name), os.fsencode(base / "out"))


def leads_inside(path: bytes, folder: bytes) -> bool:
    """Whether a path leads into a folder, or in a circle, for the kernel."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return True
    return (os.path.realpath(path) + b"/").startswith(folder + b"/")


# Nothing without end.


def test_directories_in_a_circle_end(tmp_path: Path) -> None:
    class Circle(Planted):
        def children(self, path: str) -> Iterator[Entry]:
            yield entry(f"{path.rstrip('/')}/again", "directory", 5)

    frame = extract(Circle({}), "/", tmp_path / "out")
    assert frame["note"].tolist() == ["", "the same directory was met before: not entered again"]


def test_depth_and_number_are_bounded(tmp_path: Path) -> None:
    class Deep(Planted):
        def children(self, path: str) -> Iterator[Entry]:
            yield entry(f"{path.rstrip('/')}/d", "directory", 5 + path.count("/d"))

    frame = extract(Deep({}), "/", tmp_path / "deep")
    assert len(frame) == 200
    assert frame["note"].iloc[-1] == "deeper than 200 directories: not entered"

    class Wide(Planted):
        def children(self, path: str) -> Iterator[Entry]:
            yield from (entry(f"/{number}", inode=100) for number in range(10**9))

    frame = extract(Wide({}), "/", tmp_path / "wide", bounds=Bounds(entries=50))
    assert len(frame) == 50
    assert frame.attrs["incomplete"] == ["more than 50 entries: the others were not looked at"]


def test_names_that_are_left_out_count_too(tmp_path: Path) -> None:
    class Dots(Planted):
        def children(self, path: str) -> Iterator[Entry]:
            yield from (entry("/.", "directory", 5) for _ in range(10**9))

    assert extract(Dots({}), "/", tmp_path / "dots", bounds=Bounds(entries=50)).attrs["incomplete"]
    whole = extract(planted(a=b"1", b=b"2"), "/", tmp_path / "out", bounds=Bounds(entries=2))
    assert (len(whole), whole.attrs["incomplete"]) == (2, [])


def test_half_characters(tmp_path: Path) -> None:
    system = Planted({"/": [entry("/l", "link", 5, target="\ud800"), entry("/\ud800\udcff")]})
    frame = extract(system, "/", tmp_path / "out")
    assert frame["note"].tolist() == ["", ""]
    assert below(tmp_path / "out") == {b"l", b"\xed\xa0\x80\xed\xb3\xbf"}


def test_bytes_are_bounded(tmp_path: Path) -> None:
    system = planted(a=b"1234", b=b"12345678", c=b"1234", d=b"12")
    system.tree["/"].append(entry("/exabytes", inode=900, size=1 << 60))
    frame = extract(system, "/", tmp_path / "out", bounds=Bounds(size=8, file_size=7))
    assert frame["note"].tolist() == [
        "", "larger than 7 bytes: not written", "", "more than 8 bytes in all: not written",
        "larger than 7 bytes: not written",
    ]  # fmt: skip
    assert below(tmp_path / "out") == {b"a", b"c"}


def test_a_content_that_never_ends_is_cut_at_its_size(tmp_path: Path) -> None:
    system = planted(a=b"x" * 100)
    system.tree["/"] = [replace(system.tree["/"][0], size=10)]
    extract(system, "/a", tmp_path)
    assert (tmp_path / "a").read_bytes() == b"x" * 10
    system.tree["/"] = [replace(system.tree["/"][0], size=1000, path="/b")]
    frame = extract(system, "/b", tmp_path)
    assert frame["note"].tolist() == ["content ends after 100 of 1000 bytes"]


# What cannot be read or written.


def test_what_is_unreadable_is_said_and_not_half_written(tmp_path: Path) -> None:
    system = planted(a=b"1", b=b"2", c=b"3")
    system.contents[101] = DamagedError("frame of a pack is damaged", path="p")
    system.contents[102] = DiskError("no content \udcff")
    system.tree["/"].append(entry("/d", "directory", 5))
    system.broken = ("/d",)
    frame = extract(system, "/", tmp_path / "out")
    assert below(tmp_path / "out") == {b"a", b"d"}
    assert row_of(frame, "/b")["note"].startswith("unreadable: frame of a pack is damaged")
    assert row_of(frame, "/c")["note"] == "unreadable: no content \\udcff"
    assert frame["sha256"].tolist()[1:] == ["", "", ""]
    assert len(frame.attrs["incomplete"]) == 1
    assert "directory is damaged" in frame.attrs["incomplete"][0]


def test_what_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UsageError, match="file exists"):
        extract(planted(a=b"guest's"), "/a", tmp_path)
    with pytest.raises(UsageError, match="file exists"):
        extract(planted(b=b"guest's", a=b"guest's"), "/", tmp_path)
    assert below(tmp_path) == {b"a"}
    assert (tmp_path / "a").read_text() == "mine"
    with pytest.raises(UsageError, match="not a directory"):
        extract(planted(a=b""), "/a", tmp_path / "a")


def test_a_full_volume_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: bytes, offset: int) -> None:
        if data == b"two":
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(extracting, "_pwrite", full)
    with pytest.raises(StoreFullError, match="no space"):
        extract(planted(a=b"one", b=b"two"), "/", tmp_path / "out")
    assert below(tmp_path / "out") == set()


def test_a_name_that_the_host_does_not_take_costs_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, real = planted(a=b"1", b=b"2"), os.open

    def picky(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"a":
            raise OSError(errno.EILSEQ, "Invalid or incomplete multibyte or wide character")
        return real(path, flags, mode, dir_fd=dir_fd)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", picky)
    frame = extract(system, "/", tmp_path / "out")
    assert row_of(frame, "/a")["note"].startswith("cannot be written here: Invalid")
    assert below(tmp_path / "out") == {b"b"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make a directory"):
        extract(planted(a=b""), "/a", tmp_path / "file" / "below")


@pytest.mark.parametrize("when", [-(1 << 62), 1 << 63, 1 << 80])
def test_times_that_cannot_be(tmp_path: Path, when: int) -> None:
    system = planted(a=b"1")
    system.tree["/"] = [replace(system.tree["/"][0], modified_ns=when)]
    frame = extract(system, "/", tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"1"
    assert frame["note"].tolist()[0] in {"", "a time that this host cannot keep"}
