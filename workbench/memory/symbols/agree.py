"""What has to be where one virtual-to-physical distance says, if it is the kernel's: BTF, page tables, VMCOREINFO.

Refuses to search: every place is given. Addresses by name are virtual, all others physical.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from workbench.errors import SymbolsError, UnreadableError
from workbench.memory.symbols import c_btf, vmcoreinfo
from workbench.memory.symbols import c_kallsyms as c
from workbench.memory.symbols.walk import Memory, present, translate

__all__ = ["ROOTS", "Claims", "cross_check", "find_page_tables", "read_btf"]

ROOTS = ("init_top_pgt", "swapper_pg_dir")
"""What the root of the kernel's page tables is called, since 4.14 and before."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What was found of a kernel, to be held against what it says itself; as in `Kernel`."""

    shift: int
    delta: int
    root: int
    levels: int


def read_btf(memory: Memory, at: int, length: int) -> bytes:
    """Return BTF, of which only the first bytes are looked at.

    Raises
    ------
    SymbolsError
        If it is not there.
    StoreError
    """
    if not memory.holds(at, length):
        raise SymbolsError("BTF lies outside of memory", offset=hex(at), length=length)
    content = memory.read(at, length)
    found = struct.unpack_from("<H", content)[0] if length >= c_btf.HEADER.size else None
    if found != c_btf.MAGIC:
        raise SymbolsError("no BTF where kallsyms says", offset=hex(at), found=found, expected=hex(c_btf.MAGIC))
    return content


def find_page_tables(memory: Memory, addresses: dict[str, int], banner_at: int, delta: int) -> tuple[int, int]:
    """Return root and levels by which the banner's virtual address is its physical one.

    Tables of the other depth, read as these, map it elsewhere or nowhere.

    Raises
    ------
    SymbolsError
        If tables of neither depth map it there.
    StoreError
    """
    virtual = (banner_at - delta) % (1 << 64)
    roots = [(addresses[name] + delta) for name in ROOTS if name in addresses]
    if not roots:
        raise SymbolsError("kallsyms without the kernel's page tables", missing=ROOTS[0])
    for levels in (4, 5):
        if translate(memory, roots[0], levels, virtual) == banner_at:
            return roots[0], levels
    raise SymbolsError(
        "a kernel, but its page tables do not map it: a leftover, or not yet running", offset=hex(banner_at)
    )


def cross_check(memory: Memory, addresses: dict[str, int], found: Claims) -> Literal["agrees", "differs", "absent"]:
    """Hold what was found against the kernel's VMCOREINFO note; one that cannot be read is none.

    Raises
    ------
    StoreError
    """
    try:
        pointer = int.from_bytes(memory.read(addresses["vmcoreinfo_note"] + found.delta, 8), "little")
        at = translate(memory, found.root, found.levels, pointer)
        if at is None:
            return "absent"
        length = present(memory, at, 0, 8192)[1] - at
        said = vmcoreinfo.parse_vmcoreinfo(memory.read(at, min(vmcoreinfo.LONGEST_NOTE, length)))
        agrees = (
            int(said["KERNELOFFSET"], 16) == found.shift
            and int(said["NUMBER(phys_base)"]) - c.KERNEL_MAP == found.delta
            and next(int(said[f"SYMBOL({name})"], 16) for name in ROOTS if f"SYMBOL({name})" in said) + found.delta
            == found.root
            and int(said.get("NUMBER(pgtable_l5_enabled)", found.levels == 5)) == (found.levels == 5)
        )
    except (KeyError, StopIteration, ValueError, SymbolsError, UnreadableError):
        return "absent"
    return "agrees" if agrees else "differs"
