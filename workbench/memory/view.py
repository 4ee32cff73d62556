"""`moment.memory`: bytes, strings and address spaces of one moment.

Refuses to pad: what is not mapped or not in memory is an error or is said, never zeros.
"""

from __future__ import annotations

from workbench.memory.analysis import Analyst

__all__ = ["MemoryView"]


class MemoryView:
    """The memory of one moment.

    Parameters
    ----------
    analyst : Analyst
    capture : str
    """

    def __init__(self, analyst: Analyst, capture: str) -> None:
        self._analyst = analyst
        self._capture = capture
