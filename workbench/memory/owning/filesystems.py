"""Mounted file systems as the kernel knows them: super blocks, and the address spaces of their block devices.

Source: Linux include/linux/fs.h (`super_blocks`, `struct super_block`), blk_types.h (`bd_inode`, from 6.10 on
`bd_mapping`). Refuses a list without an end.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np

from workbench.memory.owning.structures import Moment
from workbench.memory.owning.virtual import strings

__all__ = ["SuperBlock", "read_super_blocks"]

_MOST = 4096


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
    found: list[SuperBlock] = []
    link = moment.word(head)
    while link != head:
        if not link or len(found) >= _MOST:
            return found, "the list of file systems breaks off"
        found.append(_super_block(moment, link - at))
        link = moment.word(link)
    return found, ""


def _super_block(moment: Moment, address: int) -> SuperBlock:
    structures, word = moment.structures, moment.word
    kind = word(
        word(address + structures.offset("super_block", "s_type")) + structures.offset("file_system_type", "name")
    )
    number = _bytes(moment, address + structures.offset("super_block", "s_uuid"), 16)
    return SuperBlock(
        address,
        strings(np.frombuffer(_bytes(moment, kind, 32), np.uint8)[None, :])[0],
        strings(
            np.frombuffer(_bytes(moment, address + structures.offset("super_block", "s_id"), 32), np.uint8)[None, :]
        )[0],
        str(uuid.UUID(bytes=number)) if any(number) else "",
        _blocks(moment, word(address + structures.offset("super_block", "s_bdev"))),
    )


def _blocks(moment: Moment, device: int) -> int:
    """Return the address space of a block device."""
    structures, word = moment.structures, moment.word
    if not device:
        return 0
    if structures.has("block_device", "bd_mapping"):
        return word(device + structures.offset("block_device", "bd_mapping"))
    inode = word(device + structures.offset("block_device", "bd_inode"))
    return word(inode + structures.offset("inode", "i_mapping")) if inode else 0


def _bytes(moment: Moment, address: int, length: int) -> bytes:
    rows, _ = moment.virtual.gather(np.array([address % (1 << 64)], np.uint64), length)
    return bytes(rows[0])
