"""An ELF core file of a process, as gdb and others open it: what is in memory, and what is not, never mixed up.

Sources: elf(5), core(5); System V ABI AMD64 supplement (header); Linux include/uapi/linux/elfcore.h, fs/binfmt_elf.c
(`fill_files_note`, PN_XNUM for more than 65,534 segments) and arch/x86/include/asm/user_64.h (registers).

A run that is in memory is a PT_LOAD with its bytes; one that is not has `p_filesz` 0, which readers report as missing.
Refuses to write zeros for it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from workbench.model import PAGE

__all__ = ["NoteFile", "Segment", "core_size", "write_core"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOTE = struct.Struct("<III")
_STATUS = struct.Struct("<iiihHQQiiii64x")
"""Of elf_prstatus up to its registers: siginfo, signal, sets of signals, pid and its kin, four times of 16 bytes."""
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_CORE, _X86_64 = 4, 62
_LOAD, _NOTES = 1, 4
_NT_PRSTATUS, _NT_FILE = 1, 0x46494C45
_PN_XNUM = 0xFFFF
REGISTERS = 27
"""uint64 in user_regs_struct."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of a process's memory: `present` tells whether its bytes are in the file."""

    start: int
    end: int
    protection: str
    present: bool

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class NoteFile:
    """A mapping of a file: `offset` in bytes; `path` is the guest's, kept as data."""

    start: int
    end: int
    offset: int
    path: bytes


def core_size(segments: Sequence[Segment], files: Sequence[NoteFile]) -> int:
    """Return the bytes of the core file."""
    return _data_offset(len(segments), len(_notes(0, (), files))) + sum(
        each.length for each in segments if each.present
    )


def write_core(
    out: BinaryIO,
    pid: int,
    registers: Sequence[int],
    segments: Sequence[Segment],
    files: Sequence[NoteFile],
    content: Iterable[bytes],
) -> str:
    """Write a core file, from beginning to end.

    Parameters
    ----------
    out : binary file
    pid : int
    registers : sequence of int
        In the order of user_regs_struct; empty if they are not known: gdb then shows zeros.
    segments : sequence of Segment
        By address.
    files : sequence of NoteFile
    content : iterable of bytes
        Of the segments that are present, one after the other, in pieces of any size.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    OSError
    """
    notes = _notes(pid, registers, files)
    digest = hashlib.sha256()
    for part in _parts(notes, segments, content):
        digest.update(part)
        out.write(part)
    return digest.hexdigest()


def _parts(notes: bytes, segments: Sequence[Segment], content: Iterable[bytes]) -> Iterator[bytes]:
    data = _data_offset(len(segments), len(notes))
    yield _head(len(segments) + 1)
    at = _notes_offset(len(segments))
    yield _PROGRAM.pack(_NOTES, 0, at, 0, 0, len(notes), 0, 4)
    offset = data
    for each in segments:
        size = each.length if each.present else 0
        yield _PROGRAM.pack(_LOAD, _flags(each.protection), offset, each.start, 0, size, each.length, PAGE)
        offset += size
    if len(segments) + 1 >= _PN_XNUM:
        yield _SECTION.pack(0, 0, 0, 0, 0, 0, 0, len(segments) + 1, 0, 0)
    yield notes + bytes(data - at - len(notes))
    yield from content


def _head(programs: int) -> bytes:
    many = programs >= _PN_XNUM
    sections = (_HEADER.size + programs * _PROGRAM.size, _SECTION.size, 1) if many else (0, 0, 0)
    return _HEADER.pack(
        _IDENT, _CORE, _X86_64, 1, 0, _HEADER.size, sections[0], 0, _HEADER.size, _PROGRAM.size,
        _PN_XNUM if many else programs, sections[1], sections[2], 0,
    )  # fmt: skip


def _notes_offset(segments: int) -> int:
    programs = segments + 1
    return _HEADER.size + programs * _PROGRAM.size + (_SECTION.size if programs >= _PN_XNUM else 0)


def _data_offset(segments: int, notes: int) -> int:
    return -(-(_notes_offset(segments) + notes) // PAGE) * PAGE


def _flags(protection: str) -> int:
    """Return p_flags of "rwx"."""
    return sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in protection)


def _notes(pid: int, registers: Sequence[int], files: Sequence[NoteFile]) -> bytes:
    words = [*registers, *[0] * (REGISTERS - len(registers))]
    status = _STATUS.pack(0, 0, 0, 0, 0, 0, 0, pid, 0, pid, pid) + struct.pack(f"<{REGISTERS}Qi4x", *words, 0)
    return _note(_NT_PRSTATUS, status) + _note(_NT_FILE, _file_note(files))


def _file_note(files: Sequence[NoteFile]) -> bytes:
    heads = [struct.pack("<QQQ", each.start, each.end, each.offset // PAGE) for each in files]
    names = [each.path.replace(b"\0", b"") + b"\0" for each in files]
    return struct.pack("<QQ", len(files), PAGE) + b"".join(heads) + b"".join(names)


def _note(kind: int, content: bytes) -> bytes:
    name = b"CORE\0"
    return _NOTE.pack(len(name), len(content), kind) + name.ljust(8, b"\0") + content + bytes(-len(content) % 4)
