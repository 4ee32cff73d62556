"""The table of interrupts: whether each gate leads to an entry of the kernel, and the processor to this table.

Beside the entries with a name there are rows of stubs, one for each vector. Gates that were never used since boot still
lead to the handlers of early boot, whose memory is free by then. Refuses gates that user programs may call, but for
the three that the kernel offers.

Sources: Linux 6.1 arch/x86/kernel/idt.c, arch/x86/include/asm/{idtentry,segment}.h; Intel SDM volume 3, 7.11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.errors import AnalysisError
from workbench.memory.detect.findings import Finding, as_hex
from workbench.memory.detect.pointers import Pointers

__all__ = ["find_idt_hooks"]

_GATES, _GATE_BYTES = 256, 16
_ENTRY = re.compile(r"(xen_)?asm_\w+|entry_INT80_\w+|hyperv_\w+|\w*_hypercall_\w*")
_ANY = re.compile(r".+")
_STUBS = ("irq_entries_start", "spurious_entries_start")
_STUB_BYTES = 8
_EARLY, _EARLY_BYTES = "early_idt_handler_array", (9, 13)
"""Bytes of each of them, without and with a landing for indirect branches."""
_EXCEPTIONS = 32
_KERNEL_CODE = 0x10
_FOR_PROGRAMS = {3, 4, 0x80}
"""Breakpoint, overflow, and the system calls of 32 bits."""


@dataclass(frozen=True, slots=True)
class _Gate:
    vector: int
    target: int
    selector: int
    privilege: int

    @classmethod
    def parse(cls, vector: int, content: bytes) -> _Gate | None:
        """Read a gate; None where it is not present."""
        low, selector, bits, middle = (int.from_bytes(content[at : at + 2], "little") for at in (0, 2, 4, 6))
        target = low | middle << 16 | int.from_bytes(content[8:12], "little") << 32
        return cls(vector, target, selector, bits >> 13 & 3) if bits >> 15 else None


def find_idt_hooks(pointers: Pointers) -> Iterator[Finding]:
    """Yield what is wrong with the table of interrupts.

    Raises
    ------
    UnreadableError
        If it is not mapped.
    AnalysisError
        If there is none, or it has no gate.
    """
    at = pointers.reader.must("idt_table")
    content = pointers.reader.read(at, _GATES * _GATE_BYTES)
    cut = [content[begin : begin + _GATE_BYTES] for begin in range(0, len(content), _GATE_BYTES)]
    gates = [gate for vector, each in enumerate(cut) if (gate := _Gate.parse(vector, each)) is not None]
    if not gates:
        raise AnalysisError("the table of interrupts has no gate", address=as_hex(at))
    kind = _ENTRY if pointers.names.get("asm_exc_page_fault") is not None else _ANY  # before 5.8: any name
    yield from _moved(pointers, at)
    for gate in gates:
        wrong = _wrong(pointers, gate, kind)
        if wrong:
            place = at + gate.vector * _GATE_BYTES
            yield pointers.finding("idt_hook", f"idt_table[{gate.vector}]", place, gate.target, wrong)


def _wrong(pointers: Pointers, gate: _Gate, kind: re.Pattern[str]) -> str:
    if gate.selector != _KERNEL_CODE:
        return f"expected the kernel's code segment {_KERNEL_CODE:#x}, found {gate.selector:#x}"
    if gate.privilege and gate.vector not in _FOR_PROGRAMS:
        return f"expected a gate for the kernel only, found one that programs may call (privilege {gate.privilege})"
    if _is_stub(pointers, gate):
        return ""
    return pointers.wrong(gate.target, kind, "an interrupt's entry")


def _is_stub(pointers: Pointers, gate: _Gate) -> bool:
    found = pointers.names.before(gate.target)
    if found is None:
        return False
    name, distance = found
    if name in _STUBS:
        return pointers.in_text(gate.target) and distance % _STUB_BYTES == 0
    early = [gate.vector * size for size in _EARLY_BYTES]
    return name == _EARLY and gate.vector < _EXCEPTIONS and distance in early


def _moved(pointers: Pointers, table: int) -> Iterator[Finding]:
    """Check that what the processors were told to use is this table, under whatever address."""
    reader = pointers.reader
    told = reader.symbol("idt_descr")
    if told is None:
        return
    address = reader.word(told + 2)  # behind the limit, two bytes
    if reader.physical(address) != reader.physical(table):
        wrong = f"expected the processors' table to be idt_table, found one {pointers.where(address)}"
        yield pointers.finding("idt_hook", "idt_descr", told + 2, address, wrong)
