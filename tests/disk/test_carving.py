"""Carving: each kind of file out of free clusters with its exact length; nothing out of a clean disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import sqlite3
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from workbench.disk.carving import COLUMNS, KINDS, carve, carved_files
from workbench.disk.mounted import open_disks

from . import images
from .images import Raw, run

NOISE = random.Random(5).randbytes(50_000)


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", NOISE), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _jpeg() -> bytes:
    scan = NOISE.replace(b"\xff", b"\xff\0")
    return (
        b"\xff\xd8\xff\xe0"
        + struct.pack(">H", 16)
        + bytes(14)
        + b"\xff\xda"
        + struct.pack(">H", 8)
        + bytes(6)
        + scan
        + b"\xff\xd9"
    )


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", NOISE)
        archive.writestr("b", b"text")
    return file.getvalue()


def _sqlite(place: Path) -> bytes:
    base = sqlite3.connect(place / "base")
    base.execute("create table t (x)")
    base.executemany("insert into t values (?)", [(NOISE[:900],)] * 50)
    base.commit()
    base.close()
    return (place / "base").read_bytes()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {
        "elf": Path(sys.executable).resolve().read_bytes(),
        "gzip": gzip.compress(NOISE, mtime=0),
        "png": _png(),
        "jpeg": _jpeg(),
        "pdf": b"%PDF-1.7\n" + NOISE.replace(b"%", b"") + b"\nstartxref\n9\n%%EOF\n",
        "zip": _zip(),
        "sqlite": _sqlite(tmp_path_factory.mktemp("sqlite")),
        "log": b"".join(b"Nov 24 12:0%d:00 host sshd[1]: line %d\n" % (n % 10, n) for n in range(300)),
    }


def test_there_is_a_test_for_every_kind(planted: dict[str, bytes]) -> None:
    assert set(planted) == set(KINDS)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_deleted_file_is_carved_whole(kind: str, planted: dict[str, bytes], tmp_path: Path) -> None:
    content = planted[kind]
    disk = bytes(8192) + content + bytes(-len(content) % 4096) + bytes(4096)
    (found,) = carve(Raw(disk), iter([(4096, len(disk) - 4096)]), 4096)
    assert (found.offset, found.kind, found.whole) == (8192, kind, True)
    assert found.size == len(content)
    assert found.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", list(KINDS))
def test_one_that_is_cut_says_so(kind: str, planted: dict[str, bytes]) -> None:
    content = planted[kind][: len(planted[kind]) // 2]
    found = list(carve(Raw(content), iter([(0, len(content))]), 4096))
    assert not [each for each in found if each.kind == kind and each.whole] or kind == "log"
    assert all(each.size <= len(content) for each in found)


def test_signatures_that_lie_end(planted: dict[str, bytes]) -> None:
    made = random.Random(9)
    for kind, (magic, _) in KINDS.items():
        for _ in range(40):
            content = bytearray(planted[kind][:20_000])
            for _ in range(30):
                content[made.randrange(len(magic), 300)] = made.choice([0, 0xFF, made.randrange(256)])
            for each in carve(Raw(bytes(content)), iter([(0, len(content))]), 4096):
                assert 0 < each.size <= len(content)


def test_the_free_clusters_of_a_moment(planted: dict[str, bytes], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "kept").write_bytes(planted["png"])
    file = images.ext(tmp_path / "disk", tree)
    clean = carved_files(open_disks(images.view_of(tmp_path / "clean", vda=file)))
    assert len(clean) == 0, "what a file uses is not carved"
    assert dict(clean.dtypes.astype(str)) == COLUMNS
    (tmp_path / "gone").write_bytes(planted["zip"])
    (tmp_path / "commands").write_text(f"write {tmp_path / 'gone'} gone\nrm gone\n")
    run("debugfs", "-w", "-f", tmp_path / "commands", file)
    found = carved_files(open_disks(images.view_of(tmp_path / "case", vda=file)))
    assert found["kind"].tolist() == ["zip"]
    assert found["sha256"].tolist() == [hashlib.sha256(planted["zip"]).hexdigest()]
    offset, size = int(found["offset"][0]), int(found["size"][0])
    assert file.read_bytes()[offset : offset + size] == planted["zip"]
