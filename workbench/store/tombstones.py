"""Tombstones: what remains of captures that were pruned on purpose, so that the history stays a chain.

A file of them is magic, the plain length (u64, little-endian), and one zstd frame of canonical JSON, filed under the
BLAKE3 of its bytes. Refuses files that are not what their name says, or that unpack to more than a bound.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

import zstandard
from blake3 import blake3

from workbench.errors import DamagedError
from workbench.model import CaptureId, CaptureRecord, GuestId
from workbench.store.backend import Backend
from workbench.store.codec import decompress
from workbench.store.documents import canonical, is_hex
from workbench.store.format import check_magic

__all__ = [
    "Tombstone",
    "Tombstones",
    "decode_tombstones",
    "encode_tombstones",
    "is_tombstones_name",
    "tombstones_name",
]

MAGIC = b"RWprun\0\1"
_HEAD = struct.Struct("<8sQ")
_MAX_PLAIN = 256 << 20
_SUFFIX = ".pruned"
_LENGTH = 20 + 1 + 64 + len(_SUFFIX)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A capture that was pruned: what its record said of its place in history."""

    id: CaptureId
    parent: CaptureId | None
    time_ns: int
    depth: int
    branch: int

    @classmethod
    def of(cls, record: CaptureRecord) -> Tombstone:
        """Return the tombstone of a capture."""
        return cls(record.id, record.parent, record.time_ns, record.depth, record.branch)


def encode_tombstones(guest: GuestId, stones: Iterable[Tombstone]) -> bytes:
    """Return the bytes of a file of tombstones."""
    plain = canonical({"guest": guest, "captures": [list(astuple(stone)) for stone in stones]})
    return _HEAD.pack(MAGIC, len(plain)) + zstandard.ZstdCompressor(level=3).compress(plain)


def tombstones_name(time_ns: int, data: bytes) -> str:
    """Return the file name of tombstones, by the time of the prune."""
    return f"{time_ns:020d}-{blake3(data).hexdigest()}{_SUFFIX}"


def is_tombstones_name(name: str) -> bool:
    """Return whether a file name is one that `tombstones_name` makes."""
    time, dash, rest = name.partition("-")
    sound = len(name) == _LENGTH and bool(dash) and name.isascii() and time.isdecimal() and len(time) == 20
    return sound and rest.endswith(_SUFFIX) and is_hex(rest[:64])


def decode_tombstones(data: bytes, guest: GuestId, name: str) -> list[Tombstone]:
    """Return the tombstones stored as `data` in the file `name`.

    Raises
    ------
    DamagedError
        If the bytes are not those that the name tells of, or make no sense.
    FormatError
        If the format is newer.
    """
    check_magic(data, MAGIC, name)
    expected, found = name.rpartition("-")[2].removesuffix(_SUFFIX), blake3(data).hexdigest()
    if found != expected or len(data) < _HEAD.size:
        raise DamagedError("tombstones are damaged", path=name, offset=0, expected=expected, found=found)
    _, plain = _HEAD.unpack_from(data)
    if plain > _MAX_PLAIN:
        raise DamagedError("tombstones are too long", path=name, expected=_MAX_PLAIN, found=plain)
    try:
        document = json.loads(decompress(data[_HEAD.size :], plain, name, _HEAD.size))
        if document["guest"] != guest:
            raise ValueError("they are of another guest")
        return [_stone(*row) for row in document["captures"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"tombstones make no sense: {error!r}", path=name) from error


def _stone(capture: object, parent: object, time_ns: object, depth: object, branch: object) -> Tombstone:
    ids = [capture] if parent is None else [capture, parent]
    if not all(isinstance(each, str) and len(each) == 64 and is_hex(each) for each in ids):
        raise ValueError("an identity is none")
    if not all(isinstance(each, int) and each >= 0 for each in (time_ns, depth, branch)):
        raise ValueError("a number is none")
    own = None if parent is None else CaptureId(str(parent))
    return Tombstone(CaptureId(str(capture)), own, int(str(time_ns)), int(str(depth)), int(str(branch)))


class Tombstones:
    """The tombstones of a guest, each file read once.

    Parameters
    ----------
    backend : Backend
    guest : GuestId
    """

    def __init__(self, backend: Backend, guest: GuestId) -> None:
        self._backend = backend
        self._guest = guest
        self._read: set[str] = set()
        self._known: dict[CaptureId, Tombstone] = {}

    def all(self) -> Mapping[CaptureId, Tombstone]:
        """Return every tombstone there is now, by capture.

        Raises
        ------
        DamagedError, FormatError, StoreError
        """
        prefix = f"guests/{self._guest}/pruned"
        for name in sorted(filter(is_tombstones_name, self._backend.list(prefix))):
            if name not in self._read:
                path = f"{prefix}/{name}"
                stones = decode_tombstones(self._backend.get(path), self._guest, path)
                self._known.update((stone.id, stone) for stone in stones)
                self._read.add(name)
        return self._known
