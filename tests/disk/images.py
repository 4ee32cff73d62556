"""Disks with known content, made without a guest: mkfs on a file, then into a case by the store's own writer."""

from __future__ import annotations

import os
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
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // CLUSTER * CLUSTER
            except OSError:
                break
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
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
