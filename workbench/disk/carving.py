"""Carve files out of the clusters that no file uses, by their signatures.

Files begin at a cluster and are taken to lie in one piece: what was in pieces comes out cut or not at all. How long one
is, is told by its own structure, walked with bounds; where that breaks off, the row says `whole` is false. Refuses to
read what is allocated, and to name what it finds.

Sources: ELF gABI (e_shoff and program headers), RFC 1952 (gzip), the PNG specification (chunks), ITU T.81 (JPEG
markers), ISO 32000-1 7.5.5 (%%EOF), PKWARE's APPNOTE 4.3.16 (end of central directory), the SQLite file format 1.3.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from workbench.disk.image import Bytes
from workbench.disk.mounted import Disks, Mounted
from workbench.errors import DiskError, UnsupportedError

__all__ = ["COLUMNS", "KINDS", "Carved", "carve", "carved_files"]

COLUMNS = {
    "volume": "string",
    "disk": "string",
    "offset": "int64",
    "size": "int64",
    "kind": "string",
    "whole": "bool",
    "sha256": "string",
}
"""Columns and dtypes of the frame."""
_MOST = 100_000
_MOST_SIZE = 64 << 20
"""Bytes of one file at most."""
_STEP = 8 << 20
_INFLATED = 256 << 20
_LINES = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]{1,4096}\n){3,}")
_STAMP = re.compile(rb"^(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d|[A-Z][a-z]{2} [ 0-3]\d \d\d:\d\d:\d\d)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Carved:
    """A file found by its signature.

    Attributes
    ----------
    offset : int
        Bytes from the disk's beginning.
    size : int
        Bytes.
    kind : str
    whole : bool
        Whether its own structure says where it ends.
    sha256 : str
    """

    offset: int
    size: int
    kind: str
    whole: bool
    sha256: str


_Length = tuple[int, bool]


def _elf(data: bytes) -> _Length | None:
    wide, order = data[4:5] == b"\2", "<" if data[5:6] == b"\1" else ">"
    if len(data) < 64 or data[4] not in (1, 2) or data[5] not in (1, 2) or data[6] != 1:
        return None
    if wide:
        phoff, shoff = struct.unpack_from(f"{order}QQ", data, 32)
        phsize, phnum, shsize, shnum = struct.unpack_from(f"{order}HHHH", data, 54)
        segment = (f"{order}8xQ16xQ", 40)
    else:
        phoff, shoff = struct.unpack_from(f"{order}II", data, 28)
        phsize, phnum, shsize, shnum = struct.unpack_from(f"{order}HHHH", data, 42)
        segment = (f"{order}4xI8xI", 20)
    end = shoff + shsize * shnum if shoff else 0
    for number in range(min(phnum, 128)):
        at = phoff + number * phsize
        if at + segment[1] > len(data):
            break
        offset, size = struct.unpack_from(segment[0], data, at)
        end = max(end, offset + size)
    return (end, end <= len(data)) if end > 64 else None


def _gzip(data: bytes) -> _Length | None:
    if data[2:3] != b"\x08" or data[3] & 0xE0:
        return None
    inflate, done = zlib.decompressobj(31), 0
    try:
        for at in range(0, len(data), 1 << 16):
            part = data[at : at + (1 << 16)]
            while part and not inflate.eof:
                done += len(inflate.decompress(part, 1 << 20))
                part = inflate.unconsumed_tail
                if done > _INFLATED:
                    return at, False
            if inflate.eof:
                return at + min(1 << 16, len(data) - at) - len(inflate.unused_data), True
    except zlib.error:
        return (min(len(data), 4096), False) if done else None
    return len(data), False


def _png(data: bytes) -> _Length | None:
    at = 8
    if data[12:16] != b"IHDR":
        return None
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if not kind.isalpha():
            return at, False
        at += 12 + length
        if kind == b"IEND":
            return at, at <= len(data)
    return min(at, len(data)), False


def _jpeg(data: bytes) -> _Length | None:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xD9:
            return at + 2, True
        if marker == 0xFF or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + length
        if marker == 0xDA:
            at = _scan(data, at)
    return (at, False) if at > 4 else None


def _scan(data: bytes, at: int) -> int:
    """Return where the next marker is after entropy-coded bytes."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return len(data)
        if data[at + 1] and not 0xD0 <= data[at + 1] <= 0xD7:
            return at
        at += 2


def _pdf(data: bytes) -> _Length | None:
    last = data.rfind(b"%%EOF", 0, (data.find(b"%PDF-", 5) + 1 or len(data) + 1) - 1)
    if last < 0:
        return min(len(data), 4096), False
    end = last + 5
    while data[end : end + 1] in (b"\r", b"\n") and end < last + 7:
        end += 1
    return end, True


def _zip(data: bytes) -> _Length | None:
    """Find an end of the central directory whose offsets lead back to the beginning."""
    at = data.find(b"PK\5\6")
    while at >= 0 and at + 22 <= len(data):
        size, offset, comment = struct.unpack_from("<IIH", data, at + 12)
        if offset + size == at and (not size or data[offset : offset + 4] == b"PK\1\2"):
            return at + 22 + comment, at + 22 + comment <= len(data)
        at = data.find(b"PK\5\6", at + 4)
    return min(len(data), 4096), False


def _sqlite(data: bytes) -> _Length | None:
    page, pages = struct.unpack_from(">H", data, 16)[0], struct.unpack_from(">I", data, 28)[0]
    page = 65536 if page == 1 else page
    if page < 512 or page & (page - 1):
        return None
    size = max(1, pages) * page
    return size, pages > 0 and size <= len(data)


def _log(data: bytes) -> _Length | None:
    """Lines of text of which some begin with a time."""
    found = _LINES.match(data[: 4 << 20])
    if found is None or not _STAMP.search(found[0][:8192]):
        return None
    end = found.end()
    return end, data[end : end + 1] in (b"", b"\0")


KINDS: dict[str, tuple[bytes, Callable[[bytes], _Length | None]]] = {
    "elf": (b"\x7fELF", _elf),
    "gzip": (b"\x1f\x8b\x08", _gzip),
    "png": (b"\x89PNG\r\n\x1a\n", _png),
    "jpeg": (b"\xff\xd8\xff", _jpeg),
    "pdf": (b"%PDF-", _pdf),
    "zip": (b"PK\3\4", _zip),
    "sqlite": (b"SQLite format 3\0", _sqlite),
    "log": (b"", _log),
}
"""What is carved: the signature and how long such a file is, in bytes, and whether its structure says so."""


def carve(disk: Bytes, runs: Iterator[tuple[int, int]], cluster: int) -> Iterator[Carved]:
    """Yield the files that begin at a cluster of the given runs.

    Parameters
    ----------
    disk : Bytes
    runs : iterator of (int, int)
        Offset and length in bytes of the disk.
    cluster : int
        Bytes.

    Raises
    ------
    StoreError
    """
    for begin, length in runs:
        at = begin
        while at < begin + length:
            data = disk.read(at, min(_STEP, begin + length - at))
            if not data:
                break
            skip = 0
            while skip < len(data):
                found = _at(disk, at + skip, begin + length, data[skip : skip + max(cluster, 512)])
                if found is None:
                    skip += cluster
                    continue
                yield found
                skip += max(1, -(-found.size // cluster)) * cluster
            at += skip


def _at(disk: Bytes, offset: int, end: int, start: bytes) -> Carved | None:
    """Return the file that begins here, if one does."""
    if not start[:1].strip(b"\0"):
        return None
    for kind, (magic, measure) in KINDS.items():
        if not start.startswith(magic) or (not magic and not _STAMP.search(start)):
            continue
        data = disk.read(offset, min(_MOST_SIZE, end - offset))
        try:
            found = measure(data)
        except (struct.error, IndexError):
            found = None
        if found is not None:
            content = data[: found[0]]
            return Carved(offset, len(content), kind, found[1], hashlib.sha256(content).hexdigest())
    return None


def carved_files(disks: Disks) -> pd.DataFrame:
    """Carve the free space of all file systems that can tell theirs.

    Returns
    -------
    DataFrame
        volume, disk, offset (bytes from the disk's beginning), size (bytes), kind ("elf", "gzip", "png", "jpeg",
        "pdf", "zip", "sqlite", "log"), whole (whether its own structure says where it ends), sha256.
        `attrs["findings"]` names the volumes that cannot tell, and whether there was too much.

    Raises
    ------
    StoreError
    """
    rows: list[tuple[object, ...]] = []
    findings = []
    for mounted in disks.mounted:
        try:
            for found in carve(mounted.replay.volume.under, _stored(mounted), max(512, mounted.filesystem.cluster)):
                if len(rows) >= _MOST:
                    findings.append(f"more than {_MOST} files: the rest is left out")
                    break
                rows.append(
                    (
                        mounted.volume.name, mounted.volume.disk,
                        found.offset, found.size, found.kind, found.whole, found.sha256,
                    )
                )  # fmt: skip
        except (DiskError, UnsupportedError) as error:
            findings.append(f"{mounted.volume.name}: {error}")
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    frame.attrs["findings"] = findings
    return frame


def _stored(mounted: Mounted) -> Iterator[tuple[int, int]]:
    """Yield free runs without what the store knows to be zero, aligned to clusters of the file system."""
    under, cluster = mounted.replay.volume.under, max(512, mounted.filesystem.cluster)
    for run in mounted.filesystem.unallocated():
        last = run.offset
        for offset, length in under.stretches(run.offset, run.length):
            begin = max(last, run.offset + (offset - run.offset) // cluster * cluster)
            end = min(run.offset + run.length, offset + length)
            if end > begin:
                yield begin, end - begin
                last = run.offset + -(-(end - run.offset) // cluster) * cluster
