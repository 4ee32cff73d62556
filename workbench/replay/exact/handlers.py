"""Whether the virtual CPU of a QEMU that stands still was interrupted and has not run an instruction since.

The interrupt is in the log after the last instruction, and what it pushed is on the guest's stack: a replay that runs
to the same instruction stands before it, so that its memory is another. Refuses to guess: what counts is that the
instruction pointer is at an entry of the interrupt descriptor table. Source: Intel SDM volume 3, 6.10 to 6.14, 20.1.4.
"""

from __future__ import annotations

import re

import numpy as np

from workbench.errors import MonitorError
from workbench.replay.exact.qemu import ExactQemu

__all__ = ["at_handler"]

_POINTER = re.compile(r"\b[RE]IP=([0-9a-f]+)")
_SEGMENT = re.compile(r"^CS =[0-9a-f]+ ([0-9a-f]+)", re.MULTILINE)
_TABLE = re.compile(r"^IDT=\s+([0-9a-f]+) ([0-9a-f]+)", re.MULTILINE)
_CONTROL, _EXTENDED = re.compile(r"\bCR0=([0-9a-f]+)"), re.compile(r"\bEFER=([0-9a-f]+)")
_PROTECTED, _LONG = 1 << 0, 1 << 10
_WORD = re.compile(r"0x([0-9a-f]{8})\b")
_MOST = 256
_REAL = np.dtype([("offset", "<u2"), ("segment", "<u2")])
_GATE = np.dtype([("low", "<u2"), ("segment", "<u2"), ("flags", "<u2"), ("high", "<u2")])
_LONG_GATE = np.dtype([*_GATE.descr, ("top", "<u4"), ("rest", "<u4")])


def at_handler(qemu: ExactQemu) -> bool:
    """Return whether the next instruction is the first one of a handler of interrupts or exceptions.

    Raises
    ------
    MonitorError
        If QEMU's words about its registers are not understood.
    """
    said = qemu.monitor.human("info registers")
    pointer, control, extended = (_found(said, each)[0] for each in (_POINTER, _CONTROL, _EXTENDED))
    if not control & _PROTECTED:
        gates = _table(qemu, said, _REAL)
        (base,) = _found(said, _SEGMENT)
        return bool(np.any(gates["segment"].astype(np.int64) * 16 + gates["offset"] == base + pointer))
    long = bool(extended & _LONG)
    gates = _table(qemu, said, _LONG_GATE if long else _GATE)
    entries = gates["low"].astype(np.uint64) | gates["high"].astype(np.uint64) << np.uint64(16)
    if long:
        entries |= gates["top"].astype(np.uint64) << np.uint64(32)
    return bool(np.any(entries == np.uint64(pointer)))


def _found(said: str, pattern: re.Pattern[str]) -> list[int]:
    found = pattern.search(said)
    if found is None:
        raise MonitorError("QEMU's registers are not understood", expected=pattern.pattern, found=said[:200])
    return [int(each, 16) for each in found.groups()]


def _table(qemu: ExactQemu, said: str, gate: np.dtype[np.void]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Read the table as the guest sees it; what is not mapped is not there."""
    base, limit = _found(said, _TABLE)
    words = min(_MOST * gate.itemsize, limit + 1) // 4
    read = qemu.monitor.human(f"x /{words}xw {base:#x}") if words else ""
    content = np.array([int(each, 16) for each in _WORD.findall(read)], "<u4").tobytes()
    return np.frombuffer(content[: len(content) // gate.itemsize * gate.itemsize], gate)
