"""Volumes of a disk: what fdisk, gdisk and LVM made is found; what cannot be opened is named; tables may lie."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
import pyvslvm

from workbench.disk.image import Image
from workbench.disk.mounted import open_disks
from workbench.disk.volumes import Volume, find_volumes

from . import images
from .images import Raw, run

MIB = 1 << 20


def volumes(tmp_path: Path, file: Path) -> list[Volume]:
    return find_volumes(Image(images.view_of(tmp_path / "case", vda=file), "disk:vda"), "vda")


def put(disk: Path, offset: int, content: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def small_ext(tmp_path: Path, label: str, uuid: str) -> bytes:
    file = images.sparse(tmp_path / label, 8 * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-U", uuid, file)
    return file.read_bytes()


UUID = "11111111-2222-3333-4444-55555555555{}"


class TestMbr:
    def test_primary_and_logical_partitions(self, tmp_path: Path) -> None:
        disk = images.sparse(tmp_path / "disk")
        table = "label: dos\nlabel-id: 0xcafe0001\n2048,16384\n18432,,E\n20480,16384\n40960,16384\n"
        run("sfdisk", disk, data=table.encode())
        put(disk, 2048 * 512, small_ext(tmp_path, "first", UUID.format(1)))
        put(disk, 20480 * 512, small_ext(tmp_path, "second", UUID.format(2)))
        found = {volume.name: volume for volume in volumes(tmp_path, disk)}
        assert list(found) == ["vda1", "vda5", "vda6"]
        assert (found["vda1"].kind, found["vda1"].label, found["vda1"].uuid) == ("ext4", "first", UUID.format(1))
        assert (found["vda1"].offset, found["vda1"].length) == (2048 * 512, 16384 * 512)
        assert (found["vda5"].label, found["vda5"].part_uuid) == ("second", "cafe0001-05")
        assert found["vda6"].kind == "empty"

    def test_a_loop_of_extended_partitions_ends(self) -> None:
        disk = bytearray(4 * MIB)
        struct.pack_into("<B3xB3xII", disk, 446, 0, 5, 100, 1000)
        disk[510:512] = b"\x55\xaa"
        for at, following in ((100, 50), (150, 0)):
            struct.pack_into("<B3xB3xII", disk, at * 512 + 446, 0, 0x83, 1, 8)
            struct.pack_into("<B3xB3xII", disk, at * 512 + 462, 0, 5, following, 100)
            disk[at * 512 + 510 : at * 512 + 512] = b"\x55\xaa"
        found = find_volumes(Raw(bytes(disk)), "vda")
        assert [volume.name for volume in found] == ["vda5", "vda6", "vda7"]
        assert "loop" in found[-1].note

    def test_what_lies_outside_or_overlaps_is_said(self) -> None:
        disk = bytearray(MIB)
        for number, (first, count) in enumerate(((10, 100), (50, 100), (2000, 100), (1 << 31, 5))):
            struct.pack_into("<B3xB3xII", disk, 446 + 16 * number, 0, 0x83, first, count)
        disk[510:512] = b"\x55\xaa"
        found = find_volumes(Raw(bytes(disk)), "vda")
        notes = [volume.note for volume in found]
        assert "overlaps vda1" in notes[1]
        assert "reaches past" in notes[2]
        assert found[2].length == MIB - 2000 * 512
        assert "outside" in notes[3]
        assert not found[3].pieces


class TestGpt:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        disk = images.sparse(tmp_path / "disk")
        run("sgdisk", "-n1:2048:+8M", "-c1:a system", f"-u1:{UUID.format(9)}", "-n3:0:+8M", disk)
        put(disk, 2048 * 512, small_ext(tmp_path, "first", UUID.format(1)))
        return disk

    def test_partitions_with_names(self, tmp_path: Path, disk: Path) -> None:
        first, third = volumes(tmp_path, disk)
        assert (first.name, first.kind, first.part_label, first.part_uuid) == (
            "vda1", "ext4", "a system", UUID.format(9),
        )  # fmt: skip
        assert (third.name, third.kind, first.note) == ("vda3", "empty", "")

    def test_the_copy_is_read_where_the_first_is_damaged(self, tmp_path: Path, disk: Path) -> None:
        put(disk, 512, bytes(512))
        first, third = volumes(tmp_path, disk)
        assert (first.name, first.kind, third.name) == ("vda1", "ext4", "vda3")
        assert "copy of the table" in first.note

    def test_damaged_entries_are_taken_from_the_copy(self, tmp_path: Path, disk: Path) -> None:
        put(disk, 1024 + 32, b"\xff" * 8)
        first, _ = volumes(tmp_path, disk)
        assert first.offset == 2048 * 512
        assert "copy" in first.note

    def test_both_damaged_is_said(self, tmp_path: Path, disk: Path) -> None:
        put(disk, 512, bytes(512))
        put(disk, images.SIZE - 512, bytes(512))
        (found,) = volumes(tmp_path, disk)
        assert "neither copy" in found.note


def crc(raw: bytes) -> bytes:
    """LVM's checksum: CRC-32 with a beginning of its own and no end."""
    return struct.pack("<I", zlib.crc32(raw, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF)


class TestLvm:
    TEXT = """test {{
id = "abcdef-0000-0000-0000-0000-0000-ghijkl"
seqno = 3
format = "lvm2" # informational
extent_size = 2048
physical_volumes {{
pv0 {{
id = "{uuid}"
device = "/dev/vda"
pe_start = 2048
pe_count = 30
}}
}}
logical_volumes {{
root {{
id = "rrrrrr-0000-0000-0000-0000-0000-rrrrrr"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 2
segment1 {{
start_extent = 0
extent_count = 4
type = "striped"
stripe_count = 1
stripes = [
"pv0", 10
]
}}
segment2 {{
start_extent = 4
extent_count = 4
type = "striped"
stripe_count = 1
stripes = [
"pv0", 2
]
}}
}}
thin {{
id = "tttttt-0000-0000-0000-0000-0000-tttttt"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {{
start_extent = 0
extent_count = 4
type = "thin-pool"
}}
}}
}}
}}
"""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        disk = images.sparse(tmp_path / "disk", 40 * MIB)
        uuid = "0123456789abcdefghijklmnopqrstuv"
        dashed = "-".join([uuid[:6], *(uuid[at : at + 4] for at in range(6, 26, 4)), uuid[26:]])
        label = struct.pack("<8sQIIQ", b"LABELONE", 1, 0, 32, 0)[:24] + b"LVM2 001" + uuid.encode()
        label += struct.pack("<Q4Q4Q", 40 * MIB, MIB, 0, 0, 0, 4096, MIB - 4096, 0, 0)
        text = self.TEXT.format(uuid=dashed).encode() + b"\0"
        area = struct.pack("<I16sIQQ4Q", 0, b" LVM2 x[5A%r0N*>", 1, 4096, MIB - 4096, 512, len(text), 0, 0)
        label = label.ljust(512, b"\0")
        put(disk, 512, label[:16] + crc(label[20:]) + label[20:])
        area = area[:56] + crc(text) + area[60:]
        area = area.ljust(512, b"\0")
        put(disk, 4096, crc(area[4:]) + area[4:])
        put(disk, 4096 + 512, text)
        content = small_ext(tmp_path, "root", UUID.format(1))
        put(disk, MIB + 10 * MIB, content[: 4 * MIB])
        put(disk, MIB + 2 * MIB, content[4 * MIB :])
        return disk

    def test_linear_volumes_are_put_together(self, tmp_path: Path, disk: Path) -> None:
        member, root, thin = volumes(tmp_path, disk)
        assert (member.name, member.kind) == ("vda", "lvm")
        assert (root.name, root.kind, root.label, root.length) == ("test/root", "ext4", "root", 8 * MIB)
        assert [(piece.offset, piece.disk) for piece in root.pieces] == [(0, 11 * MIB), (4 * MIB, 3 * MIB)]
        assert (thin.name, thin.pieces) == ("test/thin", ())
        assert "thin-pool" in thin.note

    def test_another_reader_of_lvm_agrees(self, disk: Path) -> None:
        raw = disk.read_bytes()[4608:8192].rstrip(b"\0")
        begin = raw.index(b"thin {")
        text = raw[:begin] + raw[raw.index(b"}\n}\n", begin) + 4 :] + b"\0"  # it does not know thin pools
        head = struct.pack("<16sIQQ2QI", b" LVM2 x[5A%r0N*>", 1, 4096, MIB - 4096, 512, len(text), 0)
        head = (head[:52] + crc(text)).ljust(508, b"\0")
        put(disk, 4096, crc(head) + head + text.ljust(4096, b"\0"))
        handle = pyvslvm.handle()
        handle.open_file_object(io.BytesIO(disk.read_bytes()))
        group = handle.get_volume_group()
        assert group.name == "test"
        assert group.number_of_logical_volumes == 1, "it cannot read one of two segments"

    def test_text_that_is_no_metadata_is_a_note(self, tmp_path: Path, disk: Path) -> None:
        put(disk, 4096 + 512 + 30, b"{" * 100)
        _, broken = volumes(tmp_path, disk)
        assert "cannot be read" in broken.note


class TestWholeDisks:
    def test_a_file_system_without_a_table(self, tmp_path: Path, source: Path) -> None:
        (found,) = volumes(tmp_path, images.ext(tmp_path / "disk", source))
        assert (found.name, found.kind, found.offset, found.length) == ("vda", "ext4", 0, images.SIZE)

    @pytest.mark.parametrize("bits", [12, 32])
    def test_a_fat_is_no_table(self, tmp_path: Path, bits: int) -> None:
        (found,) = volumes(tmp_path, images.fat(tmp_path / "disk", bits, MIB if bits == 12 else 64 * MIB, "-s", "1"))
        assert (found.name, found.kind) == ("vda", f"fat{bits}")

    @pytest.mark.parametrize(
        ("kind", "offset", "mark"),
        [
            ("swap", 4086, b"SWAPSPACE2"),
            ("btrfs", 0x10040, b"_BHRfS_M"),
            ("mdraid", 4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
            ("bcache", 4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
            ("zfs", 128 << 10, bytes.fromhex("0cb1ba0000000000")),
            ("bitlocker", 3, b"-FVE-FS-"),
            ("unknown", 1 << 20, b"something"),
            ("empty", 0, b""),
        ],
    )
    def test_marks_of_what_cannot_be_read(self, tmp_path: Path, kind: str, offset: int, mark: bytes) -> None:
        disk = images.sparse(tmp_path / "disk")
        put(disk, offset, mark)
        view = images.view_of(tmp_path / "case", vda=disk)
        disks = open_disks(view)
        (found,) = disks.volumes
        assert found.kind == kind
        assert disks.mounted == ()
        assert disks.findings, "what it is instead is said"

    def test_encryption(self, tmp_path: Path) -> None:
        disk = images.sparse(tmp_path / "disk")
        (tmp_path / "key").write_bytes(b"secret")
        words = ["--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--uuid", UUID.format(7)]
        run("cryptsetup", "luksFormat", "--type", "luks2", *words, disk, tmp_path / "key")
        (found,) = volumes(tmp_path, disk)
        assert (found.kind, found.uuid) == ("luks", UUID.format(7))
        assert "encrypted" in found.note


class TestMounted:
    def test_the_guests_own_table_says_where(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        for path in ("etc", "usr", "home", "data"):
            (root / path).mkdir(parents=True)
        fstab = (
            f"UUID={UUID.format(1)} / ext4 defaults 0 1\nLABEL=home /home ext4 rw 0 2\n/dev/sdz9 /data ext4 rw 0 2\n"
        )
        (root / "etc" / "fstab").write_text(fstab)
        (root / "to_home").symlink_to("/home/alice")
        (root / "round").symlink_to("/round2")
        (root / "round2").symlink_to("round")
        (root / "out").symlink_to("../../../../etc/fstab")
        home = tmp_path / "home"
        (home / "alice").mkdir(parents=True)
        (home / "alice" / "secret").write_text("mine")
        (home / "alice" / "system").symlink_to("/etc/fstab")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").write_text("other")
        disks = open_disks(
            images.view_of(
                tmp_path / "case",
                vda=images.ext(tmp_path / "vda", root, "ext4", "-U", UUID.format(1)),
                vdb=images.ext(tmp_path / "vdb", home, "ext4", "-L", "home"),
                vdc=images.ext(tmp_path / "vdc", tmp_path / "other", "ext4"),
            )
        )
        assert {each.mount: each.volume.name for each in disks.mounted} == {"/": "vda", "/home": "vdb", "/vdc": "vdc"}
        assert ["sdz9" in finding.words for finding in disks.findings] == [True]
        for path, inner in (
            ("/etc/fstab", "/etc/fstab"),
            ("/to_home/secret", "/alice/secret"),
            ("/home/alice/system", "/etc/fstab"),
            ("/home/alice/../../etc//./fstab", "/etc/fstab"),
            ("/out", "/etc/fstab"),
            ("/vdc/file", "/file"),
            ("/home", "/"),
            ("/", "/"),
        ):
            assert disks.resolve(path)[1] == inner
        assert disks.resolve("/to_home", follow=False)[1] == "/to_home"
        from workbench.errors import DiskError

        for path, words in (("/round", "loop"), ("/nothing/x", "no such file"), ("/etc/fstab/x", "no such file")):
            with pytest.raises(DiskError, match=words):
                disks.resolve(path)
