"""Logical volumes of LVM that lie in one piece after the other on one physical volume ("linear").

The metadata is text; it is read with bounds and without recursion. Refuses to put together what lies on several disks,
is mirrored, striped, thin, cached or a snapshot: such a volume is named with a note.

Source: lvm2's lib/format_text/layout.h and lib/label/label.h; the description of the format by libvslvm.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workbench.disk.image import Piece, Slice
from workbench.errors import DiskError

__all__ = ["Logical", "logical_volumes"]

_SECTOR = 512
_MAGIC = b" LVM2 x[5A%r0N*>"
_MOST_TEXT = 4 << 20
_MOST_DEPTH = 16
_MOST_VOLUMES = 1024
_MOST_SEGMENTS = 65536
_TOKEN = re.compile(rb'\s+|#[^\n]*|"((?:[^"\\]|\\.)*)"|([A-Za-z0-9_.+\-]+)|([={}\[\],])')


@dataclass(frozen=True, slots=True)
class Logical:
    """A logical volume.

    Attributes
    ----------
    name : str
        "group/name".
    pieces : tuple of Piece
        On the disk; none if it cannot be put together.
    note : str
        Why not, or what is the matter.
    """

    name: str
    pieces: tuple[Piece, ...]
    note: str


def logical_volumes(member: Slice) -> list[Logical]:
    """Return the logical volumes that a physical volume knows of; a damaged one gives a note instead.

    Raises
    ------
    StoreError
    """
    try:
        uuid, areas = _header(member)
        group, sections = _group(_metadata(member, areas))
        return list(_volumes(member, uuid, group, sections))
    except (DiskError, KeyError, TypeError, ValueError, IndexError, struct.error) as error:
        return [Logical("lvm", (), f"metadata of LVM that cannot be read: {type(error).__name__}: {error}")]


def _header(member: Slice) -> tuple[str, list[tuple[int, int]]]:
    """Return the physical volume's id and its areas of metadata."""
    raw = member.read(0, 4 * _SECTOR)
    at = next(at for at in (*range(0, 4 * _SECTOR, _SECTOR), -1) if at < 0 or raw[at : at + 8] == b"LABELONE")
    if at < 0:
        raise DiskError("no label of LVM")
    begin = at + struct.unpack_from("<I", raw, at + 20)[0]
    found: list[list[tuple[int, int]]] = [[], []]
    where, lists = begin + 40, 0
    for _ in range(32):
        offset, size = struct.unpack_from("<QQ", raw, where)
        where += 16
        if offset:
            found[lists].append((offset, size))
            continue
        lists += 1
        if lists == 2:
            break
    return raw[begin : begin + 32].decode("ascii", "replace"), found[1]


def _metadata(member: Slice, areas: list[tuple[int, int]]) -> bytes:
    """Return the text of the first area that has one; it may go round the end of its ring."""
    for offset, size in areas:
        header = member.read(offset, _SECTOR)
        if header[4:20] != _MAGIC:
            continue
        begin, length = struct.unpack_from("<QQ", header, 40)
        if not length or length > min(_MOST_TEXT, size) or not _SECTOR <= begin < size:
            continue
        text = member.read(offset + begin, min(length, size - begin))
        if begin + length > size:
            text += member.read(offset + _SECTOR, begin + length - size)
        return text
    raise DiskError("no metadata of LVM")


def _tokens(text: bytes) -> Iterator[tuple[str, str]]:
    """Yield (kind, text): "string", "word", or the sign itself."""
    at = 0
    text = text.rstrip(b"\0")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise DiskError("metadata of LVM that is no such text", offset=at)
        at = match.end()
        string, word, sign = match.groups()
        if string is not None:
            yield "string", string.decode("utf-8", "surrogateescape")
        elif word is not None:
            yield "word", word.decode("ascii")
        elif sign is not None:
            yield sign.decode("ascii"), ""


def _parsed(text: bytes) -> dict[str, Any]:
    """Return sections as dictionaries, values as text, numbers or lists."""
    top: dict[str, Any] = {}
    values: list[Any] | None = None
    stack, key, wants = [top], "", False
    for kind, word in _tokens(text):
        if kind == "{":
            inner: dict[str, Any] = {}
            stack[-1][key] = inner
            stack.append(inner)
        elif kind == "}":
            stack.pop()
        elif kind in "=[":
            wants, values = True, [] if kind == "[" else values
        elif kind == "]":
            stack[-1][key], values, wants = values, None, False
        elif kind != ",":
            value = int(word) if kind == "word" and word.lstrip("-").isdigit() else word
            if values is not None:
                values.append(value)
            elif wants:
                stack[-1][key], wants = value, False
            else:
                key = word
        if not 1 <= len(stack) <= _MOST_DEPTH:
            raise DiskError("metadata of LVM with sections that do not close")
    return top


def _group(text: bytes) -> tuple[str, dict[str, Any]]:
    for name, section in _parsed(text).items():
        if isinstance(section, dict) and "extent_size" in section:
            return name, section
    raise DiskError("metadata of LVM without a volume group")


def _volumes(member: Slice, uuid: str, group: str, sections: dict[str, Any]) -> Iterator[Logical]:
    extent = sections["extent_size"] * _SECTOR
    physical = {
        name: each["pe_start"] * _SECTOR
        for name, each in sections["physical_volumes"].items()
        if each["id"].replace("-", "") == uuid
    }
    for name, section in list(sections.get("logical_volumes", {}).items())[:_MOST_VOLUMES]:
        if "VISIBLE" not in section.get("status", ["VISIBLE"]):
            continue
        try:
            yield Logical(f"{group}/{name}", tuple(_pieces(member, section, extent, physical)), "")
        except (DiskError, KeyError, TypeError, ValueError, IndexError) as error:
            words = error.message if isinstance(error, DiskError) else f"its segments cannot be: {error!r}"
            yield Logical(f"{group}/{name}", (), words)


def _pieces(member: Slice, section: dict[str, Any], extent: int, physical: dict[str, int]) -> Iterator[Piece]:
    """Yield the pieces of a linear volume, ascending."""
    if section["segment_count"] > _MOST_SEGMENTS:
        raise DiskError("a logical volume of too many segments")
    for number in range(1, section["segment_count"] + 1):
        segment = section[f"segment{number}"]
        if segment["type"] != "striped" or segment.get("stripe_count", 1) != 1:
            raise DiskError(f"a logical volume of segments of type {segment['type']}: only linear ones can be read")
        name, first = segment["stripes"]
        if name not in physical:
            raise DiskError("a logical volume that lies (also) on another disk")
        at, length = segment["start_extent"] * extent, segment["extent_count"] * extent
        begin = physical[name] + first * extent
        if length <= 0 or begin < 0 or begin + length > member.size:
            raise DiskError("a segment that lies outside of its physical volume")
        yield from (Piece(at + o - begin, disk, count) for o, disk, count in member.places(begin, length))
