"""Versions of a path over a timeline: what opening every capture would say, without opening them."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pandas as pd
import pytest

from workbench.disk.history import file_history, last_with
from workbench.disk.moments import Moments
from workbench.disk.text import text_diff
from workbench.errors import DiskError, UnsupportedError

from .editing import Disk, moments_of, new_disk, sha
from .images import TIME_NS, case_of, run

COLUMNS = ["present", "size", "sha256", "mode", "uid", "inode", "kind", "modified", "target"]


def one_by_one(moments: Moments, path: str, captures: list) -> list[tuple]:
    """What every capture says when it is opened."""
    frames = [file_history(moments, path, [capture]) for capture in captures]
    return [tuple(map(str, frame[COLUMNS].iloc[0])) for frame in frames]


def spread(frame: pd.DataFrame) -> list[tuple]:
    """What a history says of each capture."""
    return [tuple(map(str, row[COLUMNS])) for _, row in frame.iterrows() for _ in range(row["captures"])]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    source = tmp_path / "source"
    (source / "var" / "log").mkdir(parents=True)
    (source / "var" / "log" / "auth.log").write_bytes(b"one\n" * 3000)
    (source / "other").write_bytes(b"o" * 200_000)
    return new_disk(tmp_path, source, size=32 << 20)


def test_versions_with_their_times(tmp_path: Path, disk: Disk) -> None:
    log = "/var/log/auth.log"
    files = [disk.copy("0"), disk.copy("1")]
    disk.do(f"rm {log}")
    disk.write(log, b"two\n" * 4000, second=1_700_000_000)
    disk.apply()
    files += [disk.copy("2")]
    disk.do("rm /other")
    disk.apply()
    files += [disk.copy("3")]
    disk.do(f"rm {log}")
    disk.apply()
    files += [disk.copy("4"), disk.copy("5")]
    moments, captures = moments_of(tmp_path, files)
    frame = file_history(moments, log, captures)
    assert frame["captures"].tolist() == [2, 2, 2]
    assert frame["present"].tolist() == [True, True, False]
    assert frame["sha256"].tolist()[:2] == [sha(b"one\n" * 3000), sha(b"two\n" * 4000)]
    assert frame["first_capture"].tolist() == [captures[0], captures[2], captures[4]]
    assert frame["last_seen"][1] == pd.Timestamp(TIME_NS + 3 * 10**9, unit="ns", tz="UTC")
    assert frame["modified"][1] == pd.Timestamp(1_700_000_000, unit="s", tz="UTC")
    assert last_with(frame) == captures[3], "where the deleted file can be recovered from"


def test_a_path_that_never_was(tmp_path: Path, disk: Disk) -> None:
    moments, captures = moments_of(tmp_path, [disk.copy("0"), disk.copy("1")])
    frame = file_history(moments, "/var/nothing/here", captures)
    assert frame["present"].tolist() == [False]
    assert last_with(frame) is None


def test_what_is_written_elsewhere_opens_nothing(tmp_path: Path, disk: Disk) -> None:
    place = disk.path.read_bytes().index(b"o" * 100_000)
    files = [disk.copy("0")]
    for number in range(1, 12):
        with disk.path.open("r+b") as file:
            file.seek(place + 70_000)
            file.write(bytes([number]) * 10_000)
        files.append(disk.copy(str(number)))
    moments, captures = moments_of(tmp_path, files)
    frame = file_history(moments, "/var/log/auth.log", captures)
    assert frame["captures"].tolist() == [12]
    assert frame.attrs["opened"] == 1
    assert len(file_history(moments, "/other", captures)) == 12, "and the one that was written to has them all"


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_are_what_every_capture_says(tmp_path: Path, disk: Disk, seed: int) -> None:
    chance = random.Random(seed)
    path, files = "/var/log/auth.log", [disk.copy("0")]
    there = True
    for number in range(1, 9):
        for _ in range(chance.randint(0, 2)):
            act = chance.choice(["write", "chmod", "delete", "noise", "parent", "link"])
            if act == "write" or (not there and act == "chmod"):
                disk.do(*([f"rm {path}"] if there else []))
                disk.write(path, os.urandom(chance.choice([10, 5000, 90_000])))
                there = True
            elif act == "chmod":
                disk.do(f"sif {path} mode 0100{chance.choice(['600', '640', '644'])}")
            elif act == "delete" and there:
                disk.do(f"rm {path}")
                there = False
            elif act == "link" and not there:
                disk.do(f"symlink {path} /tmp/{number}")
                there = True
            elif act == "parent":
                disk.do("ln /var/log /var/old", "unlink /var/log", "ln /var/old /var/log", "unlink /var/old")
            else:
                disk.write(f"/noise{disk.number}", os.urandom(3000))
        disk.apply()
        files.append(disk.copy(str(number)))
    moments, captures = moments_of(tmp_path, files)
    assert spread(file_history(moments, path, captures)) == one_by_one(moments, path, captures)


def journalled(disk: Disk, path: str, mode: int, *, revoke: bool = False) -> None:
    """Change a file's mode in the journal alone, as a kernel does that has not written it back yet."""
    told = run("debugfs", "-R", f"imap {path}", disk.path).decode()
    found = re.search(r"located at block (\d+), offset (0x[0-9a-f]+)", told)
    assert found is not None
    block, offset = int(found[1]), int(found[2], 16)
    content = bytearray(disk.path.read_bytes()[block * 4096 : (block + 1) * 4096])
    content[offset : offset + 2] = (0o100000 | mode).to_bytes(2, "little")
    source = disk.path.parent / "journalled"
    source.write_bytes(content)
    disk.do("jo", f"jw -b {block} {source}", *([f"jw -r {block}"] if revoke else []), "jc")
    disk.apply()


@pytest.fixture
def plain(tmp_path: Path) -> Disk:
    """A disk without checksums of metadata: what a test puts into a journal need not have them."""
    source = tmp_path / "source"
    (source / "etc").mkdir(parents=True)
    (source / "bin").mkdir()
    (source / "etc" / "shadow").write_bytes(b"secret\n" * 1000)
    (source / "bin" / "noise").write_bytes(b"n" * 300_000)
    path = tmp_path / "disk"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-b", "4096", "-d", source, path, "32M")
    return Disk(path)


@pytest.mark.parametrize("revoke", [False, True])
def test_a_version_that_only_the_journal_has(tmp_path: Path, plain: Disk, revoke: bool) -> None:
    noise = plain.path.read_bytes().index(b"n" * 200_000)
    files = [plain.copy("0")]
    journalled(plain, "/etc/shadow", 0o666, revoke=revoke)
    files.append(plain.copy("1"))
    for number in range(2, 6):
        with plain.path.open("r+b") as file:
            file.seek(noise + 100_000)
            file.write(bytes([number]) * 5000)
        files.append(plain.copy(str(number)))
    store, captures = case_of(tmp_path / "case", [{"vda": file} for file in files])
    moments = Moments(store)
    frame = file_history(moments, "/etc/shadow", captures)
    assert frame["mode"].tolist() == ([0o644] if revoke else [0o644, 0o666])
    assert frame.attrs["opened"] <= 2, "a journal that stays as it is opens nothing"
    assert spread(frame) == one_by_one(moments, "/etc/shadow", captures)


def test_the_walk_says_what_came_from_the_journal(tmp_path: Path, plain: Disk) -> None:
    from workbench.disk.changes import changed_files

    before = plain.copy("0")
    journalled(plain, "/etc/shadow", 0o666)
    store, captures = case_of(tmp_path / "case", [{"vda": before}, {"vda": plain.copy("1")}])
    moments = Moments(store)
    walk = moments.walk(captures[1])
    assert set(walk[walk["source"] == "journal"]["path"]) == {"/etc/shadow"}
    frame = changed_files(moments, *captures)
    pd.testing.assert_frame_equal(frame, changed_files(moments, *captures, deep=True))
    row = frame[frame["path"] == "/etc/shadow"].iloc[0]
    assert (row["change"], row["source"], row["state"], row["mode"]) == ("metadata", "journal", "replayed", 0o666)


def test_a_capture_that_cannot_be_opened_is_not_one_without_the_file(tmp_path: Path, disk: Disk) -> None:
    first = disk.copy("0")
    disk.do("rm /other")
    disk.apply()
    moments, captures = moments_of(tmp_path, [first, disk.copy("1"), first])
    opener = moments._opener

    def fails(view):
        if view.record.id == captures[1]:
            raise DiskError("damaged")
        return opener(view)

    moments._opener = fails
    frame = file_history(moments, "/other", captures)
    assert frame["present"].isna().tolist() == [False, True, False]
    assert frame["note"].tolist() == ["", "damaged", ""]
    assert last_with(frame) == captures[2]


# Text.


def text(tmp_path: Path, before: bytes, after: bytes, **options: int):
    for name, content in (("a", before), ("b", after)):
        (tmp_path / f"source-{name}").mkdir()
        (tmp_path / f"source-{name}" / "file").write_bytes(content)
    (tmp_path / "source-a" / "gone").write_bytes(b"was\n")
    (tmp_path / "source-a" / "folder").mkdir()
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append(new_disk(tmp_path / name, tmp_path / f"source-{name}").path)
    moments, captures = moments_of(tmp_path, files)
    return lambda path: text_diff(moments, *captures, path, **options)


def test_a_unified_diff(tmp_path: Path) -> None:
    diff = text(tmp_path, b"root\nuser\nend", b"root\nevil\nuser\nend")
    found = diff("/file")
    assert (
        found.text
        == "--- a/file\n+++ b/file\n@@ -1,3 +1,4 @@\n root\n+evil\n user\n end\n\\ No newline at end of file\n"
    )
    assert found.note == ""
    assert diff("/gone").text == "--- a/gone\n+++ b/gone\n@@ -1 +0,0 @@\n-was\n"
    assert diff("/gone").note == "no such file after"
    with pytest.raises(DiskError, match="neither"):
        diff("/nothing")
    with pytest.raises(UnsupportedError, match="directory"):
        diff("/folder")


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    assert text(tmp_path, b"a\0b" * 50, b"a\0c" * 51)("/file").note == "binary: 150 and 153 bytes"


def test_bytes_that_are_not_utf8_are_marked(tmp_path: Path) -> None:
    found = text(tmp_path, b"caf\xe9\n", b"caf\xc3\xa9\x0b\n")("/file")
    assert "-caf\ufffd\n+café\x0b\n" in found.text
    assert "not UTF-8" in found.note


def test_bounds_are_kept(tmp_path: Path) -> None:
    found = text(tmp_path, b"a\n" * 9000, b"b\n" * 9000, most=1 << 20)("/file")
    assert (found.text, found.note) == ("", "too many lines: 9000 and 9000")


def test_too_large_is_said(tmp_path: Path) -> None:
    assert "too large" in text(tmp_path, b"a\n" * 900, b"b\n" * 900, most=1000)("/file").note


def test_equal_is_equal(tmp_path: Path) -> None:
    assert text(tmp_path, b"a\0", b"a\0")("/file").equal
