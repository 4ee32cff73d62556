"""QEMU's words about memory: `info mtree -f` and `info ramblock` of the human monitor, parsed.

Refuses to believe anything beyond the words: whoever uses an address checks it. Answers are bounded, since they come
from a program under a hostile guest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from workbench.errors import GuestError
from workbench.guest.monitor import Monitor

__all__ = ["Picture", "ViewRange", "parse_blocks", "parse_ranges", "read_picture"]

_LIMIT = 4 << 20
"""Characters of monitor text that we are willing to parse."""

# softmmu/memory.c or system/memory.c, mtree_print_flatview(): "start-end (prio N, TYPE): NAME[ @OFFSET][ ACCEL]", TYPE
# from memory_region_type(), "nv-" before it for non-volatile memory. "ramd", a device's own memory, is left out.
_RANGE = re.compile(
    r"^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:nv-)?(ram|rom|romd)\): "
    r"(.+?)(?: @([0-9a-f]{16}))?(?: [A-Z]{3,})?$"
)
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
    return Picture(parse_blocks(_ask(monitor, "info ramblock")), parse_ranges(_ask(monitor, "info mtree -f")))


def _ask(monitor: Monitor, line: str) -> str:
    text = monitor.human(line)
    if len(text) > _LIMIT:
        raise GuestError(f"QEMU answers {line} with {len(text)} characters", limit=_LIMIT)
    return text


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
            blocks[match[1]] = (used, rest[0] if rest and prints_address else 0)
    if not blocks:
        raise GuestError("QEMU lists no RAM blocks", answer=text[:200])
    return blocks


def parse_ranges(text: str) -> tuple[ViewRange, ...]:
    """Parse `info mtree -f` into the RAM of the view that belongs to the address space `memory`, by address.

    Raises
    ------
    GuestError
        If that view or any RAM in it is missing.
    """
    unix = "\n".join(text.splitlines())  # the monitor ends its lines with CR LF
    for view in re.split(r"^FlatView #\d+$", unix, flags=re.MULTILINE):
        if re.search(r'^ AS "memory", root: ', view, re.MULTILINE):
            ranges = tuple(_range(match) for line in view.splitlines() if (match := _RANGE.match(line)))
            if ranges:
                return ranges
    raise GuestError("QEMU shows no RAM in the address space 'memory'", answer=text[:200])


def _range(match: re.Match[str]) -> ViewRange:
    start, end = int(match[1], 16), int(match[2], 16)
    return ViewRange(start, end - start + 1, match[4], int(match[5] or "0", 16), match[3] != "ram")
