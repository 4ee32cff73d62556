"""Disks with known content, made without a guest: mkfs on a file, then into a case by the store's own writer."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from workbench.disk.image import Image, Slice
from workbench.model import CaptureId, CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaptureView, CaseStore

GUEST = GuestId("0d15c0de-0000-4000-8000-0123456789ab")
CLUSTER = 65536
TIME_NS = 1_600_000_000 * 10**9
SIZE = 64 << 20


def run(*words: object, data: bytes | None = None, check: bool = True) -> bytes:
    """Run a tool of the host in a plain environment; return what it printed."""
    environment = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "LC_ALL": "C",
        "TZ": "UTC",
        "MTOOLS_SKIP_CHECK": "1",
    }
    done = subprocess.run(
        [str(word) for word in words], input=data, capture_output=True, env=environment, check=False, timeout=120
    )
    assert not check or done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def sparse(path: Path, size: int = SIZE) -> Path:
    """An empty file of this length."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def _blocks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The clusters of a file that are not all zero; holes are not read."""
    index: list[int] = []
    found: list[bytes] = []
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at, end = begin // CLUSTER * CLUSTER, os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            while at < end:
                content = os.pread(file.fileno(), CLUSTER, at).ljust(CLUSTER, b"\0")
                if any(content):
                    index.append(at // CLUSTER)
                    found.append(content)
                at += CLUSTER
    return np.array(index, np.int64), np.frombuffer(b"".join(found), np.uint8).reshape(-1, CLUSTER)


def case_of(path: Path, moments: Sequence[Mapping[str, Path]]) -> tuple[CaseStore, list[CaptureId]]:
    """A case with a capture for each moment: disks by name, each the file that holds it then."""
    store = CaseStore.create(path)
    store.add_guest(GUEST, "disks")
    made = []
    with store.writer(GUEST) as writer:
        for number, disks in enumerate(moments):
            specs = [
                RegionSpec(f"disk:{name}", RegionKind.DISK, file.stat().st_size, CLUSTER)
                for name, file in disks.items()
            ]
            with writer.begin(specs) as transaction:
                for spec, file in zip(specs, disks.values(), strict=True):
                    transaction.put(spec.name, *_whole(spec, file))
                record = transaction.commit(
                    time_ns=TIME_NS + number * 10**9, mode=CaptureMode.CONTINUOUS, reason=str(number), facts={}
                )
            made.append(record.id)
    return store, made


def _whole(spec: RegionSpec, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """All clusters for a small disk, so that what became zero is so; else those that hold something."""
    if spec.length > 512 << 20:
        return _blocks(file)
    raw = file.read_bytes().ljust(spec.blocks * CLUSTER, b"\0")
    return np.arange(spec.blocks, dtype=np.int64), np.frombuffer(raw, np.uint8).reshape(-1, CLUSTER)


def view_of(path: Path, **disks: Path) -> CaptureView:
    """A capture with these disks, in a new case."""
    store, made = case_of(path, [disks])
    return store.view(made[0])


def volume_of(path: Path, file: Path) -> Slice:
    """A disk in a new case, as one volume."""
    image = Image(view_of(path, vda=file), "disk:vda")
    return Slice.of(image, 0, image.size)


class Raw:
    """A host's file as bytes, without a case: for what need not be captured."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]

    def stretches(self, offset: int, length: int):
        length = min(length, self.size - offset)
        if length > 0:
            yield offset, length


# The same tree for every file system that can hold it.

TEXT = b"nothing to see here\n"
BIG = bytes(range(256)) * (3 << 12)  # 3 MiB


def tree(path: Path) -> Path:
    """Files, links, a hole, names that are not UTF-8."""
    (path / "etc" / "deep" / "er").mkdir(parents=True)
    (path / "a.txt").write_bytes(TEXT)
    os.link(path / "a.txt", path / "etc" / "b.txt")
    (path / "big").write_bytes(BIG)
    (path / "to_a").symlink_to("a.txt")
    (path / "far").symlink_to("x/" * 60)
    (path / "loop").symlink_to("loop")
    (path / "etc" / "up").symlink_to("../..")
    os.mkfifo(path / "pipe")
    Path(os.fsdecode(os.fsencode(path) + b"/odd\xff\xfe")).write_bytes(b"odd")
    with (path / "holes").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(3 << 20)
    (path / "a.txt").chmod(0o640)
    os.utime(path / "a.txt", ns=(TIME_NS, TIME_NS + 5 * 10**9))
    return path


def ext(file: Path, source: Path, kind: str = "ext4", *options: str, size: int = SIZE) -> Path:
    """A file system of ext with a tree in it."""
    run("mke2fs", "-q", "-F", "-t", kind, "-L", "data", *options, "-d", source, sparse(file, size))
    return file


def fat(file: Path, bits: int, size: int = SIZE, *options: str) -> Path:
    """A FAT with a file, a long name, a directory."""
    run("mkfs.fat", "-F", bits, "-n", "DATA", "-i", "1234abcd", *options, sparse(file, size))
    run("mmd", "-i", file, "::/etc")
    for name, content in (("a.txt", TEXT), ("A name that is long.dat", BIG[: 1 << 18]), ("etc/b.txt", TEXT)):
        source = file.with_suffix(".tmp")
        source.write_bytes(content)
        run("mcopy", "-i", file, source, f"::/{name}")
    return file


def xfs(file: Path, place: Path) -> Path:
    """An XFS with files, links and a pipe, by mkfs's own list of what to make."""
    (place / "small").write_bytes(TEXT)
    (place / "large").write_bytes(BIG)
    lines = [
        "/dummy", "0 0", "d--755 0 0",
        f"a.txt ---640 5 6 {place}/small", f"big ---644 0 0 {place}/large",
        "etc d--755 0 0", f"b.txt ---644 0 0 {place}/small", "$",
        "to_a l--777 0 0 a.txt", f"far l--777 0 0 {'x/' * 60}", "pipe p--644 0 0", "$", "$", "",
    ]  # fmt: skip
    (place / "list").write_text("\n".join(lines))
    run("mkfs.xfs", "-q", "-f", "-L", "data", "-p", place / "list", sparse(file, 320 << 20))
    return file


def exfat(file: Path, files: Mapping[str, bytes]) -> Path:
    """An exFAT with files in its root directory: written here, since no tool does so without a mount.

    Source: Microsoft's exFAT file system specification, 7.4 to 7.7.
    """
    run("mkfs.exfat", "-L", "data", sparse(file))
    raw = bytearray(file.read_bytes())
    sector, cluster = 1 << raw[108], 1 << (raw[108] + raw[109])
    heap, root = (struct.unpack_from("<I", raw, at)[0] for at in (88, 96))
    begin = heap * sector
    directory = begin + (root - 2) * cluster
    bitmap = next(at for at in range(directory, directory + cluster, 32) if raw[at] == 0x81)
    bits = begin + (struct.unpack_from("<I", raw, bitmap + 20)[0] - 2) * cluster
    end, free = next(at for at in range(directory, directory + cluster, 32) if not raw[at]), root + 8
    for name, content in files.items():
        count = -(-len(content) // cluster)
        for number in range(free, free + count):
            raw[bits + (number - 2) // 8] |= 1 << (number - 2) % 8
        raw[begin + (free - 2) * cluster : begin + (free - 2) * cluster + len(content)] = content
        entries = _exfat_entries(name, free, len(content))
        raw[end : end + len(entries)] = entries
        end, free = end + len(entries), free + count
    file.write_bytes(raw)
    return file


def _exfat_entries(name: str, cluster: int, length: int) -> bytes:
    """A file's set of entries: contiguous, no chain."""
    text = name.encode("utf-16-le")
    parts = [text[at : at + 30].ljust(30, b"\0") for at in range(0, len(text), 30)]
    stamp = (40 << 25) | (9 << 21) | (13 << 16) | (12 << 11)  # 2020-09-13 12:00
    entries = bytearray(
        struct.pack("<BBHH2xIIIBBBBB7x", 0x85, 1 + len(parts), 0, 0x20, *[stamp] * 3, 0, 0, 0x80, 0x80, 0x80)
    )
    hashed = 0
    for byte in name.upper().encode("utf-16-le"):
        hashed = ((hashed & 1) << 15 | hashed >> 1) + byte & 0xFFFF
    entries += struct.pack("<BBBBHHQIIQ", 0xC0, 3, 0, len(name), hashed, 0, length, 0, cluster, length)
    for part in parts:
        entries += b"\xc1\0" + part
    total = 0
    for at, byte in enumerate(entries):
        if at not in (2, 3):
            total = ((total & 1) << 15 | total >> 1) + byte & 0xFFFF
    struct.pack_into("<H", entries, 2, total)
    return bytes(entries)


def crowded(file: Path, count: int) -> Path:
    """An ext4 with a directory of many names (all of one file), whose blocks are written here: mke2fs takes minutes."""
    place = file.with_suffix(".tree")
    place.mkdir()
    (place / "one").write_bytes(TEXT)
    names = [f"{number:06d}".encode() for number in range(count)]
    per, blocks = 4096 // 16, []
    for first in range(0, count, per):
        part = names[first : first + per]
        records = [struct.pack("<IHBB", 13, 16, 6, 1) + name.ljust(8, b"\0") for name in part]
        records[-1] = records[-1][:4] + struct.pack("<H", 4096 - 16 * (len(part) - 1)) + records[-1][6:]
        blocks.append(b"".join(records).ljust(4096, b"\0"))
    (place / "many").write_bytes(b"".join(blocks))
    ext(file, place, "ext4", "-b", "4096", "-O", "^metadata_csum,^dir_index")
    found = run("debugfs", "-R", "stat /one", file).decode().split()[1]
    data = file.read_bytes()
    old, new = (struct.pack("<IHBB", number, 16, 6, 1) for number in (13, int(found)))
    file.write_bytes(data.replace(old, new))
    run("debugfs", "-w", "-R", "sif /many mode 040755", file)
    return file
