"""Pointers to code: whether one leads where it must, and words for where it leads instead.

Refuses to accept the middle of a function, where hooks that keep part of it jump to.
"""

from __future__ import annotations

import re

from workbench.errors import AnalysisError, UnreadableError
from workbench.memory.detect.findings import Finding, as_hex
from workbench.memory.detect.module_views import list_modules, memory_view, module_name
from workbench.memory.detect.reading import Reader

__all__ = ["Pointers"]


class Pointers:
    """What code there is in a capture.

    Parameters
    ----------
    reader : Reader

    Attributes
    ----------
    reader : Reader
    names : Names
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.names = reader.names
        first, last = (self.names.get(name) for name in ("_stext", "_etext"))
        if first is None or last is None or not first < last:
            raise AnalysisError("the kernel does not say where its text is", missing="_stext, _etext")
        self._text = range(first, last)
        self._modules: list[tuple[range, str]] | None = None

    def words(self, address: int, count: int) -> list[int]:
        """Return `count` words from an address on.

        Raises
        ------
        UnreadableError
        """
        content = self.reader.read(address, 8 * count)
        return [int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content), 8)]

    def in_text(self, target: int) -> bool:
        """Tell whether it is in the kernel's text."""
        return target in self._text

    def wrong(self, target: int, kind: re.Pattern[str] | None, words: str) -> str:
        """Say what is wrong with a pointer that must be to the beginning of a function; empty where nothing is.

        Parameters
        ----------
        target : int
        kind : Pattern, optional
            What one of the function's names must match whole.
        words : str
            The kind in words.
        """
        if target not in self._text:
            return f"expected {words} in the kernel's text, found an address {self.where(target)}"
        names = self.names.at(target)
        if not names:
            return f"expected the beginning of {words}, found the middle of one: {self.names.told(target)}"
        if kind is not None and not any(kind.fullmatch(name) for name in names):
            return f"expected {words}, found another function: {names[0]}"
        return ""

    def module(self, target: int) -> str | None:
        """Return the name of the module that an address is in; None where it is in none that is known."""
        if self._modules is None:
            self._modules = _module_spans(self.reader)
        return next((name for span, name in self._modules if target in span), None)

    def where(self, target: int) -> str:
        """Return in words what lies at an address outside of the kernel's text."""
        name = self.module(target)
        if name is not None:
            return f"in the module {name}"
        first, last = self.reader.must("_text"), self.reader.must("_end")
        if first <= target < last:
            return f"in the kernel's image but not its text ({self.names.told(target)})"
        return "in no known module" if self.reader.physical(target) is not None else "that is not mapped"

    def finding(self, kind: str, subject: str, place: int, target: int, wrong: str) -> Finding:
        """Return the finding about an entry at `place` that points to `target`."""
        evidence = f"entry at {as_hex(place)} points to {as_hex(target)}; text {as_hex(self._text.start)}"
        return Finding(kind, subject, wrong, f"{evidence} to {as_hex(self._text.stop)}", target)


def _module_spans(reader: Reader) -> list[tuple[range, str]]:
    """Return where the modules' code and data are, hidden modules included, as far as they can be read."""
    found = []
    for module in sorted(list_modules(reader).found | memory_view(reader).found if reader.symbol("modules") else ()):
        try:
            name = module_name(reader, module)
            found += [(span, name) for span in _spans(reader, module)]
        except UnreadableError:
            continue  # only the words for an address get poorer
    return found


def _spans(reader: Reader, module: int) -> list[range]:
    if reader.has("module", "core_layout"):
        kind, places = "module_layout", [reader.offset("module", "core_layout")]
    elif reader.has("module", "mem"):
        kind, first = "module_memory", reader.offset("module", "mem")
        parts = min(reader.choice("mod_mem_type", "MOD_MEM_NUM_TYPES"), 16)
        places = [first + number * reader.size(kind) for number in range(parts)]
    else:
        return []
    bases = [(reader.member(module + at, kind, "base"), reader.member(module + at, kind, "size", 4)) for at in places]
    return [range(base, base + size) for base, size in bases if size]
