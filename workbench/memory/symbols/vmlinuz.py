"""Make a symbol table of a kernel's file: a bzImage, or the ELF inside of one.

The table is, byte for byte, the one that the same kernel in memory gives. What is unpacked is bounded, for the file may
be a stranger's.

Refuses LZO, other machines than x86-64, and a payload that is not whole.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from workbench.errors import SymbolsError
from workbench.memory.symbols import c_vmlinuz as c
from workbench.memory.symbols.kallsyms import AFTER, BEFORE, find_digits, parse_kallsyms, parse_tokens
from workbench.memory.symbols.sources import LONGEST_BANNER, Sources, btf_span, shift_of, whole_banner

__all__ = ["Segment", "load_segments", "read_file_sources", "symbols_from_file", "unpack_kernel"]

_MOST = 1 << 30
"""Bytes of an unpacked kernel at most; distributions' have 50 to 100 MiB, and some 500 with their debug information."""
_DICTIONARY = 512 << 20
"""Bytes that unpacking xz may take; kernels are packed with dictionaries of 32 or 128 MiB."""
_MOST_SEGMENTS = 64
_MOST_DIGITS = 1 << 12
_WANTED = frozenset({"_text", "linux_banner", "__start_BTF", "__stop_BTF"})
_CURE = "Name the kernel's file: /boot/vmlinuz-... of the guest, or a vmlinux."

Segment = tuple[int, int, bytes]
"""Virtual address, physical address, content, of what the kernel's file loads."""


def symbols_from_file(path: Path) -> tuple[str, bytes]:
    """Make the symbol table of a kernel's file.

    Returns
    -------
    build : str
        The key under which a cache keeps it.
    isf : bytes

    Raises
    ------
    SymbolsError
        If it is not a kernel, or lacks kallsyms or BTF.
    OSError
        If the file cannot be read.
    """
    sources = read_file_sources(path)
    return sources.build, sources.isf()


def read_file_sources(path: Path) -> Sources:
    """Read from a kernel's file what its symbol table is made of.

    Raises
    ------
    SymbolsError
        As `symbols_from_file`.
    OSError
    """
    if (length := path.stat().st_size) > _MOST:
        raise SymbolsError("a file too large for a kernel", found=length, expected=_MOST, cure=_CURE)
    segments = load_segments(unpack_kernel(path.read_bytes()))
    refused = SymbolsError("a kernel's file without kallsyms", missing="its token table", cure=_CURE)
    for virtual, content, digits in _token_tables(segments):
        try:
            return _sources(segments, virtual, content, digits)
        except SymbolsError as error:
            refused = error
    raise refused


def _token_tables(segments: list[Segment]) -> Iterator[tuple[int, bytes, int]]:
    """Yield address and content of a segment, and the place of the digits in it, for each token table."""
    for virtual, _, content in segments:
        for digits in islice(find_digits(content), _MOST_DIGITS):
            try:
                parse_tokens(content, digits)
            except SymbolsError:
                continue
            yield virtual, content, digits


def _sources(segments: list[Segment], virtual: int, content: bytes, digits: int) -> Sources:
    begin = max(0, digits - BEFORE) // 8 * 8
    kallsyms = parse_kallsyms(content[begin : digits + AFTER], digits - begin)
    addresses = kallsyms.find(_WANTED)
    shift = shift_of(addresses)
    if "linux_banner" not in addresses:
        raise SymbolsError("kallsyms without the kernel's banner", missing="linux_banner")
    banner = whole_banner(_slice(segments, addresses["linux_banner"], LONGEST_BANNER))
    if banner is None:
        raise SymbolsError("no banner where kallsyms says", offset=hex(addresses["linux_banner"]))
    btf_at, length = btf_span(addresses)
    return Sources(kallsyms, shift, virtual + begin - shift, _slice(segments, btf_at, length), banner)


def _slice(segments: list[Segment], virtual: int, length: int) -> bytes:
    for start, _, content in segments:
        if start <= virtual < start + len(content):
            return content[virtual - start : virtual - start + length]
    raise SymbolsError("an address of the kernel that its file does not load", offset=hex(virtual), cure=_CURE)


def load_segments(image: bytes) -> list[Segment]:
    """Return what an ELF kernel loads.

    Raises
    ------
    SymbolsError
        If it is no ELF for x86-64, or a header points outside of it.
    """
    if not image.startswith(c.ELF) or len(image) < c.ELF_HEADER.size:
        raise SymbolsError("not an ELF of 64 bits", offset=0, found=image[:6], expected=c.ELF, cure=_CURE)
    fields = c.ELF_HEADER.unpack_from(image)
    machine, at, size, count = fields[2], fields[5], fields[9], fields[10]
    whole = size == c.PROGRAM_HEADER.size and count <= _MOST_SEGMENTS and at + size * count <= len(image)
    if machine != c.X86_64 or not whole:
        raise SymbolsError("not a kernel for x86-64", found=(machine, at, size, count), cure=_CURE)
    found = []
    for number in range(count):
        kind, _, offset, virtual, physical, length, _, _ = c.PROGRAM_HEADER.unpack_from(image, at + size * number)
        if kind != c.LOAD:
            continue
        if offset + length > len(image):
            raise SymbolsError("a segment of the kernel is cut off", offset=offset, found=len(image), cure=_CURE)
        found.append((virtual, physical, image[offset : offset + length]))
    return found


def unpack_kernel(file: bytes) -> bytes:
    """Return the ELF inside a bzImage; one that is not packed as it is.

    Raises
    ------
    SymbolsError
        If it is neither, or its payload cannot be unpacked.
    """
    if file.startswith(c.ELF):
        return file
    magic = file[c.BOOT_MAGIC_AT : c.BOOT_MAGIC_AT + 4]
    if magic != c.BOOT_MAGIC:
        raise SymbolsError(
            "not a kernel's file", offset=c.BOOT_MAGIC_AT, found=magic, expected=c.BOOT_MAGIC, cure=_CURE
        )
    offset, length = c.PAYLOAD.unpack_from(file.ljust(c.PAYLOAD_AT + c.PAYLOAD.size, b"\0"), c.PAYLOAD_AT)
    begin = ((file[c.SETUP_SECTORS_AT] or 4) + 1) * c.SECTOR + offset
    if length <= 4 or begin + length > len(file):
        raise SymbolsError("the kernel's payload is cut off", offset=begin, found=len(file), cure=_CURE)
    payload = file[begin : begin + length]
    if payload.startswith(c.ELF):
        return payload
    packing = next((name for start, name in c.MAGICS.items() if payload.startswith(start)), None)
    if packing is None:
        raise SymbolsError("an unknown packing of the kernel", found=payload[:6], expected=sorted(c.MAGICS.values()))
    return _unpack(packing, payload)


def _unpack(packing: str, payload: bytes) -> bytes:
    length = int.from_bytes(payload[-4:], "little")
    if not 0 < length <= _MOST:
        raise SymbolsError("an unpacked kernel of an impossible length", found=length, expected=_MOST)
    try:
        image = _UNPACKERS[packing](payload, length)
    except Exception as error:  # each library has errors of its own
        raise SymbolsError(f"the kernel's {packing} payload cannot be unpacked: {error}", cure=_CURE) from error
    if len(image) != length:
        raise SymbolsError("the kernel's payload is not whole", found=len(image), expected=length, cure=_CURE)
    return image


def _gzip(payload: bytes, length: int) -> bytes:
    return zlib.decompressobj(31).decompress(payload, length)


def _lzma(payload: bytes, length: int) -> bytes:
    return lzma.LZMADecompressor(memlimit=_DICTIONARY).decompress(payload, length)


def _bzip2(payload: bytes, length: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, length)


def _zstd(payload: bytes, length: int) -> bytes:
    import io

    import zstandard

    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(payload)) as reader:
        return reader.read(length)


def _lz4(payload: bytes, length: int) -> bytes:
    return b"".join(_lz4_blocks(payload, length))


def _lz4_blocks(payload: bytes, length: int) -> Iterator[bytes]:
    import pyarrow as pa

    codec = pa.Codec("lz4_raw")
    at = len(c.LZ4)
    while length:
        size = int.from_bytes(payload[at : at + 4], "little")
        if not 0 < size <= len(payload) - at - 4:
            raise ValueError(f"a block of {size} bytes at {at}")
        unpacked = min(length, c.LZ4_BLOCK)
        yield codec.decompress(payload[at + 4 : at + 4 + size], unpacked, asbytes=True)
        at, length = at + 4 + size, length - unpacked


_UNPACKERS = {"gzip": _gzip, "xz": _lzma, "lzma": _lzma, "bzip2": _bzip2, "zstd": _zstd, "lz4": _lz4}
