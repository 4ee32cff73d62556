"""Read the VMCOREINFO note, in which the kernel says where things are for the tools that read its crash dumps.

Source: Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`; an ELF note (`include/uapi/linux/elf.h`) whose content
is lines of KEY=VALUE. The guest may have written anything there: it is used to cross-check, never alone.

Refuses a note that is not whole, and one longer than a page.
"""

from __future__ import annotations

import struct

from workbench.errors import SymbolsError

__all__ = ["LONGEST_NOTE", "parse_vmcoreinfo"]

_HEADER = struct.Struct("<III")
"""Lengths of name and content, type."""
_NAME = b"VMCOREINFO\0"
LONGEST_NOTE = 4096 + 24
"""Bytes of a note: the kernel gives the content one page (`VMCOREINFO_BYTES`)."""


def parse_vmcoreinfo(note: bytes) -> dict[str, str]:
    """Return the keys and values of a note.

    Parameters
    ----------
    note : bytes
        From the note's header on; more may follow.

    Raises
    ------
    SymbolsError
        If it is no VMCOREINFO note, or not whole.
    """
    if len(note) < _HEADER.size:
        raise SymbolsError("a VMCOREINFO note is cut off", found=len(note), expected=_HEADER.size)
    name, length, _ = _HEADER.unpack_from(note)
    begin = _HEADER.size + -(-len(_NAME) // 4) * 4
    if name != len(_NAME) or note[_HEADER.size : _HEADER.size + name] != _NAME:
        raise SymbolsError("not a VMCOREINFO note", offset=0, found=note[: _HEADER.size + len(_NAME)])
    if begin + length > min(len(note), LONGEST_NOTE):
        raise SymbolsError("a VMCOREINFO note is too long or cut off", found=length, expected=len(note) - begin)
    text = note[begin : begin + length].split(b"\0", 1)[0].decode("latin-1")
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, found, value in pairs if found}
