"""Device state without an instruction count gets one at the same instant; what is no such state is refused where."""

from __future__ import annotations

import struct

import pytest

from workbench.errors import FormatError, UnsupportedError
from workbench.replay.exact.counted import with_count

TICKS, CLOCK, OFFSET = 24_167_521_028, 9_309_084_807, -7
"""Host cycles and nanoseconds of the guest's clock, and what its hypervisor had added to the counter."""
HEAD = b"QEVM\0\0\0\3" + b"\x07" + struct.pack(">I", 6) + b"pc-7.2"
TIMER = struct.pack(">qqq", TICKS, 0, CLOCK)
CPU = b"r" * 896 + struct.pack(">q", OFFSET) + b"s" * 50


def section(number: int, name: bytes, content: bytes, version: int = 1, kind: int = 4) -> bytes:
    """Return a section as QEMU's docs/devel/migration.rst has it."""
    head = struct.pack(">BIB", kind, number, len(name)) + name + struct.pack(">II", 0, version)
    return head + content + struct.pack(">BI", 0x7E, number)


def stream(*more: bytes, timer: bytes = TIMER, cpu: bytes = CPU, version: int = 12) -> bytes:
    return b"".join([HEAD, section(2, b"timer", timer, 2), section(5, b"cpu", cpu, version), *more, b"\0"])


def test_the_clock_and_the_counter_go_on_from_where_they_were() -> None:
    counted = with_count(stream())
    icount = b"\x05\x0ctimer/icount" + struct.pack(">Iqq", 1, CLOCK, 0)
    assert counted == stream(
        timer=TIMER + icount, cpu=b"r" * 896 + struct.pack(">q", OFFSET + TICKS - CLOCK) + b"s" * 50
    )


def test_a_counter_that_wraps_around_does() -> None:
    cpu = b"r" * 896 + struct.pack(">Q", (1 << 64) - 1) + b"s" * 50
    assert struct.pack(">Q", TICKS - CLOCK - 1) in with_count(stream(cpu=cpu))


def test_what_has_no_place_in_the_recorded_machine_is_left_out_and_the_rest_is_as_it_was() -> None:
    other = section(9, b"serial", b"x\x7e\0\0\0\x09\x04\0")  # holds what looks like its own footer
    left_out = section(6, b"kvm-tpr-opt", struct.pack(">I", 2) + b"v" * 140), section(7, b"slirp", b"n" * 131, 4)
    assert with_count(stream(*left_out, other)) == with_count(stream(other))
    assert other in with_count(stream(other))


def test_a_guest_that_uses_the_option_rom_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="kvm-tpr-opt is in the way"):
        with_count(stream(section(6, b"kvm-tpr-opt", struct.pack(">I", 1) + b"v" * 140)))


def test_a_state_that_is_counted_already_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="counts instructions already"):
        with_count(with_count(stream()))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (b"", "not a device state"),
        (b"QEVM\0\0\0\4" + stream()[8:], "not a device state"),
        (HEAD + b"\0", "no section 'timer'"),
        (HEAD + section(2, b"timer", TIMER, 2) + b"\0", "no section 'cpu'"),
        (stream(version=13), "'cpu' .* is not as QEMU 7.2 writes it.*expected 12.*found 13"),
        (stream(cpu=b"r" * 900), "'cpu' .* is not as QEMU 7.2 writes it"),
        (HEAD + section(3, b"ram", b"", kind=1) + b"\0", "unknown kind"),
    ],
)
def test_what_is_no_such_state_is_told(wrong: bytes, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        with_count(wrong)


def test_a_state_that_is_cut_anywhere_is_refused() -> None:
    whole = stream(section(9, b"serial", b"content"))
    for length in range(len(whole)):
        with pytest.raises(FormatError):
            with_count(whole[:length])
