"""QEMU's words about memory: `info mtree` and `info ramblock` of the human monitor, parsed.

The flat view of the guest's physical memory is worked out here from the tree of regions. `info mtree -f` would print
it, but up to QEMU 9 at least that command keeps a reference to the view for good wherever several address spaces share
it, and so to every device in it: none of them can be unplugged any more.

Refuses to believe anything beyond the words: whoever uses an address checks it. Answers are bounded, since they come
from a program under a hostile guest.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from workbench.errors import GuestError
from workbench.guest.monitor import PREFIX, Monitor

__all__ = ["MAPPED", "Picture", "ViewRange", "parse_blocks", "parse_ranges", "plain_name", "read_picture"]

MAPPED = PREFIX + "mapped-"
"""Before the name of a block that a clone maps from a file: the guest's own name of it is taken in that QEMU."""

_LIMIT = 4 << 20
"""Characters of monitor text that we are willing to parse."""
_MOST_REGIONS, _DEEPEST = 20_000, 64
"""Regions that a view may be worked out of, a region once for each alias of it, and how deep they may lie."""

# softmmu/memory.c or system/memory.c, mtree_print_mr(): "start-end (prio N, TYPE): NAME" or "...: alias NAME @TARGET
# start-end" (a range inside TARGET), TYPE from memory_region_type(), "nv-" before it for non-volatile memory.
_REGION = re.compile(
    r"^( +)([0-9a-f]{16})-([0-9a-f]{16}) \(prio (-?\d+), (?:nv-)?([a-z/]+)\): "
    r"(?:alias (.+) @(.+) ([0-9a-f]{16})-[0-9a-f]{16}|(.+?))( \[disabled\])?$"
)
_RAM = {"ram": False, "rom": True, "romd": True}
"""Types that are RAM to us, and whether they are read-only. "ramd", a device's own memory, is left out."""
_READ_ONLY_ALIAS = "pam-rom"
"""The one alias through which writable RAM is seen read-only (hw/pci-host/pam.c); the words do not say so."""
# softmmu/physmem.c or system/physmem.c, ram_block_format(): name, page size, offset, used, total[, HVA, RO].
_BLOCK = re.compile(r"^\s*(\S.*?)\s+\d+ [A-Z]?i?B((?:\s+0x[0-9a-f]{1,16}){3,4})(?:\s+r[ow])?\s*$")


class ViewRange(NamedTuple):
    """RAM in the flat view: `region` is the memory region's name, the RAM block's without the device before it."""

    start: int
    length: int
    region: str
    offset: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """What QEMU says: blocks as name -> (used bytes, host address or 0 where none is printed), and the flat view."""

    blocks: Mapping[str, tuple[int, int]]
    ranges: tuple[ViewRange, ...]

    def signature(self) -> str:
        """Return a digest of everything in the picture: 32 hexadecimal digits."""
        shape = repr((sorted(self.blocks.items()), [tuple(each) for each in self.ranges]))
        return blake2b(shape.encode(), digest_size=16).hexdigest()


def read_picture(monitor: Monitor) -> Picture:
    """Ask QEMU.

    Raises
    ------
    GuestError
        If an answer cannot be understood; GuestGoneError if QEMU ended.
    """
    return Picture(parse_blocks(_ask(monitor, "info ramblock")), parse_ranges(_ask(monitor, "info mtree")))


def _ask(monitor: Monitor, line: str) -> str:
    text = monitor.human(line)
    if len(text) > _LIMIT:
        raise GuestError(f"QEMU answers {line} with {len(text)} characters", limit=_LIMIT)
    return text


def plain_name(name: str) -> str:
    """Return the name that a block, or its region, has in the guest itself, also where a clone maps it."""
    return name.removeprefix(MAPPED)


def parse_blocks(text: str) -> dict[str, tuple[int, int]]:
    """Parse `info ramblock` into name -> (used bytes, host address or 0).

    Raises
    ------
    GuestError
        If there is no block in it.
    """
    prints_address = "HVA" in text.partition("\n")[0]
    blocks: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        if match := _BLOCK.match(line):
            _offset, used, _total, *rest = (int(word, 16) for word in match[2].split())
            blocks[plain_name(match[1])] = (used, rest[0] if rest and prints_address else 0)
    if not blocks:
        raise GuestError("QEMU lists no RAM blocks", answer=text[:200])
    return blocks


def parse_ranges(text: str) -> tuple[ViewRange, ...]:
    """Parse `info mtree` into the RAM of the flat view of the address space `memory`, by address.

    Raises
    ------
    GuestError
        If that address space or any RAM in it is missing, or the regions are too many.
    """
    spaces, aliased = _trees(text)
    view = _View(aliased)
    for root in spaces.get("memory", ()):
        view.render(root, 0, root.start, root.end)
    if ranges := view.ranges():
        return ranges
    raise GuestError("QEMU shows no RAM in the address space 'memory'", answer=text[:200])


@dataclass(slots=True)
class _Region:
    """A memory region as printed: addresses are those of the address space or of the aliased region's own section."""

    start: int
    end: int  # the last byte
    priority: int
    kind: str
    name: str
    target: str | None  # of an alias
    offset: int  # of an alias, in its target
    parts: list[_Region] = field(default_factory=list)


def _trees(text: str) -> tuple[dict[str, list[_Region]], dict[str, list[_Region]]]:
    """Return the roots of the address spaces and of the aliased regions, by name."""
    trees: dict[str, dict[str, list[_Region]]] = {"address-space": {}, "memory-region": {}}
    roots: list[list[_Region]] = []  # of the headings since the last empty line: they share the tree that follows
    path: list[tuple[int, _Region | None]] = []  # indents and regions down to the last line; None: not enabled
    for line in text.splitlines():
        heading, _, name = line.partition(": ")
        if not line.strip():
            roots, path = [], []
        elif heading in trees:
            roots.append(trees[heading].setdefault(plain_name(name), []))
        elif match := _REGION.match(line):
            while path and path[-1][0] >= len(match[1]):
                path.pop()
            enabled = not match[10] and (not path or path[-1][1] is not None)
            region = _region(match) if enabled else None
            if region is not None:
                above = path[-1][1] if path else None
                for siblings in [above.parts] if above is not None else roots:
                    siblings.append(region)
            path.append((len(match[1]), region))
    return trees["address-space"], trees["memory-region"]


def _region(match: re.Match[str]) -> _Region:
    alias, target, offset, plain = match[6], match[7], match[8], match[9]
    start, end, priority = int(match[2], 16), int(match[3], 16), int(match[4])
    target = plain_name(target) if target else target
    return _Region(start, end, priority, match[5], plain_name(plain or alias), target, int(offset or "0", 16))


class _View:
    """The flat view under work: QEMU's render_memory_region() on printed regions.

    Regions of higher priority come first, and whatever comes later fills only what is free. A region of type "i/o" with
    parts is taken for a container, one without for a device's registers, unless it is what an alias shows (a bus
    without cards): the words do not tell them apart. Aliases name their target; of several of one name (buses behind
    bridges) all are looked into.
    """

    def __init__(self, aliased: Mapping[str, list[_Region]]) -> None:
        self._aliased = aliased
        self._taken: list[tuple[int, int, ViewRange | None]] = []  # first and last byte, ascending, apart
        self._left = _MOST_REGIONS

    def render(self, region: _Region, shift: int, low: int, high: int, depth: int = 0, *, fixed: bool = False) -> None:
        """Put a region, moved by `shift`, where `[low, high]` of the view is free; `fixed`: read-only by an alias."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            raise GuestError("QEMU shows more memory regions than any guest has", limit=_MOST_REGIONS)
        low, high = max(low, region.start + shift), min(high, region.end + shift)
        if low > high:
            return
        if region.target is not None:
            fixed = fixed or region.name == _READ_ONLY_ALIAS
            for target in self._aliased.get(region.target, ()):
                if target.parts or target.target or target.kind in _RAM:
                    self.render(
                        target, region.start + shift - region.offset - target.start, low, high, depth + 1, fixed=fixed
                    )
            return
        for part in sorted(region.parts, key=lambda each: -each.priority):
            self.render(part, shift, low, high, depth + 1, fixed=fixed)
        if region.kind in _RAM or not region.parts:
            self._fill(region, shift, low, high, fixed)

    def _fill(self, region: _Region, shift: int, low: int, high: int, fixed: bool) -> None:
        ram, read_only = region.kind in _RAM, fixed or _RAM.get(region.kind, False)
        for start, end in list(self._free(low, high)):
            offset = start - shift - region.start
            seen = ViewRange(start, end - start + 1, region.name, offset, read_only) if ram else None
            self._taken.insert(bisect_left(self._taken, start, key=lambda each: each[0]), (start, end, seen))

    def _free(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        at = max(0, bisect_left(self._taken, low, key=lambda each: each[0]) - 1)
        for start, end, _ in self._taken[at:]:
            if start > high:
                break
            if low < start:
                yield low, start - 1
            low = max(low, end + 1)
        if low <= high:
            yield low, high

    def ranges(self) -> tuple[ViewRange, ...]:
        """Return the RAM, by address; neighbours that go on in the same region are one range."""
        joined: list[ViewRange] = []
        for each in (seen for _, _, seen in self._taken if seen is not None):
            if joined and _goes_on(joined[-1], each):
                joined[-1] = joined[-1]._replace(length=joined[-1].length + each.length)
            else:
                joined.append(each)
        return tuple(joined)


def _goes_on(before: ViewRange, after: ViewRange) -> bool:
    ends = (before.start + before.length, before.offset + before.length, before.region, before.read_only)
    return ends == (after.start, after.offset, after.region, after.read_only)
