"""Mounted file systems as the kernel knows them: super blocks, and the address spaces of their block devices.

Source: Linux include/linux/fs.h (`super_blocks`, `struct super_block`), blk_types.h (`bd_inode`, from 6.10 on
`bd_mapping`). Refuses a list without an end.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np

from workbench.memory.owning.frames import U8, U64
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.virtual import field, strings

__all__ = ["SuperBlock", "read_super_blocks"]

_MOST = 4096
_NAME = 32


@dataclass(frozen=True, slots=True)
class SuperBlock:
    """A mounted file system.

    Attributes
    ----------
    address : int
        Virtual, of its `struct super_block`.
    kind : str
        "ext4", "xfs", "tmpfs" ...
    device : str
        `s_id`: "vda1" where it is on a block device. The guest's: not to be printed raw.
    uuid : str
        Empty where the kernel was told none.
    blocks : int
        The `struct address_space` of its block device, 0 for none.
    """

    address: int
    kind: str
    device: str
    uuid: str
    blocks: int


def read_super_blocks(moment: Moment) -> tuple[list[SuperBlock], str]:
    """Return the mounted file systems, and what was cut.

    Raises
    ------
    SymbolsError
        If the symbols have no super blocks.
    StoreError
    """
    structures = moment.structures
    head = structures.symbol("super_blocks")
    at = structures.offset("super_block", "s_list")
    if head is None:
        return [], "the symbols have no list of file systems"
    links: list[int] = []
    link = moment.word(head)
    while link not in (0, head) and len(links) < _MOST:
        links.append(link - at)
        link = moment.word(link)
    found = _super_blocks(moment, np.array([each % (1 << 64) for each in links], np.uint64))
    return found, "" if link == head else "the list of file systems breaks off"


def _super_blocks(moment: Moment, blocks: U64) -> list[SuperBlock]:
    """Read super blocks at addresses, all at once: the tables to each page are gone through once for all of them."""
    structures = moment.structures

    def member(each: U64, kind: str, name: str, length: int) -> U8:
        return moment.virtual.gather(each + np.uint64(structures.offset(kind, name)), length)[0]

    def follow(each: U64, kind: str, name: str) -> U64:
        return np.where(each == 0, np.uint64(0), field(member(each, kind, name, 8), 0))

    kinds = follow(follow(blocks, "super_block", "s_type"), "file_system_type", "name")
    device = follow(blocks, "super_block", "s_bdev")
    if structures.has("block_device", "bd_mapping"):
        mapping = follow(device, "block_device", "bd_mapping")
    else:
        mapping = follow(follow(device, "block_device", "bd_inode"), "inode", "i_mapping")
    numbers = [bytes(row) for row in member(blocks, "super_block", "s_uuid", 16)]
    columns = (
        blocks.tolist(),
        strings(moment.virtual.gather(kinds, _NAME)[0]),
        strings(member(blocks, "super_block", "s_id", _NAME)),
        [str(uuid.UUID(bytes=number)) if any(number) else "" for number in numbers],
        mapping.tolist(),
    )
    return [SuperBlock(*row) for row in zip(*columns, strict=True)]
