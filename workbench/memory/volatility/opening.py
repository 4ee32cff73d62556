"""From a capture to a sight of it: the kernel found, or still where it was; its symbols made, or at hand.

Kernels found are noted in the case, so that the next worker tries them before it searches. A note is a claim like any
other: it counts only where the banner and the page tables are as it says. Refuses to keep two captures open at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from workbench.errors import SymbolsError
from workbench.memory.physical import PhysicalMemory
from workbench.memory.symbols.cache import SymbolCache, symbols_for
from workbench.memory.symbols.kernel import Kernel, find_kernel, still_there
from workbench.memory.volatility.context import Table, open_table
from workbench.memory.volatility.sight import Sight
from workbench.store import CaptureView

__all__ = ["Opener"]

_MOST_NOTES = 64
_LONGEST_NOTE = 1 << 16


@contextlib.contextmanager
def _collector_resting() -> Iterator[None]:
    """Hold the cycle collector back while a table's objects come into being: it would walk them over and over."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Opener:
    """Opens captures of one case, one after the other.

    Parameters
    ----------
    notes : Path
        Directory for kernels that were found.
    cache : SymbolCache
    isf : Path, optional
        A symbol table to use instead of one made from memory.
    """

    def __init__(self, notes: Path, cache: SymbolCache, isf: Path | None = None) -> None:
        self._notes = notes
        self._cache = cache
        self._isf = isf
        self._kernel: Kernel | None = None
        self._table: Table | None = None
        self._sight: Sight | None = None

    def open(self, view: CaptureView) -> Sight:
        """Return the sight of a capture; the one before is closed unless it is the same.

        Raises
        ------
        SymbolsError, AnalysisError
            If there is no kernel that can be understood.
        StoreError
        """
        capture = view.record.id
        if self._sight is not None and self._sight.capture == capture:
            return self._sight
        self.close()
        memory = PhysicalMemory.of_capture(view)
        kernel = self._find(memory)
        with _collector_resting():
            table = self._open_table(memory, kernel)
            self._kernel, self._table = kernel, table
            self._sight = Sight(capture, memory, kernel, table)
        return self._sight

    def close(self) -> None:
        """Let go of the capture that is open."""
        if self._sight is not None:
            self._sight.close()
            self._sight = None

    def _find(self, memory: PhysicalMemory) -> Kernel:
        known = [self._kernel] if self._kernel is not None else self._read_notes()
        for kernel in known:
            if still_there(memory, kernel):
                return kernel
        kernel = find_kernel(memory)
        self._note(kernel)
        return kernel

    def _open_table(self, memory: PhysicalMemory, kernel: Kernel) -> Table:
        known, before = self._table, self._kernel
        if known is not None and before is not None and (before.build, before.levels) == (kernel.build, kernel.levels):
            return known
        table = open_table(self._isf or symbols_for(memory, kernel, self._cache), kernel.levels)
        gc.freeze()  # half a million objects that stay: no collection need look at them again
        return table

    def _read_notes(self) -> list[Kernel]:
        found = []
        for path in sorted(self._notes.glob("*.json"))[:_MOST_NOTES]:
            with contextlib.suppress(SymbolsError, OSError, ValueError), path.open() as file:
                found.append(Kernel.from_json(file.read(_LONGEST_NOTE)))
        return found

    def _note(self, kernel: Kernel) -> None:
        """Write a kernel down; that it cannot be written only costs the next worker a search."""
        text = kernel.to_json()
        with contextlib.suppress(OSError):
            self._notes.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, temporary = tempfile.mkstemp(dir=self._notes, prefix=".new-")
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            os.replace(temporary, self._notes / f"{blake3(text.encode()).hexdigest(16)}.json")
