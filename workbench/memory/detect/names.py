"""The kernel's symbols by address: what lies exactly there, and what lies before it.

Taken from kallsyms, which tells code from data; a symbol table by path does not. Refuses what `read_sources` refuses.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from workbench.memory.symbols.kernel import Kernel, Memory, read_sources

__all__ = ["Names", "read_names"]

_CODE = frozenset("tTwW")


class Names:
    """Symbols by address.

    Parameters
    ----------
    symbols : list of (address, kind, name)
        Kinds are those of nm(1): "t" and "T" for code.
    """

    def __init__(self, symbols: list[tuple[int, str, str]]) -> None:
        self._symbols = sorted(symbols)
        self._addresses = [address for address, _, _ in self._symbols]
        first: dict[str, int] = {}
        for address, _, name in self._symbols:
            first.setdefault(name, address)
        self._first = first

    def get(self, name: str) -> int | None:
        """Return the address of a symbol, the lowest of its name."""
        return self._first.get(name)

    def at(self, address: int) -> list[str]:
        """Return the names that begin exactly there."""
        low = bisect_left(self._addresses, address)
        return [name for _, _, name in self._symbols[low : bisect_right(self._addresses, address)]]

    def before(self, address: int) -> tuple[str, int] | None:
        """Return the nearest symbol at or before an address, and the bytes between."""
        low = bisect_right(self._addresses, address) - 1
        return None if low < 0 else (self._symbols[low][2], address - self._addresses[low])

    def room(self, address: int) -> int:
        """Return the bytes from an address to the next symbol that begins behind it; 0 behind the last one."""
        after = bisect_right(self._addresses, address)
        return self._addresses[after] - address if after < len(self._addresses) else 0

    def data(self) -> Iterator[tuple[int, str]]:
        """Yield address and name of what is not code."""
        yield from ((address, name) for address, kind, name in self._symbols if kind not in _CODE)

    def told(self, address: int) -> str:
        """Return an address in words: a symbol and what is added to it."""
        found = self.before(address)
        if found is None or found[1] >= 1 << 24:
            return "no symbol near"
        name, distance = found
        return f"{name}+{distance:#x}" if distance else name


def read_names(memory: Memory, kernel: Kernel) -> Names:
    """Read the symbols of the kernel in a capture.

    Raises
    ------
    SymbolsError
        If they are not there any more.
    StoreError
    """
    kallsyms = read_sources(memory, kernel).kallsyms
    return Names(kallsyms.symbols(kallsyms.relative_base))
