"""Where a guest's memory is: its RAM blocks in QEMU's address space, and where the guest sees them.

QEMU is asked (`info mtree`, `info ramblock`, `gpa2hva`) and never believed: it runs under a hostile guest, so every
address is held against `/proc/PID/maps` before anybody reads or writes there. Refuses to guess: a block that no range
of the guest's physical memory shows and whose address QEMU does not print is listed as unlocated, and never searched
for by size or content, because a wrong find would later be overwritten by a rewind.

Blocks that stay unlocated on QEMUs that print no addresses are ROMs outside of the guest's view (`/rom@etc/...`,
option ROMs): the guest cannot write them, and a QEMU of the same version fills them from the same files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import GuestError, UnsupportedError
from workbench.guest.connection import Guest
from workbench.guest.mtree import Picture, plain_name, read_picture
from workbench.guest.process import covering, read_vmas
from workbench.model import PAGE

__all__ = ["MemoryBlock", "MemoryMap", "PhysicalRange", "memory_signature", "read_memory_map"]

_ATTEMPTS = 5
"""A running guest may move a BAR between two questions; then everything is asked again."""

# monitor/misc.c: hmp_gpa2hva().
_ADDRESS = re.compile(r"^Host virtual address for 0x[0-9a-f]+ \((.*)\) is (?:0x)?([0-9a-f]{1,16})$")


@dataclass(frozen=True, slots=True)
class MemoryBlock:
    """A RAM block of QEMU.

    Attributes
    ----------
    name : str
        QEMU's name of it (`pc.ram`, `0000:00:01.0/vga.vram`): what a migration stream calls it.
    size : int
        Bytes in use (`used_length`).
    hva : int
        Address of its first byte in the QEMU process.
    """

    name: str
    size: int
    hva: int

    @property
    def pages(self) -> int:
        """Number of pages, a short last one included."""
        return -(-self.size // PAGE)

    @property
    def end(self) -> int:
        """Address past its last byte."""
        return self.hva + self.size


@dataclass(frozen=True, slots=True)
class PhysicalRange:
    """Guest-physical `[start, start + length)` is `[offset, offset + length)` of `block`; all in bytes."""

    start: int
    length: int
    block: str
    offset: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Every RAM block of a guest and the guest-physical view of them at one moment.

    Attributes
    ----------
    blocks : tuple of MemoryBlock
        Located and verified, by name.
    ranges : tuple of PhysicalRange
        By guest-physical address.
    unlocated : tuple of str
        Blocks whose address is not known.
    signature : str
        As `memory_signature` gave it for the same text.
    """

    blocks: tuple[MemoryBlock, ...]
    ranges: tuple[PhysicalRange, ...]
    unlocated: tuple[str, ...] = ()
    signature: str = ""

    def block(self, name: str) -> MemoryBlock:
        """Return the block called `name`.

        Raises
        ------
        KeyError
            If no located block is called so.
        """
        for block in self.blocks:
            if block.name == name:
                return block
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return the map as JSON values, for the facts of a capture."""
        return {
            "blocks": [[block.name, block.size, block.hva] for block in self.blocks],
            "ranges": [[r.start, r.length, r.block, r.offset, r.read_only] for r in self.ranges],
            "unlocated": list(self.unlocated),
            "signature": self.signature,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MemoryMap:
        """Return the map that `to_json` gave.

        Raises
        ------
        GuestError
            If the data have another shape.
        """
        try:
            return cls(
                tuple(MemoryBlock(str(name), int(size), int(hva)) for name, size, hva in data["blocks"]),
                tuple(PhysicalRange(int(a), int(n), str(b), int(o), bool(r)) for a, n, b, o, r in data["ranges"]),
                tuple(str(name) for name in data["unlocated"]),
                str(data["signature"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise GuestError(f"not a memory map: {error!r}") from error


def memory_signature(guest: Guest) -> str:
    """Return a digest of the memory layout, cheap enough for every capture: equal digests, equal layout.

    Raises
    ------
    GuestError
        If QEMU's answer cannot be understood; GuestGoneError if it ended.
    """
    return read_picture(guest.monitor).signature()


def read_memory_map(guest: Guest, known: MemoryMap | None = None) -> MemoryMap:
    """Return where the guest's memory is.

    Parameters
    ----------
    guest : Guest
        Running or paused.
    known : MemoryMap, optional
        An earlier map of the same QEMU process. It makes the answer faster where nothing changed, and a block that is
        not in the guest's view at the moment (a video memory whose BAR is being moved) keeps the address it had
        there, if that still holds against `/proc/PID/maps`.

    Raises
    ------
    GuestError
        If QEMU's words and the kernel's do not agree, also not when asked again.
    GuestGoneError
        If QEMU ended.
    UnsupportedError
        If `/proc/PID/maps` may not be read.
    """
    trouble: GuestError | None = None
    for _ in range(_ATTEMPTS):
        try:
            picture = read_picture(guest.monitor)
            return _unchanged(guest, picture, known) or _locate(guest, picture, known)
        except _MovedError as moved:
            trouble = moved
    raise GuestError(
        f"{guest.name}: the memory layout does not hold still: {trouble}", cure="Try again when it has booted"
    )


class _MovedError(GuestError):
    """Two answers of QEMU do not fit each other."""


def _unchanged(guest: Guest, picture: Picture, known: MemoryMap | None) -> MemoryMap | None:
    """Return `known` if QEMU says the same words as then and the blocks are still mapped: addresses do not move."""
    if known is None or known.signature != picture.signature():
        return None
    vmas = read_vmas(guest.pid)
    return known if all(covering(vmas, block.hva, block.end) for block in known.blocks) else None


def _locate(guest: Guest, picture: Picture, known: MemoryMap | None) -> MemoryMap:
    ranges = _named(guest, picture)
    vmas = read_vmas(guest.pid)
    blocks: list[MemoryBlock] = []
    unlocated: list[str] = []
    for name, (size, printed) in sorted(picture.blocks.items()):
        hva = printed or _address(guest, name, ranges) or _remembered(known, name, size)
        if not hva:
            unlocated.append(name)
        elif hva % PAGE or not covering(vmas, hva, hva + size):
            raise _MovedError(f"{guest.name}: block {name} is not mapped where QEMU says", hva=hex(hva), size=size)
        else:
            blocks.append(MemoryBlock(name, size, hva))
    _refuse_overlap(guest, blocks)
    _confirm(guest, blocks, ranges)
    return MemoryMap(tuple(blocks), ranges, tuple(unlocated), picture.signature())


def _named(guest: Guest, picture: Picture) -> tuple[PhysicalRange, ...]:
    """Give every range the full name of its RAM block: the region's own, or the one that ends in `/region`."""
    buses: dict[int, str] | None = None
    named = []
    for each in picture.ranges:
        fitting = [n for n in picture.blocks if n == each.region or n.endswith("/" + each.region)]
        if len(fitting) > 1:  # two cards of one kind: the BAR's address tells them apart
            buses = _bars(guest) if buses is None else buses
            fitting = [n for n in fitting if n.startswith(buses.get(each.start - each.offset, "?"))]
        if len(fitting) != 1:
            raise _MovedError(
                f"{guest.name}: no RAM block, or several, for region {each.region}", start=hex(each.start)
            )
        name = fitting[0]
        if each.offset + each.length > picture.blocks[name][0] + PAGE - 1:
            raise _MovedError(
                f"{guest.name}: a range of {name} reaches past its end", offset=each.offset, length=each.length
            )
        named.append(PhysicalRange(each.start, each.length, name, each.offset, each.read_only))
    return tuple(named)


def _bars(guest: Guest) -> dict[int, str]:
    """Return BAR address -> the device's part of a RAM block's name (`0000:00:01.0/`), for devices on the root bus."""
    found: dict[int, str] = {}
    for bus in guest.monitor.execute("query-pci"):
        for device in bus["devices"]:
            prefix = f"0000:{device['bus']:02x}:{device['slot']:02x}.{device['function']}/"
            found.update({int(bar["address"]): prefix for bar in device["regions"] if bar["type"] == "memory"})
    return found


def _address(guest: Guest, name: str, ranges: Sequence[PhysicalRange]) -> int:
    """Ask QEMU for the host address of a block through the largest range that shows it; 0 if none does."""
    shown = max((each for each in ranges if each.block == name), key=lambda each: each.length, default=None)
    if shown is None:
        return 0
    return _host_address(guest, name, shown.start) - shown.offset


def _host_address(guest: Guest, name: str, at: int) -> int:
    match = _ADDRESS.match(guest.monitor.human(f"gpa2hva {at:#x}").strip())
    region = plain_name(match[1]) if match else ""
    if match is None or not (name == region or name.endswith("/" + region)):
        raise _MovedError(f"{guest.name}: {name} is not at {at:#x} any more")
    return int(match[2], 16)


def _confirm(guest: Guest, blocks: Sequence[MemoryBlock], ranges: Sequence[PhysicalRange]) -> None:
    """Hold the view that we worked out against QEMU's own, at the first and the last byte of every range."""
    hva = {block.name: block.hva for block in blocks}
    for each in ranges:
        for at in (0, each.length - 1):
            if _host_address(guest, each.block, each.start + at) != hva[each.block] + each.offset + at:
                raise _MovedError(f"{guest.name}: {each.block} is seen elsewhere than at {each.start + at:#x}")


def _remembered(known: MemoryMap | None, name: str, size: int) -> int:
    return next((b.hva for b in known.blocks if (b.name, b.size) == (name, size)), 0) if known else 0


def _refuse_overlap(guest: Guest, blocks: Sequence[MemoryBlock]) -> None:
    ordered = sorted(blocks, key=lambda block: block.hva)
    for low, high in itertools.pairwise(ordered):
        if low.end > high.hva:
            raise UnsupportedError(f"{guest.name}: RAM blocks {low.name} and {high.name} share memory")
