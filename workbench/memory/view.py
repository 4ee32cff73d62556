"""`moment.memory`: bytes, strings and address spaces of one moment.

Refuses to pad: what is not mapped or not in memory is an error or is said, never zeros.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import UnreadableError
from workbench.inquiry.analysis import Analyst

__all__ = ["MemoryView", "ProcessView"]


class _Readable:
    """Something that questions of bytes and strings can be put to."""

    def __init__(self, analyst: Analyst, capture: str, **whose: Any) -> None:
        self._analyst = analyst
        self._capture = capture
        self._whose = whose

    def _ask(self, question: str, **arguments: Any) -> pd.DataFrame:
        return self._analyst.ask(self._capture, question, {**self._whose, **arguments}).told()

    def _read(self, address: int, length: int, **arguments: Any) -> bytes:
        row = self._ask("workbench.read", address=address, length=length, **arguments).iloc[0]
        if row["missing"]:
            raise UnreadableError(
                "part of it is not mapped, or not in memory",
                address=hex(address),
                length=length,
                missing=int(row["missing"]),
                holes=str(row["holes"]),
            )
        return bytes(row["data"])

    def read(self, address: int, length: int) -> bytes:
        """Return bytes of virtual memory.

        Raises
        ------
        UnreadableError
            If part of it is not mapped, or was not in memory; says which.
        AnalysisError, StoreError
        """
        return self._read(address, length)

    def strings(self, minimum: int = 6, *, containing: str | None = None, most: int = 1_000_000) -> pd.DataFrame:
        """Return runs of printable characters, ASCII and UTF-16LE.

        Parameters
        ----------
        minimum : int
            Characters that a run must have.
        containing : str, optional
            Only runs with this text in them.
        most : int
            Rows at most; `attrs["error"]` says so where there are more.

        Returns
        -------
        DataFrame
            address (UInt64), encoding, text (string); of all memory also region (string) and offset (int64 there).
        """
        return self._ask("workbench.strings", minimum=minimum, containing=containing, most=most)


class ProcessView(_Readable):
    """The address space of one process."""

    def maps(self) -> pd.DataFrame:
        """Return its mappings: start, end (UInt64), protection, offset, path, present, missing (Int64, bytes)."""
        return self._ask("workbench.process_maps")

    def dump(self, directory: Path | str) -> pd.DataFrame:
        """Write its memory as an ELF core file into a directory.

        Returns
        -------
        DataFrame
            One row: name, path, sha256 (string), size, segments, present, missing (Int64, bytes).
        """
        return self._ask("workbench.process_dump", directory=str(Path(directory).absolute()))


class MemoryView(_Readable):
    """The memory of one moment; addresses are the kernel's unless a method says otherwise."""

    def physical(self, address: int, length: int) -> bytes:
        """Return bytes of guest-physical memory.

        Raises
        ------
        UnreadableError
            If the guest has no memory in part of it.
        """
        return self._read(address, length, physical=True)

    def process(self, pid: int) -> ProcessView:
        """Return the address space of a process; asked for when it is read."""
        return ProcessView(self._analyst, self._capture, pid=pid)
