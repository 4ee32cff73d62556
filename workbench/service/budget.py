"""A budget for all guests together: processor time and bytes written, and how it is shared when it does not suffice.

Terms. A *use* is what one capture took. A *token bucket* of each resource fills by what the budget grants and is
emptied by uses, so that a burst (a comparing pass, an alert) is let through and only what lasts is held back. A *share*
is what a guest gets of a resource that does not suffice, by max-min fairness: all get as much as each other, but none
more than it needs, and what it leaves goes to the others. A guest whose share is less than it needs has its interval
stretched.

Pure: no clock, no guest. Refuses to hold back captures that somebody asked for; they are counted all the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.service.turns import phases

__all__ = ["Allotment", "Budget", "BudgetState", "Use", "shares"]

STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Intervals are stretched by one of these: steps are a hysteresis of their own, and turns of few intervals can be laid
apart."""
_WINDOW_S = 60.0
"""Seconds of the budget that a bucket holds, and over which consumption is told."""
_CALM_S = 60.0
"""Seconds without an excess after which an interval is let go by one step."""
_EASE = 0.8
"""Part of the budget that what is let go may need."""
_REMEMBERED = 8
"""Captures of a guest over which its need is averaged."""
_NAMES = {"cpu": "cores", "bandwidth": "bytes/s"}


@dataclass(frozen=True, slots=True)
class Use:
    """What a capture took.

    Attributes
    ----------
    cpu : float
        Processor time of its recorder, s.
    bandwidth : float
        Bytes written to the store.
    """

    cpu: float
    bandwidth: float

    def of(self, resource: str) -> float:
        """Return what it took of a resource, "cpu" or "bandwidth"."""
        return max(0.0, self.cpu if resource == "cpu" else self.bandwidth)


@dataclass(frozen=True, slots=True)
class Allotment:
    """What a guest may do.

    Attributes
    ----------
    stretch : float
        By how much its interval is stretched, one of `STEPS`.
    why : str
        Which part of the budget does not suffice; empty where it does.
    phase : float
        Where in its interval its turn is, s: ticks fall due at multiples of the interval and this.
    """

    stretch: float = 1.0
    why: str = ""
    phase: float = 0.0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The budget as status tells it.

    Attributes
    ----------
    cpu, bandwidth : float or None
        What all captures may take together: cores, and bytes per second; None for no limit.
    cpu_used, bandwidth_used : float
        What they took over the last minute.
    stretched : int
        Guests whose interval is stretched by it.
    """

    cpu: float | None
    bandwidth: float | None
    cpu_used: float
    bandwidth_used: float
    stretched: int


def shares(needs: Mapping[str, float], capacity: float) -> dict[str, float]:
    """Return each one's share of a capacity by max-min fairness.

    By progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): whoever needs less than an equal part of what
    is left gets what it needs; the last ones share the rest equally.
    """
    found: dict[str, float] = {}
    left = max(0.0, capacity)
    for number, (name, need) in enumerate(sorted(needs.items(), key=lambda each: (each[1], each[0]))):
        found[name] = min(need, left / (len(needs) - number))
        left -= found[name]
    return found


@dataclass(slots=True)
class _Bucket:
    """Tokens of one resource; may be in debt, by as much as it holds."""

    rate: float
    tokens: float
    at: float

    @property
    def size(self) -> float:
        return self.rate * _WINDOW_S

    def take(self, amount: float, now: float) -> bool:
        """Take tokens; tells whether there were enough."""
        self.tokens = min(self.size, self.tokens + max(0.0, now - self.at) * self.rate)
        self.tokens = max(-self.size, self.tokens - amount)
        self.at = now
        return self.tokens >= 0


@dataclass(slots=True)
class _Guest:
    """What is known of one guest's captures."""

    asked: float
    uses: deque[Use] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    stretch: float = 1.0
    why: str = ""
    changed: float = float("-inf")

    def cost(self, resource: str) -> float:
        """Return what one capture takes, on average."""
        return sum(use.of(resource) for use in self.uses) / len(self.uses) if self.uses else 0.0


class Budget:
    """Shares a budget among guests; from any thread.

    Parameters
    ----------
    cpu : float or None
        Cores that captures of all guests may take together.
    bandwidth : float or None
        Bytes per second that they may write.
    """

    def __init__(self, cpu: float | None = None, bandwidth: float | None = None) -> None:
        self._limits = {"cpu": cpu, "bandwidth": bandwidth}
        self._buckets: dict[str, _Bucket] = {}
        self._guests: dict[str, _Guest] = {}
        self._taken: deque[tuple[float, str, Use, bool]] = deque()
        self._short = dict.fromkeys(self._limits, float("-inf"))  # when the bucket was last empty
        self._phases: tuple[dict[str, float], dict[str, float]] = {}, {}
        self._lock = threading.Lock()

    def after(
        self, guest: str, asked: float, use: Use, now: float, *, turn: bool = True, whole: bool = False
    ) -> Allotment:
        """Take note of a capture and return what its guest may do from now on.

        Parameters
        ----------
        asked : float
            The interval asked for, s.
        now : float
            Seconds, of any steady clock.
        turn : bool
            Whether the clock asked for the capture, and not somebody.
        whole : bool
            Whether it compared everything: it is paid for, and no measure of those that follow.
        """
        with self._lock:
            known = self._guests.get(guest)
            if known is None or known.asked != asked:
                known = self._guests[guest] = _Guest(asked)
            if not whole:
                known.uses.append(use)
            self._pay(guest, use, now, turn)
            self._judge(now)
            return self._allotment(guest)

    def leave(self, guest: str) -> None:
        """Take note that a guest is not recorded any more: its share is for the others."""
        with self._lock:
            self._guests.pop(guest, None)

    def state(self, now: float) -> BudgetState:
        """Return how much of the budget is used."""
        with self._lock:
            self._forget(now)
            used = {name: sum(use.of(name) for _, _, use, _ in self._taken) / _WINDOW_S for name in self._limits}
            stretched = sum(each.stretch > 1 for each in self._guests.values())
            limits = self._limits
            return BudgetState(limits["cpu"], limits["bandwidth"], used["cpu"], used["bandwidth"], stretched)

    def _allotment(self, guest: str) -> Allotment:
        known = self._guests[guest]
        intervals = {name: each.asked * each.stretch for name, each in self._guests.items()}
        if intervals != self._phases[0]:
            self._phases = intervals, phases(intervals)
        return Allotment(known.stretch, known.why, self._phases[1][guest])

    def _pay(self, guest: str, use: Use, now: float, turn: bool) -> None:
        self._taken.append((now, guest, use, turn))
        self._forget(now)
        for name, limit in self._limits.items():
            if limit is not None:
                bucket = self._buckets.setdefault(name, _Bucket(limit, limit * _WINDOW_S, now))
                if not bucket.take(use.of(name), now):
                    self._short[name] = now

    def _forget(self, now: float) -> None:
        while self._taken and now - self._taken[0][0] > _WINDOW_S:
            self._taken.popleft()

    def _judge(self, now: float) -> None:
        """Stretch what needs more than its share of a resource that ran out, and let go what fits again."""
        for name, known in self._guests.items():
            wanted, why = self._wanted(name, 1.0, short_at=now)
            if wanted > known.stretch:
                known.stretch, known.why, known.changed = wanted, why, now
            elif known.stretch > 1 and now - max(known.changed, *self._short.values()) >= _CALM_S:
                self._let_go(name, known, now)

    def _let_go(self, name: str, known: _Guest, now: float) -> None:
        """Let go by one step, where even then a part of the budget is left."""
        lower = STEPS[STEPS.index(known.stretch) - 1]
        if self._wanted(name, _EASE)[0] <= lower or self._fits(name, lower):
            known.stretch, known.changed = lower, now
            known.why = known.why if lower > 1 else ""

    def _wanted(self, guest: str, part: float, short_at: float | None = None) -> tuple[float, str]:
        """Return the stretch with which a guest keeps to its shares, and why; of resources short now, or of all."""
        wanted, why = 1.0, ""
        for resource, limit in self._limits.items():
            if limit is None or (short_at is not None and self._short[resource] != short_at):
                continue
            needs = {name: each.cost(resource) / each.asked for name, each in self._guests.items()}
            step = _step(needs[guest], shares(needs, part * limit - self._unasked(resource))[guest])
            if step > wanted:
                wanted, why = step, f"the budget of {limit:g} {_NAMES[resource]} does not suffice"
        return wanted, why

    def _fits(self, guest: str, stretch: float) -> bool:
        """Tell whether all guests fit into the budget as they are held, with another stretch of one of them.

        What captures cost at long intervals overstates what they would at the one asked for, as more was written in
        between: by that alone an interval would never be let go. One step further the error is small, and a step that
        was wrong is taken back when the bucket is empty again.
        """
        for resource, limit in self._limits.items():
            held = sum(
                each.cost(resource) / (each.asked * (stretch if name == guest else each.stretch))
                for name, each in self._guests.items()
            )
            if limit is not None and held + self._unasked(resource) > _EASE * limit:
                return False
        return True

    def _unasked(self, resource: str) -> float:
        """Return what captures took over the last minute that the clock did not ask for, per second."""
        return sum(use.of(resource) for _, _, use, turn in self._taken if not turn) / _WINDOW_S


def _step(need: float, share: float) -> float:
    """Return the smallest step with which a share suffices, or the largest of all."""
    return next((each for each in STEPS if each * share >= need * 0.999), STEPS[-1])
