"""Journals: what was only in one is read after a replay on an overlay; the capture stays as it is."""

from __future__ import annotations

import stat
import struct
from pathlib import Path

import pytest

from workbench.disk import journal
from workbench.disk.image import Slice
from workbench.disk.journal import replay
from workbench.disk.mounted import open_disks
from workbench.disk.opening import open_filesystem
from workbench.disk.signatures import identify

from . import images
from .images import TEXT, TIME_NS, run


def pending(place: Path, source: Path, kind: str = "ext4") -> Path:
    """An ext whose root directory's new block is only in the journal: there `a.txt` is called `z.txt`."""
    file = images.ext(place / "disk", source, kind, "-b", "4096", "-O", "^metadata_csum,^dir_index")
    block = int(run("debugfs", "-R", "blocks /", file).split()[0])
    with file.open("rb") as disk:
        disk.seek(block * 4096)
        (place / "block").write_bytes(disk.read(4096).replace(b"a.txt", b"z.txt"))
    commands = f"jo\njw -b {block} {place / 'block'}\njc\n"
    (place / "commands").write_text(commands)
    run("debugfs", "-w", "-f", place / "commands", file)
    return file


def digest(volume: Slice) -> bytes:
    import hashlib

    return hashlib.sha256(volume.read(0, volume.size)).digest()


class TestReplay:
    @pytest.mark.parametrize("kind", ["ext3", "ext4"])
    def test_what_only_the_journal_has_is_read(self, kind: str, source: Path, tmp_path: Path) -> None:
        volume = images.volume_of(tmp_path / "case", pending(tmp_path, source, kind))
        before = digest(volume)
        raw = open_filesystem(volume)
        assert raw.state == "unreplayed"
        assert "/a.txt" in {entry.path for entry in raw.walk()}
        found = replay(volume, time_ns=TIME_NS)
        assert found.state == "replayed", found.reason
        system = open_filesystem(found.volume, state=found.state)
        names = {entry.path for entry in system.walk()}
        assert "/z.txt" in names
        assert "/a.txt" not in names
        assert system.open(system.lookup("/z.txt").inode).readall() == TEXT
        assert digest(volume) == before, "the capture is as it was"

    def test_the_same_capture_gives_the_same_bytes_and_digests(self, source: Path, tmp_path: Path) -> None:
        volume = images.volume_of(tmp_path / "case", pending(tmp_path, source))
        first, second = replay(volume, time_ns=TIME_NS), replay(volume, time_ns=TIME_NS)
        assert (first.before, first.after) == (second.before, second.after)
        assert first.before != first.after
        assert first.overlay is not None
        assert first.after == first.overlay.digest()
        assert 0 < sum(length for _, length in first.changed) < 1 << 20

    def test_a_partition_is_replayed_in_its_place(self, source: Path, tmp_path: Path) -> None:
        file = pending(tmp_path, source)
        disk = images.sparse(tmp_path / "parted", images.SIZE + (2 << 20))
        run("sgdisk", "-n1:2048:+64M", disk)
        with disk.open("r+b") as target:
            target.seek(1 << 20)
            target.write(file.read_bytes())
        disks = open_disks(images.view_of(tmp_path / "case", vda=disk))
        (mounted,) = disks.mounted
        assert mounted.filesystem.lookup("/z.txt").kind == "file"
        assert all(offset >= 1 << 20 for offset, _ in mounted.replay.changed)

    def test_a_clean_one_is_left_alone(self, source: Path, tmp_path: Path) -> None:
        volume = images.volume_of(tmp_path / "case", images.ext(tmp_path / "disk", source))
        found = replay(volume)
        assert (found.state, found.changed, found.before, found.volume) == ("clean", [], "", volume)


class TestUnreplayed:
    def test_without_the_tool(self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        volume = images.volume_of(tmp_path / "case", pending(tmp_path, source))
        monkeypatch.setattr(journal.shutil, "which", lambda *_, **__: None)
        found = replay(volume)
        assert (found.state, found.reason) == ("unreplayed", "e2fsck is not installed")
        assert found.volume is volume

    @pytest.mark.parametrize(
        ("script", "words"), [("sleep 1000", "longer than"), ("exit 8", "ended with 8"), ("exit 0", "left")]
    )
    def test_a_tool_that_fails_or_hangs(
        self, script: str, words: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volume = images.volume_of(tmp_path / "case", pending(tmp_path, source))
        tool = tmp_path / "e2fsck"
        tool.write_text(f"#!/bin/sh\nexec {script}\n" if "sleep" in script else f"#!/bin/sh\n{script}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(journal.shutil, "which", lambda *_, **__: str(tool))
        found = replay(volume, seconds=0.5 if "sleep" in script else 60.0, directory=tmp_path)
        assert found.state == "unreplayed"
        assert words in found.reason
        assert not list(tmp_path.glob("replay-*")), "no copy stays"

    def test_a_damaged_journal(self, source: Path, tmp_path: Path) -> None:
        file = pending(tmp_path, source)
        block = int(run("debugfs", "-R", "blocks <8>", file).split()[0])
        with file.open("r+b") as disk:
            disk.seek(block * 4096)
            disk.write(b"\xff" * 4096)
        found = replay(images.volume_of(tmp_path / "case", file))
        assert found.state in ("unreplayed", "replayed")
        assert found.reason, "what became of it is said"

    def test_no_room_for_the_copy(self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        volume = images.volume_of(tmp_path / "case", pending(tmp_path, source))
        monkeypatch.setattr(journal, "_MOST", 1000)
        found = replay(volume)
        assert found.state == "unreplayed"
        assert "too much" in found.reason


class TestOtherLogs:
    def test_the_log_of_xfs(self, tmp_path: Path) -> None:
        file = images.xfs(tmp_path / "disk", tmp_path)
        assert replay(images.volume_of(tmp_path / "clean", file)).state == "clean"
        raw = file.read_bytes()
        shift, agblocks = raw[124], struct.unpack_from(">I", raw, 84)[0]
        start = struct.unpack_from(">Q", raw, 48)[0]
        log = ((start >> shift) * agblocks + (start & (1 << shift) - 1)) * 4096
        at = max(at for at in range(log, log + (16 << 20), 512) if raw[at : at + 4] == b"\xfe\xed\xba\xbe")
        with file.open("r+b") as disk:
            disk.seek(at + 512 + 9)
            disk.write(b"\0")
        volume = images.volume_of(tmp_path / "case", file)
        found = replay(volume, identify(volume))
        assert found.state == "unreplayed"
        assert "log was not replayed" in found.reason
        disks = open_disks(images.view_of(tmp_path / "again", vda=file))
        assert disks.mounted[0].filesystem.state == "unreplayed"
        assert [finding for finding in disks.findings if "unreplayed" in finding.words]

    def test_the_log_of_ntfs(self, tmp_path: Path) -> None:
        file = images.sparse(tmp_path / "disk")
        run("mkntfs", "-Q", "-F", file)
        volume = images.volume_of(tmp_path / "clean", file)
        assert replay(volume).state == "clean"
        (extent, *_) = open_filesystem(volume).extents(2)
        page = bytearray(4096)
        page[:4] = b"RSTR"
        struct.pack_into("<HHQ", page, 4, 30, 9, 0)
        struct.pack_into("<IIHH", page, 16, 4096, 4096, 48, 1)
        struct.pack_into("<QHHHH", page, 48, 77, 1, 0xFFFF, 0, 0)
        with file.open("r+b") as disk:
            disk.seek(extent.offset)
            disk.write(page)
        found = replay(images.volume_of(tmp_path / "case", file))
        assert found.state == "unreplayed"
        assert "log was not replayed" in found.reason
