"""Device state that was taken without an instruction count, as a machine that counts can go on from it.

Two things are missing there, and both are mended in the stream (QEMU docs/devel/migration.rst: sections with headers
and footers; their content never changes its layout under a version):

- `timer` (softmmu/cpu-timers.c, version 2: ticks, unused, clock; int64) has no count, so that the clock would begin at
  0 while every timer of the guest is set for its uptime: it gets the subsection `timer/icount` with the clock as bias;
- the time-stamp counter counted the host's cycles and will count nanoseconds, so that it would stand far back: the
  difference goes into the CPU's `tsc_offset` (target/i386/machine.c, version 12).

Devices that the recorded machine has not are left out: `kvm-tpr-opt`, whose loading under record and replay never
ends, and `slirp`, the host's end of a network. Refuses streams that are built otherwise, and a guest whose TPR option
ROM is at work.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.errors import FormatError, UnsupportedError

__all__ = ["with_count"]

_MAGIC = b"QEVM\0\0\0\3"
_CONFIGURATION, _FULL, _FOOTER, _END = 7, 4, 0x7E, 0
_TIMER, _TIMER_VERSION, _TIMER_BYTES = "timer", 2, 24
_CPU, _CPU_VERSION, _TSC_OFFSET = "cpu", 12, 896
"""Registers to `vm_vmcb` come before it: 896 bytes on x86-64."""
_VAPIC, _VAPIC_ACTIVE = "kvm-tpr-opt", 1
_LEFT_OUT = (_VAPIC, "slirp")


@dataclass(frozen=True, slots=True)
class _Section:
    """One device's state: the whole of it lies in [start, end), its content in [body, footer)."""

    name: str
    instance: int
    version: int
    start: int
    body: int
    footer: int

    @property
    def end(self) -> int:
        return self.footer + 5


def with_count(stream: bytes) -> bytes:
    """Return device state with an instruction count of 0 at the same instant of the guest's clock.

    Parameters
    ----------
    stream : bytes
        As a capture has it, of a machine with one CPU.

    Raises
    ------
    FormatError
        If it is not a stream of known sections.
    UnsupportedError
        If it has a count already, or the guest uses what cannot be recorded.
    """
    sections = {(each.name, each.instance): each for each in _sections(stream)}
    timer = _known(sections.get((_TIMER, 0)), _TIMER, _TIMER_VERSION, _TIMER_BYTES)
    cpu = _known(sections.get((_CPU, 0)), _CPU, _CPU_VERSION, _TSC_OFFSET + 8)
    if timer.footer - timer.body != _TIMER_BYTES:
        raise UnsupportedError("the guest counts instructions already", cure="Go on from a recording of it instead.")
    vapic = sections.get((_VAPIC, 0))
    if vapic and struct.unpack_from(">I", stream, vapic.body)[0] == _VAPIC_ACTIVE:
        raise UnsupportedError(f"{_VAPIC} is in the way: the guest uses KVM's TPR option ROM, which is not replayed")
    ticks, _, clock = struct.unpack_from(">qqq", stream, timer.body)
    (offset,) = struct.unpack_from(">Q", stream, cpu.body + _TSC_OFFSET)
    mended = struct.pack(">Q", (offset + ticks - clock) % (1 << 64))
    edits = [
        (timer.footer, timer.footer, _subsection("timer/icount", 1, struct.pack(">qq", clock, 0))),
        (cpu.body + _TSC_OFFSET, cpu.body + _TSC_OFFSET + 8, mended),
    ]
    edits += [(each.start, each.end, b"") for each in sections.values() if each.name in _LEFT_OUT]
    return _edited(stream, edits)


def _edited(stream: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    parts, at = [], 0
    for start, end, new in sorted(edits):
        parts += [stream[at:start], new]
        at = end
    return b"".join([*parts, stream[at:]])


def _subsection(name: str, version: int, content: bytes) -> bytes:
    return b"\x05" + bytes([len(name)]) + name.encode() + struct.pack(">I", version) + content


def _known(section: _Section | None, name: str, version: int, least: int) -> _Section:
    if section is None:
        raise FormatError(f"the device state has no section {name!r}")
    if section.version != version or section.footer - section.body < least:
        raise FormatError(
            f"the section {name!r} of the device state is not as QEMU 7.2 writes it",
            offset=section.start, expected=version, found=section.version,
        )  # fmt: skip
    return section


def _sections(stream: bytes) -> Iterator[_Section]:
    """Yield the sections in their order; their lengths are nowhere, so each is sought by its footer."""
    if stream[:8] != _MAGIC:
        raise FormatError("not a device state", offset=0, expected=_MAGIC.hex(), found=stream[:8].hex())
    at = 8
    try:
        if stream[at] == _CONFIGURATION:
            at += 5 + struct.unpack_from(">I", stream, at + 1)[0]
        while stream[at] != _END:
            section = _section(stream, at)
            yield section
            at = section.end
    except (struct.error, IndexError) as error:
        raise FormatError("the device state ends early", offset=at, found=len(stream)) from error


def _section(stream: bytes, at: int) -> _Section:
    if stream[at] != _FULL:
        raise FormatError("a section of unknown kind in the device state", offset=at, expected=_FULL, found=stream[at])
    number, length = struct.unpack_from(">IB", stream, at + 1)
    body = at + 14 + length
    instance, version = struct.unpack_from(">II", stream, body - 8)
    name = stream[at + 6 : at + 6 + length].decode("ascii", errors="replace")
    sought = struct.pack(">BI", _FOOTER, number)
    footer = stream.find(sought, body)
    while footer >= 0 and not _goes_on(stream, footer + 5):
        footer = stream.find(sought, footer + 1)
    if footer < 0:
        raise FormatError(f"the section {name!r} of the device state has no end", offset=at)
    return _Section(name, instance, version, at, body, footer)


def _goes_on(stream: bytes, at: int) -> bool:
    """Tell whether another section begins there, or the stream ends: a device's bytes may look like a footer."""
    if stream[at] == _END:
        return at + 1 == len(stream)
    length = stream[at + 5]
    name = stream[at + 6 : at + 6 + length]
    return stream[at] == _FULL and 0 < length == len(name) and all(0x20 < each < 0x7F for each in name)
