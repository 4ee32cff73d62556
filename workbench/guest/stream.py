"""QEMU's device-state stream: find its sections, add what loaders want, mend the TCG clock.

Format: QEMU `migration/savevm.c` and `docs/devel/migration`. A stream is `QEVM`, be32 version 3, an optional
configuration section, sections, and an end byte. Sections carry no length, so they are found by their footers, each
of which must be followed by another section's header or the end. The bytes come from a QEMU that runs a hostile guest:
every walk is bounded and what does not fit is an error. Refuses RAM sections and anything unknown.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from workbench.errors import FormatError

__all__ = ["Section", "sections", "with_clock_of", "with_configuration"]

_HEADER = b"QEVM\0\0\0\3"
_END, _FULL, _CONFIGURATION, _FOOTER = 0x00, 0x04, 0x07, 0x7E
_MOST_SECTIONS = 65536

# vmstate_x86_cpu, QEMU target/i386/machine.c, version 12: general registers, eip, eflags and hflags (148 bytes), FPU
# (88), 6 + 4 segments (200), sysenter (20), cr0/2/3/4 and dr (96), a20 and mxcsr (8), 16 legacy XMM (256): EFER;
# then star, lstar, cstar, fmask, kernelgsbase, smbase, pat, hflags2, vm_hsave, vm_vmcb: tsc_offset.
_EFER_AT = 816
_TSC_OFFSET_AT = 896
_EFER_BITS = 0xFD01
"""Bits that EFER can hold: SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE."""


@dataclass(frozen=True, slots=True)
class Section:
    """One device's section: its name, instance, and where its data lies in the stream (byte offsets)."""

    name: str
    instance: int
    start: int
    end: int


def with_configuration(stream: bytes, machine: str) -> bytes:
    """Return `stream` with the configuration section that loaders want (`0x07, be32 length, machine type`).

    `xen-save-devices-state` writes none; `machine` is the versioned machine type of the QEMU that wrote the stream.

    Raises
    ------
    FormatError
        If this is no QEMU stream.
    """
    if stream[:8] != _HEADER:
        raise FormatError("not a QEMU device stream", offset=0, expected=_HEADER, found=stream[:8])
    if stream[8:9] == bytes([_CONFIGURATION]):
        return stream
    name = machine.encode()
    return stream[:8] + bytes([_CONFIGURATION]) + struct.pack(">I", len(name)) + name + stream[8:]


def _first_section(stream: bytes) -> int:
    if stream[:8] != _HEADER:
        raise FormatError("not a QEMU device stream", offset=0, expected=_HEADER, found=stream[:8])
    if stream[8:9] != bytes([_CONFIGURATION]):
        return 8
    (length,) = struct.unpack_from(">I", stream, 9)
    if length > 256:
        raise FormatError("configuration section too long", offset=9, found=length)
    return int(13 + length)


def _read_header(stream: bytes, at: int) -> tuple[int, str, int, int]:
    """Return section id, name, instance and where the data begins."""
    if at + 6 > len(stream) or stream[at] != _FULL:
        raise FormatError("no section header in the device stream", offset=at, found=stream[at : at + 1])
    (identity,) = struct.unpack_from(">I", stream, at + 1)
    length = stream[at + 5]
    name = stream[at + 6 : at + 6 + length]
    data = at + 6 + length + 8
    if data > len(stream) or not re.fullmatch(rb"[\x20-\x7e]+", name):
        raise FormatError("a section's name in the device stream is not printable", offset=at, found=name)
    (instance,) = struct.unpack_from(">I", stream, at + 6 + length)
    return identity, name.decode("ascii"), instance, data


def _is_boundary(stream: bytes, at: int) -> bool:
    if at == len(stream) - 1 or (at < len(stream) and stream[at] == _END and not stream[at:].strip(b"\0")):
        return stream[at] == _END
    try:
        _read_header(stream, at)
    except FormatError:
        return False
    return True


def sections(stream: bytes) -> list[Section]:
    """Return the sections of a device stream, in order.

    Raises
    ------
    FormatError
        If the stream is cut short or has anything but device sections.
    """
    found: list[Section] = []
    at = _first_section(stream)
    while at < len(stream) and stream[at] != _END:
        identity, name, instance, data = _read_header(stream, at)
        footer = bytes([_FOOTER]) + struct.pack(">I", identity)
        end = stream.find(footer, data)
        while end >= 0 and not _is_boundary(stream, end + 5):
            end = stream.find(footer, end + 1)
        if end < 0 or len(found) >= _MOST_SECTIONS:
            raise FormatError(f"section {name!r} of the device stream has no end", offset=at)
        found.append(Section(name, instance, data, end))
        at = end + 5
    return found


def with_clock_of(then: bytes, now: bytes) -> bytes:
    """Return state `then` with the TCG clock of state `now`, so that the guest's time goes back with it.

    Inside one QEMU process TCG's tick counter never runs backwards (`cpu_get_ticks_locked` in `softmmu/cpu-timers.c`):
    loaded into the running process, an older state would see its time-stamp counter jump forward. So the stream keeps
    the counter of now (`timer`: cpu_ticks_offset), and every CPU's tsc_offset takes up the difference.

    Raises
    ------
    FormatError
        If the sections are not where they must be; then the stream is not touched.
    """
    ticks_then, ticks_now = (struct.unpack_from(">q", each, _one(each, "timer").start)[0] for each in (then, now))
    mended = bytearray(then)
    struct.pack_into(">q", mended, _one(then, "timer").start, ticks_now)
    cpus = [section for section in sections(then) if section.name == "cpu"]
    if not cpus:
        raise FormatError("the device stream has no CPU", cure="This guest can only be rewound by restarting it")
    for cpu in cpus:
        (efer,) = struct.unpack_from(">Q", then, cpu.start + _EFER_AT)
        if cpu.end - cpu.start < _TSC_OFFSET_AT + 8 or efer & ~_EFER_BITS:
            raise FormatError("the CPU section is of an unknown layout", offset=cpu.start + _EFER_AT, found=hex(efer))
        (offset,) = struct.unpack_from(">Q", then, cpu.start + _TSC_OFFSET_AT)
        struct.pack_into(">Q", mended, cpu.start + _TSC_OFFSET_AT, (offset + ticks_then - ticks_now) % (1 << 64))
    return bytes(mended)


def _one(stream: bytes, name: str) -> Section:
    found = [section for section in sections(stream) if section.name == name]
    if len(found) != 1:
        raise FormatError(f"the device stream has {len(found)} sections {name!r}", expected=1)
    return found[0]
