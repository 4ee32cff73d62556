"""Layout of kallsyms, the kernel's own table of symbols, in the kernel's read-only data.

Source: Linux `scripts/kallsyms.c` (what is written, in which order) and `kernel/kallsyms.c`,
`kernel/kallsyms_internal.h` (how it is read). Every table begins at a multiple of 8. Refuses to do anything: only
layouts.

Layout A, to Linux 6.3::

    offsets, relative_base, num_syms, names, markers, [seqs_of_names], token_table, token_index

Layout B, from 6.4 on::

    num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs_of_names
"""

from __future__ import annotations

__all__ = [
    "ALIGN", "DIGITS", "DIGIT_ZERO", "FEWEST", "KERNEL_MAP", "LINK_BASE", "MARKED", "MOST", "OFFSET", "SEQUENCE",
    "TOKENS", "TYPES", "WORD",
]  # fmt: skip

ALIGN = 8
TOKENS = 256
"""Entries of token_index: 16-bit offsets into token_table, whose tokens end with NUL."""

DIGITS = b"".join(b"%c\0" % digit for digit in b"0123456789")
"""In every token_table: a character in use stands for itself, and these ten are always in use, side by side."""

DIGIT_ZERO = ord("0")
MARKED = 256
"""Names between two entries of markers: 32-bit offsets into names, the first 0."""

OFFSET = 4
"""Bytes of an entry of offsets: signed; a negative one is `relative_base - 1 - offset` (KALLSYMS_ABSOLUTE_PERCPU)."""

SEQUENCE = 3
"""Bytes of an entry of seqs_of_names."""

WORD = 4
"""Bytes of an entry of markers, and of num_syms."""

TYPES = frozenset(b"ABCDGNRSTUVWabcdginrstuvw?-")
"""The first character of a name, by `nm`."""

FEWEST = 64
MOST = 1 << 20
"""Symbols of a kernel, as far as we believe it; kernels have 50,000 to 500,000."""

KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""Where the kernel's image is mapped (`__START_KERNEL_map`, Documentation/arch/x86/x86_64/mm.rst)."""

LINK_BASE = 0xFFFF_FFFF_8100_0000
"""`_text` as linked, with the default CONFIG_PHYSICAL_START of 16 MiB."""
