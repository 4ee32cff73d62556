"""The interval that is really held: stretched when captures come too late or room runs out, and taken back.

Doubled at most four times; halved again after enough turns on time. Refuses to stretch silently: `why` says it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Pace"]

_MOST = 16
_LATE_TURNS = 3
"""Turns in a row with skipped ticks after which the interval is doubled."""
_CALM_TURNS = 30
"""Turns in a row on time after which it is halved again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a guest is captured, and why not as often as asked.

    Attributes
    ----------
    asked : float
        Seconds.
    stretch : int
        1, or by how much the interval is stretched.
    why : str
        In words; empty while it is held.
    """

    asked: float
    stretch: int = 1
    why: str = ""
    late: int = 0
    calm: int = 0

    @property
    def seconds(self) -> float:
        """The interval that is held."""
        return min(86_400.0, self.asked * self.stretch)

    def after(self, *, skipped: int, free: int, least: int) -> Pace:
        """Return the pace after a turn.

        Parameters
        ----------
        skipped : int
            Ticks that were skipped because captures took too long.
        free, least : int
            Bytes free on the case's volume, and below which there is too little.
        """
        if free < least:
            return replace(self, stretch=_MOST, why=f"only {free >> 20} MiB are free", late=0, calm=0)
        if skipped:
            late = self.late + 1
            if late < _LATE_TURNS or self.stretch >= _MOST:
                return replace(self, late=late, calm=0)
            return replace(self, stretch=self.stretch * 2, why="captures take longer than the interval", late=0, calm=0)
        calm = self.calm + 1
        if self.stretch == 1 or calm < _CALM_TURNS:
            return replace(self, late=0, calm=calm)
        stretch = self.stretch // 2
        return replace(self, stretch=stretch, why=self.why if stretch > 1 else "", late=0, calm=0)
