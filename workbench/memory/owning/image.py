"""The kernel's own memory: sections of its image, and its modules' parts.

Source: Linux arch/x86/kernel/vmlinux.lds.S, include/linux/module.h (`core_layout` to 6.3, `mem` from 6.4 on).

Refuses a module list without an end. A module that took itself off the list is not found here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.memory.owning.frames import I64, U8
from workbench.memory.owning.structures import Moment, Structures
from workbench.memory.owning.virtual import field, strings

__all__ = ["Module", "Span", "kernel_spans", "processor_spans", "read_modules", "span_frames"]

_SECTIONS = (
    ("_text", "_etext", "kernel text", ".text"),
    ("__start_rodata", "__end_rodata", "kernel rodata", ".rodata"),
    ("_sdata", "_edata", "kernel data", ".data"),
    ("__init_begin", "__init_end", "kernel init", ".init"),
    ("__bss_start", "__bss_stop", "kernel data", ".bss"),
    ("__brk_base", "__brk_limit", "kernel data", ".brk"),
)
_MEMORY_TYPES = {"MOD_TEXT": "module text", "MOD_RODATA": "module rodata", "MOD_RO_AFTER_INIT": "module rodata",
                 "MOD_DATA": "module data"}  # fmt: skip
_MOST_MODULES = 4096
_MOST_BYTES = 1 << 30
_MOST_PROCESSORS = 512
_MOST_UNIT = 2 << 20
_PAGE_BITS = 12


@dataclass(frozen=True, slots=True)
class Span:
    """Virtual addresses `[start, end)` of the kernel, whose they are, and what is there."""

    start: int
    end: int
    owner: str
    detail: str


@dataclass(frozen=True, slots=True)
class Module:
    """A module on the kernel's list.

    Attributes
    ----------
    name : str
        The guest's, not to be printed raw.
    address : int
        Of its `struct module`.
    spans : tuple of Span
        Of the parts that stay after its initialisation.
    """

    name: str
    address: int
    spans: tuple[Span, ...]


def kernel_spans(moment: Moment) -> list[Span]:
    """Return the sections of the kernel's image, by address.

    Returns
    -------
    list of Span
        Owners "kernel text", "kernel rodata", "kernel data", "kernel init".
    """
    found = []
    for first, last, owner, detail in _SECTIONS:
        start, end = moment.structures.symbol(first), moment.structures.symbol(last)
        if start is not None and end is not None and _sound(span := Span(start, end, owner, detail)):
            found.append(span)
    return found


def _sound(span: Span) -> bool:
    return 0 < span.end - span.start < _MOST_BYTES and span.end < 1 << 64


def processor_spans(moment: Moment) -> list[Span]:
    """Return the areas of per-processor variables, in the kernel's direct map; none where the symbols lack them.

    Source: mm/percpu.c (`pcpu_unit_size`) and arch/x86/kernel/setup_percpu.c (`__per_cpu_offset`).
    """
    symbol, word = moment.structures.symbol, moment.word
    table, unit, count = symbol("__per_cpu_offset"), symbol("pcpu_unit_size"), symbol("nr_cpu_ids")
    if table is None or unit is None or count is None:
        return []
    first = symbol("__per_cpu_start") or 0
    first = first if first >> 63 else 0  # until 6.14 it is no address, but 0
    size, processors = word(unit) & 0xFFFF_FFFF, word(count) & 0xFFFF_FFFF
    found = []
    for number in range(min(processors, _MOST_PROCESSORS)):
        start = (word(table + 8 * number) + first) % (1 << 64)
        found.append(Span(start, start + size, "kernel data", f"processor {number}'s"))
    return [span for span in found if _sound(span) and size <= _MOST_UNIT]


def span_frames(moment: Moment, span: Span) -> I64:
    """Return the frames of a span of the kernel's image."""
    first = (span.start + moment.delta) >> _PAGE_BITS
    return np.arange(first, -(-(span.end + moment.delta) >> _PAGE_BITS))


def read_modules(moment: Moment) -> tuple[list[Module], str]:
    """Return the modules on the kernel's list, and what was cut.

    Raises
    ------
    StoreError
    """
    structures = moment.structures
    head = structures.symbol("modules")
    if head is None or not structures.has("module"):
        return [], ""
    at = structures.offset("module", "list")
    found: list[Module] = []
    link = moment.word(head)
    seen = {head}
    while link and link not in seen and len(found) < _MOST_MODULES:
        seen.add(link)
        found.append(_module(moment, link - at))
        link = moment.word(link)
    return found, "" if link == head else "the list of modules breaks off or is too long"


def _module(moment: Moment, address: int) -> Module:
    structures = moment.structures
    rows, _ = moment.virtual.gather(np.array([address % (1 << 64)], np.uint64), min(structures.size("module"), 4096))
    at = structures.offset("module", "name")
    name = strings(rows[:, at : at + 56])[0]
    split = _by_layout if structures.has("module", "core_layout") else _by_memory
    spans = tuple(span for span in split(structures, rows, name) if _sound(span))
    return Module(name, address, spans)


def _by_layout(structures: Structures, rows: U8, name: str) -> list[Span]:
    """Return the parts of a module as kernels up to 6.3 lay it out: text, what is read only, the rest."""

    def value(member: str, kind: str = "<u4") -> int:
        return int(field(rows, structures.offset("module", f"core_layout.{member}"), kind)[0])

    base, text = value("base", "<u8"), value("text_size")
    constant = max(value("ro_size"), value("ro_after_init_size"))
    cuts = ((0, text, "module text"), (text, constant, "module rodata"), (constant, value("size"), "module data"))
    return [Span(base + start, base + end, owner, name) for start, end, owner in cuts]


def _by_memory(structures: Structures, rows: U8, name: str) -> list[Span]:
    """Return the parts of a module as kernels from 6.4 on lay it out: a piece of memory for each kind."""
    kinds = structures.enumeration("mod_mem_type")
    first, step = structures.offset("module", "mem"), structures.size("module_memory")
    base_at, size_at = structures.offset("module_memory", "base"), structures.offset("module_memory", "size")
    found = []
    for kind, owner in _MEMORY_TYPES.items():
        if (number := kinds.get(kind)) is not None:
            base = int(field(rows, first + number * step + base_at)[0])
            size = int(field(rows, first + number * step + size_at, "<u4")[0])
            found.append(Span(base, base + size, owner, name))
    return found
