"""The kernel's modules by four ways: the list, sysfs, the tree that code addresses are looked up in, and memory.

In memory a module is told by the pointer to itself that it has at a known place (`mkobj.mod`), in the pages that are
mapped where modules are. Refuses to take a built-in for a module that is loaded.

Sources: Linux 6.1 include/linux/module.h, kernel/module/{main,tree_lookup,sysfs}.c, include/linux/rbtree_latch.h,
Documentation/arch/x86/x86_64/mm.rst (the last 2 GiB of addresses); Intel SDM volume 3, 4.5 (page tables).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.reading import Reader, container_list
from workbench.memory.detect.tasks import View, guarded
from workbench.model import PAGE

__all__ = ["LIVE", "kobject_view", "list_modules", "memory_view", "module_name", "module_state", "tree_view"]

LIVE = 0
_STATES = range(4)
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,55}")
_NAME_BYTES = 56
_IMAGE, _LAST = 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_FF00_0000
"""Addresses between which the kernel's image and, behind it, modules are."""
_ENTRIES, _PRESENT, _LARGE, _FRAME = 512, 1, 1 << 7, 0x000F_FFFF_FFFF_F000
_MOST_NODES = 1 << 16
_RB_RIGHT, _RB_LEFT, _RB_BYTES = 8, 16, 24


def module_name(reader: Reader, address: int) -> str:
    """Return a module's name; the guest's, not to be printed raw."""
    return reader.text(address + reader.offset("module", "name"), _NAME_BYTES)


def module_state(reader: Reader, address: int) -> int:
    """Return a module's state: 0 live, 1 coming, 2 going, 3 not formed yet."""
    return reader.member(address, "module", "state", 4)


def list_modules(reader: Reader) -> View:
    """Follow the list `modules`: what lsmod and /proc/modules show."""
    head = reader.must("modules")
    return guarded(View("module list"), lambda: container_list(reader, head, reader.offset("module", "list")))


def kobject_view(reader: Reader) -> View:
    """Follow `module_kset`: what /sys/module shows, without the built-in ones."""
    return guarded(View("kobjects of sysfs"), lambda: _kobjects(reader))


def _kobjects(reader: Reader) -> Iterator[int]:
    kset = reader.word(reader.must("module_kset"))
    link = reader.offset("module_kobject", "kobj") + reader.offset("kobject", "entry")
    for kobject in container_list(reader, kset + reader.offset("kset", "list"), link):
        module = reader.member(kobject, "module_kobject", "mod")
        if module:
            yield module


def tree_view(reader: Reader) -> View | None:
    """Walk the tree of modules by the addresses of their code; None where the kernel has none."""
    if reader.symbol("mod_tree") is None or not reader.has("mod_tree_node", "mod"):
        return None
    return guarded(View("tree of code addresses"), lambda: _tree(reader))


def _tree(reader: Reader) -> Iterator[int]:
    root = reader.must("mod_tree") + reader.offset("mod_tree_root", "root")
    half = reader.member(root, "latch_tree_root", "seq", 4) & 1
    inside = reader.offset("mod_tree_node", "node") + half * _RB_BYTES - reader.offset("mod_tree_node", "mod")
    waiting, seen = [reader.word(root + reader.offset("latch_tree_root", "tree") + 8 * half)], set[int]()
    while waiting:
        node = waiting.pop()
        if not node:
            continue
        if node in seen or len(seen) >= _MOST_NODES:
            raise AnalysisError("the tree of modules is none", address=hex(node), seen=len(seen))
        seen.add(node)
        waiting += [reader.word(node + _RB_RIGHT), reader.word(node + _RB_LEFT)]
        yield reader.word(node - inside)


def memory_view(reader: Reader) -> View:
    """Look through the pages mapped for modules for structures that point to themselves as a module does."""
    return guarded(View("memory of modules"), lambda: _scanned(reader))


def _scanned(reader: Reader) -> Iterator[int]:
    place = reader.offset("module", "mkobj") + reader.offset("module_kobject", "mod")
    image = range(reader.must("_text"), reader.must("_end"))
    for address, physical in mapped_pages(reader):
        if address in image or not reader.memory.holds(physical, PAGE):
            continue
        words = np.frombuffer(reader.memory.read(physical, PAGE), np.uint64)
        modules = np.arange(PAGE // 8, dtype=np.uint64) * np.uint64(8) + np.uint64(address - place)
        for module in modules[words == modules].tolist():
            if _may_be(reader, module):
                yield module


def _may_be(reader: Reader, address: int) -> bool:
    try:
        return module_state(reader, address) in _STATES and bool(_NAME.fullmatch(module_name(reader, address)))
    except UnreadableError:
        return False


def mapped_pages(reader: Reader) -> Iterator[tuple[int, int]]:
    """Yield virtual and physical addresses of the small pages that are mapped in the last 2 GiB."""
    root, levels = reader.sight.kernel.page_table_root, reader.sight.kernel.levels
    tables = [(0, root & _FRAME)]
    for level in range(levels, 0, -1):
        width = 12 + 9 * (level - 1)
        below = []
        for begin, table in tables:
            below += _level(reader, begin, table, width)
        tables = [(begin, entry & _FRAME) for begin, entry in below if level == 1 or not (entry & _LARGE)]
    yield from tables


def _level(reader: Reader, begin: int, table: int, width: int) -> list[tuple[int, int]]:
    """Return addresses and entries of one page table that are present, and cover some of the last 2 GiB."""
    if not reader.memory.holds(table, PAGE):
        return []
    entries = np.frombuffer(reader.memory.read(table, PAGE), np.uint64)
    found = []
    for at in np.flatnonzero(entries & np.uint64(_PRESENT)).tolist():
        address = begin + (at << width)
        address |= (1 << 64) - (1 << (width + 9)) if begin == 0 and at >= _ENTRIES // 2 else 0
        if address + (1 << width) > _IMAGE and address < _LAST:
            found.append((address, int(entries[at])))
    return found
