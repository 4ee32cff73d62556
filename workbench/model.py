"""The vocabulary: small frozen records that every room speaks, and nothing else.

Refuses to import anything of ours, to touch a guest or a file, or to hold bytes of a guest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

__all__ = [
    "CLUSTER",
    "PAGE",
    "REWIND",
    "CaptureId",
    "CaptureMode",
    "CaptureRecord",
    "CaptureRef",
    "Damage",
    "GuestId",
    "GuestRecord",
    "Mark",
    "RegionKind",
    "RegionRecord",
    "RegionSpec",
]

PAGE = 4096
"""Bytes of a memory block: one page."""

CLUSTER = 65536
"""Bytes of a disk block: one cluster, the granularity of QEMU's dirty bitmap."""

REWIND = "rewind"
"""The kind of the marks that say where a guest was taken to; their times are in one order with those of captures."""

CaptureId = NewType("CaptureId", str)
"""64 hexadecimal digits: BLAKE3-256 of the capture's canonical record."""

GuestId = NewType("GuestId", str)
"""A libvirt domain UUID in its canonical text form."""


class RegionKind(StrEnum):
    """What a region holds."""

    MEMORY = "memory"
    DISK = "disk"
    STATE = "state"


class CaptureMode(StrEnum):
    """Why a capture was taken."""

    BASELINE = "baseline"
    CONTINUOUS = "continuous"
    MANUAL = "manual"
    EVENT = "event"
    SAFETY = "safety"


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """A named array of fixed-size blocks: a RAM block, a disk, or a state blob.

    Attributes
    ----------
    name : str
        `pc.ram`, `vga.vram`, `disk:vda`, `state:devices`, `state:xml` ...
    length : int
        Bytes. The last block may be short; it is stored padded with zeros.
    block_size : int
        Bytes: `PAGE` for memory and state, `CLUSTER` for disks.
    """

    name: str
    kind: RegionKind
    length: int
    block_size: int

    @property
    def blocks(self) -> int:
        """Number of blocks, the short last one included."""
        return -(-self.length // self.block_size)


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """A region as one capture holds it: its shape and the digest of its content (hexadecimal BLAKE3-256)."""

    spec: RegionSpec
    digest: str


@dataclass(frozen=True, slots=True)
class GuestRecord:
    """A guest known to a case."""

    id: GuestId
    name: str


@dataclass(frozen=True, slots=True, order=True)
class CaptureRef:
    """What a directory listing alone tells of a capture: its instant and its identity."""

    time_ns: int
    id: CaptureId


@dataclass(frozen=True, slots=True)
class CaptureRecord:
    """One moment of one guest: memory, devices and every disk of the same instant.

    Attributes
    ----------
    id : CaptureId
    guest : GuestId
    parent : CaptureId or None
        The capture this one was taken after; None for the first.
    depth : int
        Number of ancestors.
    branch : int
        0 for the first line of history; every rewind opens the next one.
    time_ns : int
        Host wall clock (UTC, ns since the epoch) inside the pause.
    mode : CaptureMode
    reason : str
        Free text by whoever asked.
    regions : tuple of RegionRecord
    facts : mapping
        JSON values: pause and its parts (ns), dirty counts, tracker, reader, versions, clock, physical memory map.
    """

    id: CaptureId
    guest: GuestId
    parent: CaptureId | None
    depth: int
    branch: int
    time_ns: int
    mode: CaptureMode
    reason: str
    regions: tuple[RegionRecord, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def region(self, name: str) -> RegionRecord:
        """Return the region called `name`.

        Raises
        ------
        KeyError
            If the capture has no such region.
        """
        for region in self.regions:
            if region.spec.name == name:
                return region
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Mark:
    """A named point of a guest's timeline.

    Attributes
    ----------
    name : str
        How a user refers to it (`alert-7`).
    time_ns : int
        When what it marks happened (host clock, UTC, ns).
    capture : CaptureId or None
        The capture taken for it, where one was.
    kind : str
        "note", "event", "alert", "safety" ...
    note : str
    """

    name: str
    guest: GuestId
    time_ns: int
    capture: CaptureId | None = None
    kind: str = "note"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with a case, found by `check`.

    Attributes
    ----------
    path : str
        The file, relative to the case.
    what : str
        What is wrong, in words, with offset, expected and found.
    captures : tuple of CaptureId
        The captures that cannot be read whole because of it.
    """

    path: str
    what: str
    captures: tuple[CaptureId, ...] = ()
