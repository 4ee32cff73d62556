"""Which files changed: the fast way says what the deep one says, and both say what was done."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.disk.changes import changed_files
from workbench.disk.columns import armoured, disarmoured
from workbench.errors import DiskError

from .editing import Disk, moments_of, new_disk, sha
from .images import BIG, fat, run, sparse


def changes(folder: Path, *files: Path) -> pd.DataFrame:
    """Both ways, which have to be one."""
    moments, captures = moments_of(folder, files)
    fast = changed_files(moments, captures[0], captures[-1])
    deep = changed_files(moments, captures[0], captures[-1], deep=True)
    pd.testing.assert_frame_equal(fast, deep)
    return fast


def told(frame: pd.DataFrame, path: str) -> dict[str, object]:
    rows = frame[frame["path"] == path]
    assert len(rows) == 1, rows
    return rows.iloc[0].to_dict()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    source = tmp_path / "source"
    (source / "etc").mkdir(parents=True)
    (source / "etc" / "passwd").write_bytes(b"root:x:0:0\n" * 2000)
    (source / "small").write_bytes(b"in the inode")
    (source / "gone").write_bytes(b"x" * 9000)
    (source / "sh").symlink_to("dash")
    os.link(source / "etc" / "passwd", source / "etc" / "second")
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(512 << 10)
        file.write(b"middle" * 1000)
    return new_disk(tmp_path, source)


def test_nothing_changed_is_no_row(tmp_path: Path, disk: Disk) -> None:
    frame = changes(tmp_path, disk.copy("a"), disk.copy("b"))
    assert frame.empty
    assert frame.attrs["hashed"] == 0
    assert frame["size_before"].dtype == "Int64"


def test_created_with_digest_owner_and_clusters(tmp_path: Path, disk: Disk) -> None:
    before, content = disk.copy("a"), os.urandom(200_000)
    disk.write("/etc/new", content)
    disk.do("sif /etc/new uid 7")
    disk.apply()
    frame = changes(tmp_path, before, disk.copy("b"))
    row = told(frame, "/etc/new")
    assert (row["change"], row["sha256_after"], row["size_after"], row["uid"]) == ("created", sha(content), 200_000, 7)
    assert row["clusters"] in {4, 5}
    assert row["source"] == "disk"
    assert pd.isna(row["sha256_before"])
    assert pd.isna(row["size_before"])
    assert told(frame, "/etc")["change"] == "modified"
    assert "/small" not in set(frame["path"])


def test_deleted_keeps_what_it_was(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    disk.do("rm /gone")
    disk.apply()
    row = told(changes(tmp_path, before, disk.copy("b")), "/gone")
    assert (row["change"], row["sha256_before"], row["size_before"]) == ("deleted", sha(b"x" * 9000), 9000)


def test_an_inode_used_again_is_another_file(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    disk.do("rm /gone")
    disk.write("/etc/again", b"y" * 9000)
    disk.apply()
    frame = changes(tmp_path, before, disk.copy("b"))
    assert told(frame, "/gone")["inode"] == told(frame, "/etc/again")["inode"]
    assert told(frame, "/gone")["change"] == "deleted"
    assert told(frame, "/etc/again")["change"] == "created"


def test_a_rename_is_one_row(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    disk.do("ln /gone /etc/kept", "unlink /gone")
    disk.apply()
    frame = changes(tmp_path, before, disk.copy("b"))
    row = told(frame, "/etc/kept")
    assert (row["change"], row["old_path"]) == ("renamed", "/gone")
    assert row["sha256_before"] == row["sha256_after"] == sha(b"x" * 9000)
    assert "/gone" not in set(frame["path"])


def test_written_in_place_with_the_metadata_put_back(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    place = disk.path.read_bytes().index(b"root:x:0:0\n" * 200)
    with disk.path.open("r+b") as file:
        file.seek(place)
        file.write(b"evil")
    frame = changes(tmp_path, before, disk.copy("b"))
    assert set(frame["path"]) == {"/etc/passwd", "/etc/second"}, "every name of it"
    assert set(frame["change"]) == {"modified"}
    assert set(frame["clusters"]) == {1}
    assert set(frame["sha256_after"]) == {sha(b"evil" + (b"root:x:0:0\n" * 2000)[4:])}


def test_slack_that_changed_is_no_modification(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    content = disk.path.read_bytes()
    place = content.index(b"root:x:0:0\n" * 200) + 22_000
    with disk.path.open("r+b") as file:
        file.seek(place)
        file.write(b"hidden past the end")
    frame = changes(tmp_path, before, disk.copy("b"))
    assert frame.empty


def test_content_in_the_inode(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    place = disk.path.read_bytes().index(b"in the inode")
    with disk.path.open("r+b") as file:
        file.seek(place)
        file.write(b"IN")
    row = told(changes(tmp_path, before, disk.copy("b")), "/small")
    assert (row["change"], row["sha256_after"]) == ("modified", sha(b"IN the inode"))


def test_mode_owner_and_target(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    disk.do("sif /small mode 0104755", "sif /small uid 0", "rm /sh", "symlink /sh evil")
    disk.apply()
    frame = changes(tmp_path, before, disk.copy("b"))
    small, link = told(frame, "/small"), told(frame, "/sh")
    assert (small["change"], small["mode_before"], small["mode"]) == ("metadata", 0o644, 0o4755)
    assert small["sha256_before"] == small["sha256_after"] == sha(b"in the inode")
    assert (link["change"], link["target_before"], link["target"]) == ("modified", "dash", "evil")


def test_another_kind_is_another_thing(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    disk.do("rm /gone", "mkdir /gone")
    disk.apply()
    frame = changes(tmp_path, before, disk.copy("b"))
    assert [*frame[frame["path"] == "/gone"][["change", "kind"]].itertuples(index=False, name=None)] == [
        ("created", "directory"),
        ("deleted", "file"),
    ]


def test_holes_and_sizes(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    disk.do("punch /sparse 128 129", "sif /etc/passwd size 11000")
    disk.apply()
    frame = changes(tmp_path, before, disk.copy("b"))
    assert told(frame, "/sparse")["change"] == "modified"
    assert told(frame, "/etc/passwd")["sha256_after"] == sha(b"root:x:0:0\n" * 1000)


def test_only_read_is_told_where_it_is_asked(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    disk.do("sif /small atime @1700000000")
    disk.apply()
    moments, captures = moments_of(tmp_path, [before, disk.copy("b")])
    assert changed_files(moments, *captures).empty
    frame = changed_files(moments, *captures, accesses=True)
    assert told(frame, "/small")["change"] == "metadata"
    assert told(frame, "/small")["accessed_after"] == pd.Timestamp(1700000000, unit="s", tz="UTC")


def test_a_content_too_large_counts_by_what_was_written(tmp_path: Path, disk: Disk) -> None:
    before = disk.copy("a")
    place = disk.path.read_bytes().index(b"x" * 9000)
    with disk.path.open("r+b") as file:
        file.seek(place)
        file.write(b"y")
    moments, captures = moments_of(tmp_path, [before, disk.copy("b")])
    fast = changed_files(moments, *captures, most=8999)
    pd.testing.assert_frame_equal(fast, changed_files(moments, *captures, most=8999, deep=True))
    row = told(fast, "/gone")
    assert row["change"] == "modified"
    assert "larger than 8999 bytes" in str(row["note"])
    assert pd.isna(row["sha256_after"])


def test_a_volume_that_cannot_be_opened_is_not_deleted(tmp_path: Path, disk: Disk) -> None:
    moments, captures = moments_of(tmp_path, [disk.copy("a"), disk.copy("b")])
    opener = moments._opener

    def fails(view):
        opened = opener(view)
        if view.record.id == captures[1]:
            opened.parts.clear()
            opened.unread["vda"] = "damaged"
        return opened

    moments._opener = fails
    frame = changed_files(moments, *captures)
    assert frame.empty
    assert frame.attrs["not_compared"] == {"vda": "damaged"}


def test_a_content_that_cannot_be_read_is_told(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = disk.copy("a")
    disk.write("/new", b"z" * 5000)
    disk.apply()
    moments, captures = moments_of(tmp_path, [before, disk.copy("b")])

    def broken(inode: int):
        raise DiskError("no such luck", inode=inode)

    for part in moments.parts(captures[1]):
        monkeypatch.setattr(part.filesystem, "open", broken)
    row = told(changed_files(moments, *captures), "/new")
    assert row["note"] == "no such luck"
    assert pd.isna(row["sha256_after"])


def test_names_go_through_arrow_and_back(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / os.fsdecode(b"odd\xff\x1b[31m")).write_bytes(b"odd")
    disk = new_disk(tmp_path)
    frame = changes(tmp_path, disk.copy("a"), new_disk(tmp_path, tmp_path / "source").copy("b"))
    assert told(frame, "/" + os.fsdecode(b"odd\xff\x1b[31m"))["change"] == "created"
    (tmp_path / "it").write_bytes(armoured(frame).to_parquet())
    pd.testing.assert_frame_equal(disarmoured(pd.read_parquet(tmp_path / "it")), frame)


# Random histories.

NAMES = ["/a", "/b", "/d/a", "/d/b", "/d/c"]
CONTENTS = st.tuples(st.sampled_from([0, 20, 100, 5000, 70_000]), st.integers(1, 255))
NAME = st.sampled_from(NAMES)
OPERATION = st.one_of(
    st.tuples(st.just("create"), NAME, CONTENTS),
    st.tuples(st.just("overwrite"), NAME, st.integers(0, 255)),
    st.tuples(st.just("truncate"), NAME, st.integers(0, 80_000)),
    st.tuples(st.just("punch"), NAME, st.just(0)),
    st.tuples(st.just("rename"), NAME, NAME),
    st.tuples(st.just("link"), NAME, NAME),
    st.tuples(st.just("symlink"), NAME, st.sampled_from(["x", "y/" * 50])),
    st.tuples(st.just("chmod"), NAME, st.sampled_from([0o600, 0o755, 0o4755])),
    st.tuples(st.just("delete"), NAME, st.just(0)),
)


@dataclass
class Node:
    """A file as it has to be."""

    number: int
    content: bytes
    mode: int = 0o644
    target: str = ""


class World:
    """What debugfs is told to do, and the truth."""

    def __init__(self, folder: Path) -> None:
        self.disk = new_disk(folder, size=8 << 20)
        self.disk.do("mkdir /d")
        self.names: dict[str, Node] = {}
        self.count = 0
        for number, path in enumerate(NAMES[:4]):
            self._create(path, (20 if number == 3 else 9000, 65 + number))

    def state(self) -> dict[str, tuple[object, ...]]:
        return {p: (n.number, sha(n.content) if not n.target else n.target, n.mode) for p, n in self.names.items()}

    def act(self, operation: tuple[str, str, object]) -> None:
        verb, path, more = operation
        if verb in {"create", "symlink"} or (verb in {"rename", "link"} and path in self.names):
            getattr(self, f"_{verb}")(path, more)
        elif verb == "delete" and path in self.names:
            self._delete(path)
        elif path in self.names and not self.names[path].target:
            getattr(self, f"_{verb}")(path, more)

    def _links(self, node: Node) -> int:
        return sum(each is node for each in self.names.values())

    def _delete(self, path: str) -> None:
        self.disk.do(f"rm {path}")
        del self.names[path]

    def _create(self, path: str, what: tuple[int, int]) -> None:
        if path in self.names:
            self._delete(path)
        self.count += 1
        self.names[path] = Node(self.count, bytes([what[1]]) * what[0])
        self.disk.write(path, self.names[path].content)

    def _symlink(self, path: str, target: str) -> None:
        if path in self.names:
            self._delete(path)
        self.count += 1
        self.disk.do(f"symlink {path} {target}", f"sif {path} generation {5000 + self.count}")
        self.names[path] = Node(self.count, b"", 0o777, target)

    def _rename(self, path: str, new: str) -> None:
        if path == new or self.names.get(new) is self.names[path]:
            return
        if new in self.names:
            self._delete(new)
        self.disk.do(f"ln {path} {new}", f"unlink {path}")
        self.names[new] = self.names.pop(path)

    def _link(self, path: str, new: str) -> None:
        if new in self.names or self.names[path].target:
            return
        self.disk.do(f"ln {path} {new}", f"sif {path} links_count {self._links(self.names[path]) + 1}")
        self.names[new] = self.names[path]

    def _chmod(self, path: str, mode: int) -> None:
        self.disk.do(f"sif {path} mode 0{0o100000 | mode:o}")
        self.names[path].mode = mode

    def _punch(self, path: str, _: object) -> None:
        node = self.names[path]
        if len(node.content) < 8192:
            return
        self.disk.do(f"punch {path} 1 1")
        node.content = node.content[:4096] + bytes(4096) + node.content[8192:]

    def _truncate(self, path: str, size: int) -> None:
        node = self.names[path]
        if len(node.content) < 4096 or size > len(node.content) or size < 4096:
            return
        self.disk.do(f"sif {path} size {size}")
        node.content = node.content[:size]

    def _overwrite(self, path: str, value: int) -> None:
        """In place, the metadata as it was: nothing but the clusters tells."""
        node = self.names[path]
        if len(node.content) < 4096:
            return
        self.disk.apply()
        with self.disk.path.open("r+b") as file:
            file.seek(_first_block(self.disk, path) * 4096)
            file.write(bytes([value]) * 100)
        node.content = bytes([value]) * 100 + node.content[100:]


def _first_block(disk: Disk, path: str) -> int:

    return int(run("debugfs", "-R", f"bmap {path} 0", disk.path).split()[-1])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(OPERATION, max_size=8), st.lists(OPERATION, max_size=8))
def test_both_ways_say_what_was_done(
    first: list[tuple[str, str, object]], second: list[tuple[str, str, object]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for operation in first:
            world.act(operation)
        world.disk.apply()
        before, was = world.disk.copy("a"), world.state()
        for operation in second:
            world.act(operation)
        world.disk.apply()
        now = world.state()
        frame = changes(Path(folder), before, world.disk.copy("b"))
        mine = frame[frame["kind"] != "directory"]
        found = {(row.path, row.change): row for row in mine.itertuples()}
        assert set(found) >= _expected(was, now), "what was done is told"
        quiet = {path for path in was if now.get(path) == was[path]}
        assert not {path for path, change in found if change != "metadata"} & quiet, "and nothing else"
        for (path, change), row in found.items():
            if row.kind == "file" and change != "deleted":
                assert row.sha256_after == now[path][1]
            if row.kind == "file" and change not in {"created", "renamed"}:
                assert row.sha256_before == was[path][1]


def _expected(was: dict[str, tuple[object, ...]], now: dict[str, tuple[object, ...]]) -> set[tuple[str, str]]:
    """Return the rows that there must be; a link in the place of a file is another thing."""

    def is_link(what: tuple[object, ...]) -> bool:
        return what[2] == 0o777

    stays = {path for path in was.keys() & now.keys() if is_link(was[path]) == is_link(now[path])}
    gone = sorted(path for path in was if path not in stays)
    came = sorted(path for path in now if path not in stays)
    found = set()
    for path in came:
        old = next((each for each in gone if was[each][0] == now[path][0]), None)
        found.add((path, "created" if old is None else "renamed"))
        gone = [each for each in gone if each != old]
    found |= {(path, "deleted") for path in gone}
    found |= {(path, "modified") for path in stays if was[path][1] != now[path][1]}
    return found | {(path, "metadata") for path in stays if was[path][1] == now[path][1] and was[path] != now[path]}


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_fat(tmp_path: Path, bits: int) -> None:
    path = fat(tmp_path / "fat", bits, (8 if bits == 12 else 64) << 20)
    before = tmp_path / "before"
    before.write_bytes(path.read_bytes())
    (tmp_path / "new").write_bytes(b"new" * 5000)
    run("mcopy", "-i", path, tmp_path / "new", "::/etc/new.txt")
    run("mdel", "-i", path, "::/a.txt")
    place = path.read_bytes().index(BIG[: 1 << 16])
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"evil")
    frame = changes(tmp_path, before, path)
    told = {row.path: row.change for row in frame[frame["kind"] == "file"].itertuples()}
    assert {name: told.get(name) for name in ("/etc/new.txt", "/a.txt", "/A name that is long.dat")} == {
        "/etc/new.txt": "created",
        "/a.txt": "deleted",
        "/A name that is long.dat": "modified",
    }
    assert "/etc/b.txt" not in told


def test_ntfs(tmp_path: Path) -> None:
    path = sparse(tmp_path / "ntfs", 32 << 20)
    run("mkfs.ntfs", "-q", "-F", "-f", path)
    for name, size in (("big", 50_000), ("resident", 200), ("same", 300), ("written", 70_000)):
        (tmp_path / name).write_bytes(name.encode() * (size // len(name)))
        run("ntfscp", path, tmp_path / name, f"/{name}")
    before = tmp_path / "before"
    before.write_bytes(path.read_bytes())
    content = before.read_bytes()
    with path.open("r+b") as file:
        for name in (b"resident" * 10, b"written" * 1000):
            file.seek(content.index(name))
            file.write(b"EVIL")
    (tmp_path / "new").write_bytes(b"n" * 9000)
    run("ntfscp", path, tmp_path / "new", "/new")
    frame = changes(tmp_path, before, path)
    told = {row.path: row.change for row in frame.itertuples()}
    assert (told["/new"], told["/resident"], told["/written"]) == ("created", "modified", "modified")
    assert not {"/same", "/big"} & set(told)
