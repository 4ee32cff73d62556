"""Where a kernel patches its own code while it runs, and whether what stands there now is what it would write.

Source: Linux include/linux/jump_label.h and static_call.h, arch/x86/kernel/jump_label.c, static_call.c and ftrace.c.
Sites are read from the kernel's own tables: static keys (a jump to the table's target, or nothing), static calls
(a call or jump into kernel text or a module, a return, or nothing) and the places of the function tracer (a call, or
nothing). Alternatives are applied at boot only, and are no sites.

Refuses to trust a site for its place alone: code in a site that the kernel would not write there is not patching. What
is called is not judged: who hooks by the function tracer, as kernel modules may, writes a sound call. Breakpoints of
kprobes have no table, and so count as changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.memory.owning.frames import I64, U8, U64
from workbench.memory.owning.image import Module
from workbench.memory.owning.structures import Moment
from workbench.memory.owning.virtual import field

__all__ = ["Sites", "read_sites"]

_KINDS = ("static key", "static call", "static call", "function tracer")
_JUMP, _CALL, _TRAMPOLINE, _TRACE = 0, 1, 2, 3
_LENGTH = np.array([5, 5, 8, 5])
"""Bytes by kind."""
_MOST = 1 << 19
_MOST_PAGES = 1 << 14
_IDLE_2 = bytes.fromhex("6690")
_IDLE_5 = bytes.fromhex("0f1f440000")
_RETURN_0 = (bytes.fromhex("66664831c0"), bytes.fromhex("2e2e2e31c0"))
"""What a static call becomes that returns 0."""
_RETURN = 0xC3
_CALL_32, _JUMP_32, _JUMP_8, _BREAK = 0xE8, 0xE9, 0xEB, 0xCC


@dataclass(slots=True)
class Sites:
    """Places that the kernel patches, by address; columns of equal length.

    Attributes
    ----------
    address : uint64
    kind : int64
    target : uint64
        Where a static key's jump goes; else 0.
    """

    address: U64
    kind: I64
    target: U64

    def judge(self, moment: Moment, where: U64, text: list[tuple[int, int]]) -> tuple[bool, list[str]]:
        """Tell whether every changed byte belongs to a site, and the site is as the kernel writes it.

        Parameters
        ----------
        moment : Moment
            As it is now.
        where : (n,) uint64
            Virtual addresses of changed bytes.
        text : list of (int, int)
            Begin and end of what is kernel or module text.

        Returns
        -------
        sound : bool
        words : list of str
            A site each, where and how; or the first place that is none.

        Raises
        ------
        StoreError
        """
        sites = self._of(where)
        if (sites < 0).any():
            return False, [f"{int(where[sites < 0][0]):#x} is no place that the kernel patches"]
        which = np.unique(sites)
        code, _ = moment.virtual.gather(self.address[which], 8)
        words = []
        for site, found in zip(which.tolist(), code, strict=True):
            address, kind = int(self.address[site]), int(self.kind[site])
            told = _sound(kind, address, int(self.target[site]), found.tobytes(), text)
            if not told:
                return False, [
                    f"{address:#x} {_KINDS[kind]}: {found[:5].tobytes().hex()} is not what the kernel writes"
                ]
            words.append(f"{address:#x} {_KINDS[kind]}: {told}")
        return True, words

    def _of(self, where: U64) -> I64:
        """Return the site of each address, -1 for none."""
        if not len(self.address):
            return np.full(len(where), -1, np.int64)
        at = np.searchsorted(self.address, where, "right") - 1
        behind = (where - self.address[at]).astype(np.int64)
        return np.where((at >= 0) & (behind < _LENGTH[self.kind[at]]), at, -1)


def _sound(kind: int, address: int, target: int, code: bytes, text: list[tuple[int, int]]) -> str:
    """Return what stands at a site, empty if the kernel would not write it."""
    if code[0] == _BREAK:
        return "being patched"
    goes = _goes_to(address, code)
    if kind == _JUMP:
        idle = code[:2] == _IDLE_2 or code[:5] == _IDLE_5
        return "off" if idle else "on" if goes == target and code[0] in (_JUMP_8, _JUMP_32) else ""
    if code[:5] == _IDLE_5:
        return "off"
    if kind == _TRACE:
        return f"calls {goes:#x}" if code[0] == _CALL_32 and goes is not None else ""
    if code[0] == _RETURN or code[:5] in _RETURN_0:
        return "returns"
    inside = goes is not None and any(start <= goes < end for start, end in text)
    return f"goes to {goes:#x}" if inside else ""


def _goes_to(address: int, code: bytes) -> int | None:
    """Return where a call or jump goes."""
    if code[0] in (_CALL_32, _JUMP_32):
        return (address + 5 + int.from_bytes(code[1:5], "little", signed=True)) % (1 << 64)
    if code[0] == _JUMP_8:
        return (address + 2 + int.from_bytes(code[1:2], "little", signed=True)) % (1 << 64)
    return None


def read_sites(moment: Moment, modules: list[Module]) -> Sites:
    """Read the kernel's and its modules' tables of what they patch; a table that cannot be read has no sites.

    Raises
    ------
    StoreError
    """
    address, kind, target = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]

    def add(where: U64, which: int, to: U64 | None = None) -> None:
        address.append(where)
        kind.append(np.full(len(where), which))
        target.append(np.zeros(len(where), np.uint64) if to is None else to)

    for start, count in _tables(moment, modules, "jump_entry", "jump_label", "__start___jump_table"):
        add(*_keys(moment, start, count))
    for start, count in _tables(moment, modules, "static_call_site", "static_call", "__start_static_call_sites"):
        add(_calls(moment, start, count), _CALL)
    first, last = (
        moment.structures.symbol("__static_call_text_start"),
        moment.structures.symbol("__static_call_text_end"),
    )
    if first is not None and last is not None and 0 < last - first < 1 << 20:
        add(np.arange(first, last, 8, dtype=np.uint64), _TRAMPOLINE)
    add(_traced(moment), _TRACE)
    every = Sites(np.concatenate(address), np.concatenate(kind), np.concatenate(target))
    order = np.argsort(every.address, kind="stable")
    return Sites(every.address[order], every.kind[order], every.target[order])


_MODULE_TABLES = {
    "jump_label": ("jump_entries", "num_jump_entries"),
    "static_call": ("static_call_sites", "num_static_call_sites"),
}


def _tables(moment: Moment, modules: list[Module], kind: str, what: str, symbol: str) -> list[tuple[int, int]]:
    """Return begin and length (in entries) of the kernel's table and of each module's."""
    structures = moment.structures
    if not structures.has(kind):
        return []
    size = structures.size(kind)
    start, stop = structures.symbol(symbol), structures.symbol(symbol.replace("__start", "__stop"))
    found = [] if start is None or stop is None else [(start, (stop - start) // size)]
    pointer, number = _MODULE_TABLES[what]
    if structures.has("module", pointer):
        at, count = structures.offset("module", pointer), structures.offset("module", number)
        words = [(moment.word(each.address + at), moment.word(each.address + count)) for each in modules]
        found += [(table, length & 0xFFFF_FFFF) for table, length in words]
    return [(table, length) for table, length in found if table and 0 < length <= _MOST]


def _entries(moment: Moment, start: int, count: int, size: int) -> tuple[U8, U64]:
    """Return the entries of a table that can be read, and where they are."""
    where = np.uint64(start) + np.arange(count, dtype=np.uint64) * np.uint64(size)
    rows, whole = moment.virtual.elements(start, np.arange(count), size)
    return rows[whole], where[whole]


def _relative(rows: U8, offset: int, where: U64) -> U64:
    """Return the address that a 32-bit distance from its own place means."""
    distance = field(rows, offset, "<i4")  # negative ones wrap, and so does the sum
    return distance + where + np.uint64(offset)


def _keys(moment: Moment, start: int, count: int) -> tuple[U64, int, U64]:
    structures = moment.structures
    rows, where = _entries(moment, start, count, structures.size("jump_entry"))
    code, target = structures.offset("jump_entry", "code"), structures.offset("jump_entry", "target")
    return _relative(rows, code, where), _JUMP, _relative(rows, target, where)


def _calls(moment: Moment, start: int, count: int) -> U64:
    rows, where = _entries(moment, start, count, moment.structures.size("static_call_site"))
    return _relative(rows, moment.structures.offset("static_call_site", "addr"), where)


def _traced(moment: Moment) -> U64:
    """Return the places of the function tracer, from its list of pages of records."""
    structures = moment.structures
    first = structures.symbol("ftrace_pages_start")
    if first is None or not (structures.has("ftrace_page") and structures.has("dyn_ftrace")):
        return np.zeros(0, np.uint64)
    page, found = moment.word(first), [np.zeros(0, np.uint64)]
    seen: set[int] = set()
    total = 0
    while page and page not in seen and len(seen) < _MOST_PAGES and total < _MOST:
        seen.add(page)
        records = moment.word(page + structures.offset("ftrace_page", "records"))
        count = moment.word(page + structures.offset("ftrace_page", "index")) & 0xFFFF_FFFF
        if 0 < count <= _MOST:
            rows, _ = _entries(moment, records, count, structures.size("dyn_ftrace"))
            found.append(field(rows, structures.offset("dyn_ftrace", "ip")))
            total += count
        page = moment.word(page + structures.offset("ftrace_page", "next"))
    return np.concatenate(found)
