"""The interval that is really held: stretched when captures come too late, room runs out, or the budget is used up.

For late captures it is doubled at most four times, and halved again after enough turns on time; for want of room it is
stretched whole and let go when a quarter more than the least is free; the budget says by how much itself
(`service.budget`). The longest of these holds. Refuses to stretch silently: `why` says each that does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Pace"]

_MOST = 16
_LATE_TURNS = 3
"""Turns in a row with skipped ticks after which the interval is doubled."""
_CALM_TURNS = 30
"""Turns in a row on time after which it is halved again."""
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a guest is captured, and why not as often as asked.

    Attributes
    ----------
    asked : float
        Seconds.
    stretch : int
        1, or by how much the interval is stretched for captures that take too long.
    short : str
        Why there is too little room; empty where there is enough.
    budget : float
        1, or by how much the budget stretches it.
    over : str
        What of the budget does not suffice; empty where it does.
    """

    asked: float
    stretch: int = 1
    short: str = ""
    budget: float = 1.0
    over: str = ""
    late: int = 0
    calm: int = 0

    @property
    def factor(self) -> float:
        """By how much the interval is stretched."""
        return max(self.stretch, self.budget, _MOST if self.short else 1)

    @property
    def seconds(self) -> float:
        """The interval that is held."""
        return min(_DAY_S, self.asked * self.factor)

    @property
    def why(self) -> str:
        """What it is stretched for, in words; empty while it is held."""
        late = "captures take longer than the interval" if self.stretch > 1 else ""
        return "; ".join(each for each in (self.short, late, self.over) if each)

    def after(self, *, skipped: int, free: int, least: int) -> Pace:
        """Return the pace after a turn.

        Parameters
        ----------
        skipped : int
            Ticks that were skipped because captures took too long.
        free, least : int
            Bytes free on the case's volume, and below which there is too little.
        """
        return (self._late() if skipped else self._on_time()).roomed(free, least)

    def roomed(self, free: int, least: int) -> Pace:
        """Return the pace with what is free now, between two turns too: a stretched one may be long."""
        enough = least + least // 4 if self.short else least
        return replace(self, short=f"only {free >> 20} MiB are free" if free < enough else "")

    def within(self, budget: float, over: str) -> Pace:
        """Return the pace with what the budget stretches it by, and why."""
        return replace(self, budget=budget, over=over)

    def _late(self) -> Pace:
        late = self.late + 1
        if late < _LATE_TURNS or self.stretch >= _MOST:
            return replace(self, late=late, calm=0)
        return replace(self, stretch=self.stretch * 2, late=0, calm=0)

    def _on_time(self) -> Pace:
        calm = self.calm + 1
        if self.stretch == 1 or calm < _CALM_TURNS:
            return replace(self, late=0, calm=calm)
        return replace(self, stretch=self.stretch // 2, late=0, calm=0)
