"""The bytes of packs and deltas: magic numbers, columns, and nothing that reads or writes a file.

Layout as in docs/design.md, section 3.2. Refuses to allocate by what a file claims: every count is checked against
the bytes that are there, and decompression is bounded by a stated size which is itself bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import zstandard
from blake3 import blake3
from numpy.typing import NDArray

from workbench.errors import DamagedError, FormatError
from workbench.store.types import U8, U32, U64

__all__ = [
    "DELTA_HEAD",
    "FRAME_BYTES",
    "ID_BYTES",
    "MAX_CHAIN",
    "PACK_ID_BYTES",
    "PACK_MAGIC",
    "PACK_SLOTS",
    "TRAILER",
    "DeltaFile",
    "Footer",
    "FrameColumns",
    "RegionDelta",
    "SlotColumns",
    "check_magic",
    "decode_delta",
    "decode_footer",
    "decode_trailer",
    "encode_delta",
    "encode_delta_body",
    "encode_footer",
    "encode_trailer",
]

PACK_MAGIC = b"RWpack\0\1"
DELTA_MAGIC = b"RWdelt\0\1"

FRAME_BYTES = 256 * 1024
"""Plain bytes of a frame at most: 64 pages or 4 clusters."""
PACK_SLOTS = 32768
"""Blocks of a pack at most, so that one page read cold costs a footer of a megabyte, not the baseline's."""
MAX_CHAIN = 8
"""XOR steps from a block to one stored plain, at most."""
ID_BYTES = 32
PACK_ID_BYTES = 16

_MAX_FOOTER = 16 << 20
_MAX_DELTA = 512 << 20
_MAX_REGIONS = 4096

_FOOTER_HEAD = struct.Struct("<16sIII")  # guest, frames, slots, base packs
_FRAME_ROW = 8 + 4 + 4 + 4 + 4 + 32
_SLOT_ROW = 32 + 1 + 1 + 4 + 4
TRAILER = struct.Struct("<QQ32s")  # footer's offset, footer's length, BLAKE3 of the footer as stored
DELTA_HEAD = struct.Struct("<8s32s32sQQ")  # magic, own id, base's id (zeros: none), depth, plain length of the body
_REGION_HEAD = struct.Struct("<HIIIII")  # name's length, block size, blocks, kept, changed, packs


def check_magic(data: bytes, magic: bytes, name: str) -> None:
    """See that a file is of our kind and version.

    Raises
    ------
    FormatError
        A version that is not known.
    DamagedError
        Not our magic at all.
    """
    if data[:8] == magic:
        return
    if data[:7] == magic[:7] and data[7:8] > magic[7:8]:
        raise FormatError(
            "file is of a newer format", path=name, expected=magic[7], found=data[7], cure="Use a newer workbench."
        )
    raise DamagedError("file has the wrong magic", path=name, offset=0, expected=magic, found=data[:8])


def _planes(column: NDArray[np.unsignedinteger]) -> bytes:
    """Lay the bytes of integers out plane by plane: their high bytes are nearly constant, and zstd likes that."""
    little = column.astype(column.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little.view(np.uint8).reshape(len(column), column.dtype.itemsize).T).tobytes()


class _Reader:
    """Take columns off plain bytes, with bounds."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._name = name

    def take(self, length: int) -> memoryview:
        left = len(self._data) - self._at
        if length > left:
            raise DamagedError("columns are cut short", path=self._name, offset=self._at, expected=length, found=left)
        self._at += length
        return self._data[self._at - length : self._at]

    def head(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def u8(self, count: int) -> U8:
        return np.frombuffer(self.take(count), np.uint8)

    def u32(self, count: int) -> U32:
        return np.ascontiguousarray(self.u8(4 * count).reshape(4, count).T).view("<u4").reshape(count)

    def u64(self, count: int) -> U64:
        return np.ascontiguousarray(self.u8(8 * count).reshape(8, count).T).view("<u8").reshape(count)

    def rows(self, count: int, width: int) -> U8:
        return self.u8(count * width).reshape(count, width)

    def end(self) -> None:
        if self._at != len(self._data):
            raise DamagedError("columns are followed by something", path=self._name, offset=self._at)


def _inflate(data: bytes, plain: int, limit: int, name: str) -> bytes:
    """Decompress one zstd frame to exactly `plain` bytes.

    Raises
    ------
    DamagedError
        If it states or has another size, or one past `limit`.
    """
    try:
        stated = zstandard.frame_content_size(data)
        if not stated == plain <= limit:
            raise DamagedError(
                "compressed columns state a wrong size", path=name, expected=plain, found=stated, limit=limit
            )
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=plain)
    except zstandard.ZstdError as error:
        raise DamagedError(f"columns do not decompress: {error}", path=name) from error


# Packs.


@dataclass(frozen=True, slots=True)
class FrameColumns:
    """Per frame of a pack.

    Attributes
    ----------
    offset : (frames,) uint64
        Where its compressed bytes begin in the file.
    length : (frames,) uint32
        Compressed bytes.
    block_size, first, count : (frames,) uint32
        Bytes of a block, first slot, blocks. Slots between frames are unused: room was kept and not needed.
    digest : (frames, 32) uint8
        BLAKE3 of the compressed bytes.
    """

    offset: U64
    length: U32
    block_size: U32
    first: U32
    count: U32
    digest: U8


@dataclass(frozen=True, slots=True)
class SlotColumns:
    """Per slot (block) of a pack.

    Attributes
    ----------
    id : (slots, 32) uint8
    depth : (slots,) uint8
        XOR steps to a block stored plain: 0 plain, 1 its base is plain, ...
    base_pack : (slots,) uint32
        Index into the footer's table of pack ids, plus one; 0 for plain blocks.
    base_slot : (slots,) uint32
    """

    id: U8
    depth: U8
    base_pack: U32
    base_slot: U32


@dataclass(frozen=True, slots=True)
class Footer:
    """What a pack holds. `guest` salts the pack's id, so that no two guests' writers ever share a file."""

    guest: bytes
    frames: FrameColumns
    slots: SlotColumns
    packs: tuple[bytes, ...]


def encode_footer(footer: Footer) -> bytes:
    """Return the compressed footer of a pack."""
    frames, slots = footer.frames, footer.slots
    encoding = (slots.depth > 0).astype(np.uint8)
    plain = b"".join(
        (
            _FOOTER_HEAD.pack(footer.guest, len(frames.first), len(slots.depth), len(footer.packs)),
            _planes(frames.offset),
            *(_planes(column) for column in (frames.length, frames.block_size, frames.first, frames.count)),
            frames.digest.tobytes(),
            slots.id.tobytes(),
            encoding.tobytes(),
            slots.depth.tobytes(),
            _planes(slots.base_pack),
            _planes(slots.base_slot),
            *footer.packs,
        )
    )
    return zstandard.ZstdCompressor(level=3).compress(plain)


def encode_trailer(offset: int, footer: bytes) -> tuple[bytes, bytes]:
    """Return the pack's trailer and its id, for a compressed footer that stands at `offset`."""
    digest = blake3(footer).digest()
    return TRAILER.pack(offset, len(footer), digest), digest[:PACK_ID_BYTES]


def decode_trailer(data: bytes, size: int, pack: bytes, name: str) -> tuple[int, int, bytes]:
    """Return offset, length and digest of the footer of a pack of `size` bytes.

    Raises
    ------
    DamagedError
        If the trailer does not fit the file or its name.
    """
    offset, length, digest = TRAILER.unpack(data)
    if digest[:PACK_ID_BYTES] != pack:
        found = digest[:PACK_ID_BYTES].hex()
        raise DamagedError(
            "pack's trailer is not of this pack",
            path=name,
            offset=size - TRAILER.size,
            expected=pack.hex(),
            found=found,
        )
    if offset < len(PACK_MAGIC) or offset + length + TRAILER.size != size:
        raise DamagedError(
            "pack's trailer does not fit its file",
            path=name,
            offset=size - TRAILER.size,
            expected=size,
            found=offset + length + TRAILER.size,
        )
    return offset, length, digest


def decode_footer(data: bytes, end: int, digest: bytes, name: str) -> Footer:
    """Return the footer stored as `data` at `end` of a pack's frames.

    Raises
    ------
    DamagedError
        If the bytes are not what the trailer's digest says, or the columns contradict each other.
    """
    found = blake3(data).digest()
    if found != digest:
        raise DamagedError("pack's footer is damaged", path=name, offset=end, expected=digest.hex(), found=found.hex())
    try:
        plain = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise DamagedError(f"pack's footer does not decompress: {error}", path=name, offset=end) from error
    reader = _Reader(_inflate(data, plain, _MAX_FOOTER, name), name)
    guest, frames, slots, packs = _FOOTER_HEAD.unpack(reader.take(_FOOTER_HEAD.size))
    expected = _FOOTER_HEAD.size + frames * _FRAME_ROW + slots * _SLOT_ROW + packs * PACK_ID_BYTES
    if plain != expected:
        raise DamagedError("pack's footer has a wrong length", path=name, offset=end, expected=expected, found=plain)
    offset, (length, size, first, count) = reader.u64(frames), (reader.u32(frames) for _ in range(4))
    frame_columns = FrameColumns(offset, length, size, first, count, reader.rows(frames, ID_BYTES))
    ids, encoding = reader.rows(slots, ID_BYTES), reader.u8(slots)
    slot_columns = SlotColumns(ids, reader.u8(slots), reader.u32(slots), reader.u32(slots))
    footer = Footer(guest, frame_columns, slot_columns, tuple(bytes(reader.take(PACK_ID_BYTES)) for _ in range(packs)))
    _check_footer(footer, encoding, end, name)
    return footer


def _check_footer(footer: Footer, encoding: U8, end: int, name: str) -> None:
    """See that frames fill the file up to `end` without gaps, slots are in order, and bases where they can be."""
    frames, slots = footer.frames, footer.slots
    by_offset = np.argsort(frames.offset)
    offsets = frames.offset[by_offset]
    starts = np.concatenate(([np.uint64(len(PACK_MAGIC))], offsets + frames.length[by_offset]))
    last = frames.first.astype(np.uint64) + frames.count
    limits = np.append(frames.first[1:], len(slots.depth)).astype(np.uint64)
    xored = slots.depth > 0
    sound = {
        "frames lie one after the other": bool((starts[:-1] == offsets).all()) and int(starts[-1]) == end,
        "slots are in order": bool((last <= limits).all()) and bool((frames.count > 0).all()),
        "frames are small": bool(
            ((frames.block_size > 0) & (frames.count.astype(np.uint64) * frames.block_size <= FRAME_BYTES)).all()
        ),
        "chains are short": bool((slots.depth <= MAX_CHAIN).all()),
        "bases are named": bool((xored == (slots.base_pack > 0)).all())
        and bool((slots.base_pack <= len(footer.packs)).all()),
        "encodings are known": bool((encoding == xored).all()),
    }
    for fact, holds in sound.items():
        if not holds:
            raise DamagedError("pack's footer contradicts itself", path=name, offset=end, expected=fact)


# Deltas.


@dataclass(frozen=True, slots=True)
class RegionDelta:
    """How one region of a capture differs from the same region of its base.

    Attributes
    ----------
    name : str
    block_size, blocks : int
        Shape of the region in the capture.
    kept : int
        How many leading blocks of the base stand unless listed; the others are zero unless listed. 0 where the base
        has no such region, or where it was gone in between.
    index : (changed,) uint32, strictly ascending
    pack : (changed,) uint32
        Index into `packs` plus one; 0 for a zero block.
    slot : (changed,) uint32
    packs : tuple of 16 bytes
    """

    name: str
    block_size: int
    blocks: int
    kept: int
    index: U32
    pack: U32
    slot: U32
    packs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class DeltaFile:
    """A parsed delta."""

    capture: bytes
    base: bytes | None
    depth: int
    regions: Mapping[str, RegionDelta]


def encode_delta_body(regions: list[RegionDelta]) -> tuple[bytes, int]:
    """Return the compressed body of a delta and its plain length.

    The body does not name its capture, so a record can state the stored bytes before its own id is known.
    """
    parts = [struct.pack("<I", len(regions))]
    for region in regions:
        name = region.name.encode()
        head = (len(name), region.block_size, region.blocks, region.kept, len(region.index), len(region.packs))
        steps = np.diff(region.index, prepend=np.uint32(0))
        parts += [_REGION_HEAD.pack(*head), name, *region.packs]
        parts += [_planes(column) for column in (steps, region.pack, region.slot)]
    plain = b"".join(parts)
    if len(plain) > _MAX_DELTA:
        raise FormatError("the map of this capture is too large for the format", expected=_MAX_DELTA, found=len(plain))
    return zstandard.ZstdCompressor(level=3).compress(plain), len(plain)


def encode_delta(capture: bytes, base: bytes | None, depth: int, body: bytes, plain: int) -> bytes:
    """Return the whole delta file around a body of `encode_delta_body`."""
    data = DELTA_HEAD.pack(DELTA_MAGIC, capture, base or bytes(ID_BYTES), depth, plain) + body
    return data + blake3(data).digest()


def decode_delta(data: bytes, capture: bytes, name: str) -> DeltaFile:
    """Return the delta of `capture` stored as `data`.

    Raises
    ------
    DamagedError
        If the bytes are not what their digest says, belong to another capture or contradict themselves.
    FormatError
        If the format is newer.
    """
    check_magic(data, DELTA_MAGIC, name)
    if len(data) < DELTA_HEAD.size + ID_BYTES:
        raise DamagedError("delta is too short", path=name, expected=DELTA_HEAD.size + ID_BYTES, found=len(data))
    found, stored = blake3(data[:-ID_BYTES]).digest(), data[-ID_BYTES:]
    if found != stored:
        raise DamagedError("delta is damaged", path=name, offset=0, expected=stored.hex(), found=found.hex())
    _, own, base, depth, plain = DELTA_HEAD.unpack_from(data)
    if own != capture:
        raise DamagedError("delta is of another capture", path=name, offset=8, expected=capture.hex(), found=own.hex())
    reader = _Reader(_inflate(data[DELTA_HEAD.size : -ID_BYTES], plain, _MAX_DELTA, name), name)
    (count,) = struct.unpack("<I", reader.take(4))
    if count > _MAX_REGIONS:
        raise DamagedError("delta has too many regions", path=name, expected=_MAX_REGIONS, found=count)
    regions = [_decode_region(reader, name) for _ in range(count)]
    reader.end()
    return DeltaFile(own, base if any(base) else None, depth, {region.name: region for region in regions})


def _decode_region(reader: _Reader, name: str) -> RegionDelta:
    length, block_size, blocks, kept, changed, packs = reader.head(_REGION_HEAD)
    try:
        region = str(reader.take(length), "utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError("name of a region is not UTF-8", path=name) from error
    table = reader.rows(packs, PACK_ID_BYTES)
    steps, pack, slot = reader.u32(changed), reader.u32(changed), reader.u32(changed)
    index = np.cumsum(steps, dtype=np.uint64)
    ascending = not changed or (bool((steps[1:] > 0).all()) and int(index[-1]) < blocks)
    if not ascending or kept > blocks or (changed and int(pack.max()) > packs):
        raise DamagedError("delta contradicts itself", path=name, region=region)
    ids = tuple(row.tobytes() for row in table)
    return RegionDelta(region, block_size, blocks, kept, index.astype(np.uint32), pack, slot, ids)
