"""One stream of progress events from long work to whoever prints.

Nobody below a front end prints. Work takes a `Progress` callable, calls it with small frozen events, and never asks
what becomes of them. An event is information, not control: a printer must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "ProgressEvent", "silent"]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of one piece of work.

    Attributes
    ----------
    task : str
        What is being done, as a user would say it ("baseline of demo").
    done, total : int
        Units done and units to do; `total` is 0 while it is not known.
    unit : str
        "bytes", "pages", "captures" or a word for a step.
    note : str
        A line worth showing once (a fallback taken, a warning).
    """

    task: str
    done: int = 0
    total: int = 0
    unit: str = "bytes"
    note: str = ""


Progress = Callable[[ProgressEvent], None]


def silent(event: ProgressEvent) -> None:
    """Take an event and do nothing with it."""
