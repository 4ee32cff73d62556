"""What a symbol table is a function of: one kernel's kallsyms, BTF and banner, from memory or from a file alike.

Refuses to know where they came from: addresses here are as linked.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

from blake3 import blake3

from workbench.errors import SymbolsError
from workbench.memory.symbols import c_kallsyms as c
from workbench.memory.symbols.btf import LONGEST_BTF, parse_btf
from workbench.memory.symbols.isf import ISF_VERSION, build_isf
from workbench.memory.symbols.kallsyms import Kallsyms

__all__ = ["LONGEST_BANNER", "Sources", "btf_span", "shift_of", "whole_banner"]

LONGEST_BANNER = 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """One kernel's own description of itself.

    Attributes
    ----------
    kallsyms : Kallsyms
    shift : int
        Bytes by which `kallsyms.relative_base` is not as linked.
    begin : int
        Virtual address, as linked, of the stretch that `kallsyms.places` are offsets in.
    btf : bytes
    banner : bytes
        With its line feed and NUL.
    """

    kallsyms: Kallsyms
    shift: int
    begin: int
    btf: bytes
    banner: bytes

    @property
    def build(self) -> str:
        """Key of the symbol table: a digest, in hexadecimal, of all that its bytes are a function of."""
        digest = blake3()
        settings = f"{ISF_VERSION} {self.kallsyms.layout} {self._base} {sorted(self._places().items())}".encode()
        variables = resources.files(__package__).joinpath("globals.json").read_bytes()
        for part in (settings, variables, self.banner, self.btf, self.kallsyms.content):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest(16)

    @property
    def _base(self) -> int:
        return self.kallsyms.relative_base - self.shift

    def _places(self) -> dict[str, int]:
        return {name: self.begin + place for name, place in self.kallsyms.places.items()}

    def isf(self) -> bytes:
        """Make the symbol table.

        Raises
        ------
        SymbolsError
            If BTF is not whole, or would make too large a table.
        """
        with _collector_paused():
            symbols = self.kallsyms.symbols(self._base)
            symbols += [(address, "R", name) for name, address in self._places().items()]  # kallsyms leaves itself out
            return build_isf(parse_btf(self.btf), symbols, self.banner)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Let no collection of garbage run: half a million records without a cycle are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def shift_of(addresses: dict[str, int]) -> int:
    """Return the KASLR shift in bytes.

    Raises
    ------
    SymbolsError
        If `_text` is not among the addresses.
    """
    if "_text" not in addresses:
        raise SymbolsError("kallsyms without the start of the kernel", missing="_text")
    return addresses["_text"] - c.LINK_BASE


def btf_span(addresses: dict[str, int]) -> tuple[int, int]:
    """Return virtual address and length of BTF.

    Raises
    ------
    SymbolsError
        If the kernel has none, or of an impossible length.
    """
    if "__start_BTF" not in addresses or "__stop_BTF" not in addresses:
        raise SymbolsError("this kernel has no BTF: it was built without CONFIG_DEBUG_INFO_BTF", missing="__start_BTF")
    begin, length = addresses["__start_BTF"], addresses["__stop_BTF"] - addresses["__start_BTF"]
    if not 0 < length <= LONGEST_BTF:
        raise SymbolsError("BTF of an impossible length", found=length, expected=f"up to {LONGEST_BTF}")
    return begin, length


def whole_banner(text: bytes) -> bytes | None:
    """Return the banner at the start of some bytes, up to its NUL; None where there is none."""
    end = text.find(b"\n\0", 0, LONGEST_BANNER)
    return text[: end + 2] if end > 0 and text.startswith(b"Linux version ") else None
