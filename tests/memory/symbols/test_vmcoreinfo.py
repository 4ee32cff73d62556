"""The VMCOREINFO note: lines of KEY=VALUE, from a guest that may have written anything."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelbuilder import note

from workbench.errors import SymbolsError
from workbench.memory.symbols.vmcoreinfo import LONGEST_NOTE, parse_vmcoreinfo

WHOLE = note(OSRELEASE="6.1.0", KERNELOFFSET="1e800000", NUMBER__phys_base=-4096)


def test_keys_and_values_are_read() -> None:
    assert parse_vmcoreinfo(WHOLE + b"behind it") == {
        "OSRELEASE": "6.1.0", "KERNELOFFSET": "1e800000", "NUMBER(phys_base)": "-4096",
    }  # fmt: skip


def test_lines_without_a_value_are_left_out() -> None:
    assert parse_vmcoreinfo(note(A=1) + b"") == {"A": "1"}
    assert parse_vmcoreinfo(WHOLE.replace(b"OSRELEASE=", b"OSRELEASE ")).keys() == {"KERNELOFFSET", "NUMBER(phys_base)"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (WHOLE[:11], "cut off"),
        (WHOLE[:-1], "too long or cut off"),
        (b"\x0c" + WHOLE[1:], "not a VMCOREINFO note"),
        (WHOLE.replace(b"VMCORE", b"VMCARE"), "not a VMCOREINFO note"),
        (WHOLE[:4] + b"\xff\xff\xff\xff" + WHOLE[8:], "too long or cut off"),
        (note(KEY="x" * LONGEST_NOTE), "too long or cut off"),
    ],
)
def test_what_is_no_whole_note_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(SymbolsError, match=message):
        parse_vmcoreinfo(content)


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(SymbolsError):
        parse_vmcoreinfo(garbage)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, value: int) -> None:
    with suppress(SymbolsError):
        parse_vmcoreinfo(WHOLE[:at] + bytes([value]) + WHOLE[at + 1 :])
