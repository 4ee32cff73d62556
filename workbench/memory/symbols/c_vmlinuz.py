"""Layout of a kernel's file: bzImage around a compressed ELF.

Source: Linux `Documentation/arch/x86/boot.rst` (setup header), `scripts/Makefile.lib` (what follows a payload: its
length unpacked), `lib/decompress_unlz4.c`; `include/uapi/linux/elf.h`; LZ4 legacy frames: `lz4_Frame_format.md` of LZ4.
Integers are little-endian. Refuses to do anything: only layouts.
"""

from __future__ import annotations

import struct

__all__ = [
    "BOOT_MAGIC", "BOOT_MAGIC_AT", "ELF", "ELF_HEADER", "LOAD", "LZ4", "LZ4_BLOCK", "MAGICS", "PAYLOAD", "PAYLOAD_AT",
    "PROGRAM_HEADER", "SECTOR", "SETUP_SECTORS_AT", "X86_64",
]  # fmt: skip

SECTOR = 512
SETUP_SECTORS_AT = 0x1F1
BOOT_MAGIC_AT = 0x202
BOOT_MAGIC = b"HdrS"
PAYLOAD_AT = 0x248
PAYLOAD = struct.Struct("<II")
"""Offset from the protected-mode code's start, and length."""

ELF = b"\x7fELF\x02\x01"
"""64 bits, little-endian."""
ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
"""ident, type, machine, version, entry, program headers' offset, section headers' offset, flags, header size, program
header size, their number, section header size, their number, names' section"""
X86_64 = 62
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
"""type, flags, offset, virtual address, physical address, bytes in the file, bytes in memory, alignment"""
LOAD = 1

LZ4 = b"\x02\x21\x4c\x18"
LZ4_BLOCK = 8 << 20
"""Bytes that a block of the legacy frame unpacks to, but for the last."""

MAGICS = {
    b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"]\0\0": "lzma", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd",
    LZ4: "lz4",
}  # fmt: skip
"""How a payload begins."""
