"""Find the volumes of a disk: partitions (MBR, GPT), logical volumes of LVM, or the whole disk.

What cannot be opened (encrypted, a member of something larger, unknown, empty) is a volume with a note that says so.
Refuses to trust a table: links of extended partitions end, ranges are cut at the disk's end and said to be.

Sources: the UEFI specification (5.3, GUID Partition Table), the Linux kernel's block/partitions/{efi,msdos}.c.
"""

from __future__ import annotations

import struct
import uuid as uuids
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from workbench.disk.image import Piece, Slice, SparseBytes
from workbench.disk.lvm import logical_volumes
from workbench.disk.signatures import Signature, identify
from workbench.errors import DiskError

__all__ = ["Volume", "find_volumes"]

_SECTORS = (512, 4096)
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_MOST_LOGICAL = 128
_MOST_ENTRIES = 1024
_BOOT_KINDS = ("fat12", "fat16", "fat32", "ntfs", "exfat", "bitlocker", "luks", "xfs", "lvm")
"""What fills the sector in which a table would be."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A stretch of a disk that may hold a file system.

    Attributes
    ----------
    name : str
        "vda1", "vda" for the whole disk, "group/name" for a logical volume.
    disk : str
        The disk's name.
    offset, length : int
        Bytes of the disk; of a logical volume the first byte, and all bytes in all its pieces.
    kind : str
        "ext4", "xfs" ... or "luks", "swap", "lvm", "unknown", "empty" ...
    label, uuid : str
        Of what it holds; empty where there is none.
    note : str
        What there is to know, in words.
    part_label, part_uuid : str
        Of the partition itself.
    pieces : tuple of Piece
        Where it lies on the disk; none if it cannot be read.
    """

    name: str
    disk: str
    offset: int
    length: int
    kind: str
    label: str = ""
    uuid: str = ""
    note: str = ""
    part_label: str = ""
    part_uuid: str = ""
    pieces: tuple[Piece, ...] = ()

    def of(self, disk: SparseBytes) -> Slice:
        """Return its bytes.

        Raises
        ------
        DiskError
            If it cannot be read.
        """
        if not self.pieces:
            raise DiskError(f"volume {self.name} cannot be read", note=self.note)
        return Slice(disk, self.pieces)


@dataclass(frozen=True, slots=True)
class _Part:
    """A partition as a table has it."""

    number: int
    offset: int
    length: int
    label: str = ""
    uuid: str = ""
    note: str = ""


def find_volumes(image: SparseBytes, disk: str) -> list[Volume]:
    """Find the volumes of a disk, those that cannot be opened too.

    Parameters
    ----------
    image : SparseBytes
    disk : str
        Its name, such as "vda".

    Raises
    ------
    StoreError
    """
    parts = _gpt(image)
    if parts is None:
        whole = identify(image)
        parts = None if whole.kind in _BOOT_KINDS else _mbr(image)
    if parts is None:
        found = [_volume(disk, disk, _Part(0, 0, image.size), whole)]
    else:
        found = [_partition(image, disk, part) for part in parts]
    found = _overlaps(found)
    return found + [each for volume in found if volume.kind == "lvm" for each in _logical(image, volume)]


def _partition(image: SparseBytes, disk: str, part: _Part) -> Volume:
    name = f"{disk}p{part.number}" if disk[-1:].isdigit() else f"{disk}{part.number}"
    if part.offset >= image.size or part.length <= 0:
        note = _notes(part.note, "it lies outside of the disk")
        return Volume(name, disk, part.offset, 0, "unknown", "", "", note, part.label, part.uuid)
    if part.offset + part.length > image.size:
        note = _notes(part.note, "it reaches past the disk's end and is cut there")
        part = replace(part, length=image.size - part.offset, note=note)
    return _volume(disk, name, part, identify(Slice.of(image, part.offset, part.length)))


def _volume(disk: str, name: str, part: _Part, what: Signature) -> Volume:
    pieces = (Piece(0, part.offset, part.length),) if part.length else ()
    note = _notes(part.note, what.note)
    return Volume(
        name, disk, part.offset, part.length, what.kind, what.label, what.uuid, note, part.label, part.uuid, pieces
    )


def _notes(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _overlaps(found: list[Volume]) -> list[Volume]:
    """Say of each volume that it overlaps one that begins before."""
    result = {volume.name: volume for volume in found}
    last: Volume | None = None
    for volume in sorted((each for each in found if each.length), key=lambda each: each.offset):
        if last is not None and volume.offset < last.offset + last.length:
            result[volume.name] = replace(volume, note=_notes(volume.note, f"it overlaps {last.name}"))
        if last is None or volume.offset + volume.length > last.offset + last.length:
            last = volume
    return [result[volume.name] for volume in found]


def _logical(image: SparseBytes, member: Volume) -> Iterator[Volume]:
    """Yield the logical volumes of a physical one."""
    for logical in logical_volumes(member.of(image)):
        first = logical.pieces[0].disk if logical.pieces else member.offset
        length = sum(piece.length for piece in logical.pieces)
        volume = Volume(logical.name, member.disk, first, length, "unknown", note=logical.note, pieces=logical.pieces)
        try:
            what = identify(volume.of(image)) if volume.pieces else Signature("unknown")
        except DiskError as error:
            yield replace(volume, note=_notes(volume.note, str(error)), pieces=())
            continue
        note = _notes(volume.note, what.note)
        yield replace(volume, kind=what.kind, label=what.label, uuid=what.uuid, note=note)


# MBR.


def _entries(sector: bytes) -> list[tuple[int, int, int]]:
    """Return (type, first sector, sectors) of the four entries of a table; none if it is no table."""
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa":
        return []
    found = [struct.unpack_from("<B3xB3xII", sector, 446 + 16 * number) for number in range(4)]
    if any(active not in (0, 0x80) for active, *_ in found):
        return []
    return [(kind, first, count) for _, kind, first, count in found]


def _mbr(image: SparseBytes) -> list[_Part] | None:
    """Return the partitions of an MBR; None if there is none, or nothing in it."""
    sector = image.read(0, 512)
    entries = _entries(sector)
    if not any(kind and count for kind, _, count in entries):
        return None
    signature = struct.unpack_from("<I", sector, 440)[0]
    found = []
    extended = None
    for number, (kind, first, count) in enumerate(entries, 1):
        if kind in _EXTENDED and extended is None:
            extended = first
        elif kind and count:
            found.append(_mbr_part(number, first, count, signature))
    if any(kind == _PROTECTIVE for kind, _, _ in entries):
        lost = "the disk says that it has a GPT; neither copy of it can be read"
        found = [replace(part, note=lost) for part in found]
    return found + ([] if extended is None else list(_chain(image, extended, signature)))


def _mbr_part(number: int, first: int, count: int, signature: int, note: str = "") -> _Part:
    uuid = f"{signature:08x}-{number:02x}" if signature else ""
    return _Part(number, first * 512, count * 512, uuid=uuid, note=note)


def _chain(image: SparseBytes, base: int, signature: int) -> Iterator[_Part]:
    """Yield logical partitions: each table has one, and a link to the next relative to the first table."""
    at, seen, number = base, set[int](), 5
    while at not in seen and len(seen) < _MOST_LOGICAL:
        seen.add(at)
        entries = _entries(image.read(at * 512, 512))
        for kind, first, count in entries:
            if kind and count and kind not in _EXTENDED:
                yield _mbr_part(number, at + first, count, signature)
                number += 1
        links = [first for kind, first, count in entries if kind in _EXTENDED and count]
        if not links:
            if not entries:
                yield _Part(number, at * 512, 0, note="the chain of logical partitions breaks off here")
            return
        at = base + links[0]
    yield _Part(number, at * 512, 0, note="the chain of logical partitions is a loop or too long; it is cut here")


# GPT.


def _gpt(image: SparseBytes) -> list[_Part] | None:
    """Return the partitions of a GPT by its first header, else by the copy at the end; None if there is none."""
    for sector in _SECTORS:
        for offset, note in ((sector, ""), (image.size // sector * sector - sector, "by the copy of the table")):
            header = _gpt_header(image, offset, sector)
            if header is None:
                continue
            table, whole = _gpt_table(image, header, sector)
            if table is None or (not whole and not note and _gpt_copy_is_whole(image, sector)):
                continue
            wrong = "" if whole else "the table's checksum is wrong"
            return list(_gpt_parts(table, header[2], sector, _notes(note, wrong)))
    return None


def _gpt_header(image: SparseBytes, offset: int, sector: int) -> tuple[int, int, int, int] | None:
    """Return sector, number, size and checksum of the entries; None if there is no whole header here."""
    raw = image.read(max(0, offset), sector)
    if raw[:8] != b"EFI PART" or len(raw) < 92:
        return None
    size, checksum = struct.unpack_from("<II", raw, 12)
    if not 92 <= size <= sector or zlib.crc32(raw[:16] + bytes(4) + raw[20:size]) != checksum:
        return None
    first, count, each, table = struct.unpack_from("<QIII", raw, 72)
    fits = 128 <= each <= 4096 and each % 8 == 0
    return (first, min(count, _MOST_ENTRIES), each, table) if fits else None


def _gpt_table(image: SparseBytes, header: tuple[int, int, int, int], sector: int) -> tuple[bytes | None, bool]:
    """Return the entries and whether their checksum is right."""
    first, count, each, checksum = header
    raw = image.read(first * sector, count * each)
    return (raw, zlib.crc32(raw) == checksum) if len(raw) == count * each else (None, False)


def _gpt_copy_is_whole(image: SparseBytes, sector: int) -> bool:
    header = _gpt_header(image, image.size // sector * sector - sector, sector)
    return header is not None and _gpt_table(image, header, sector)[1]


def _gpt_parts(table: bytes, each: int, sector: int, note: str) -> Iterator[_Part]:
    for number in range(len(table) // each):
        raw = table[number * each : (number + 1) * each]
        if not any(raw[:16]):
            continue
        first, last = struct.unpack_from("<QQ", raw, 32)
        label = raw[56:128].decode("utf-16-le", "replace").partition("\0")[0]
        uuid = str(uuids.UUID(bytes_le=raw[16:32]))
        wrong = "" if last >= first else "it ends before it begins"
        length = max(0, last + 1 - first) * sector
        yield _Part(number + 1, first * sector, length, label, uuid, _notes(note, wrong))
