"""Gates: one event in a burst is worth a capture, and not every burst is.

An event passes at once (waiting for quiet would cost the moment), unless one of its kind passed or was folded less than
`debounce` ago, one of its kind passed less than `cool_down` ago, or the budget of the last hour is spent. What is
held back is counted, never silently dropped. Refuses to remember more kinds than `_MOST_KINDS`: a guest chooses names.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

from workbench.capture.triggers.event import Event
from workbench.errors import UsageError

__all__ = ["Gate", "GateRules", "Verdict"]

_MOST_KINDS = 1024
_HOUR = 3_600 * 10**9


@dataclass(frozen=True, slots=True)
class GateRules:
    """How often events may ask for a capture.

    Attributes
    ----------
    debounce_s : float
        Events of one kind nearer to each other than this are one.
    cool_down_s : float
        After a capture for one kind, none for that kind for so long.
    budget_per_hour : int
        Captures for all kinds together in any hour.
    """

    debounce_s: float = 2.0
    cool_down_s: float = 30.0
    budget_per_hour: int = 120

    def __post_init__(self) -> None:
        for name in ("debounce_s", "cool_down_s"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise UsageError(f"{name} must lie between 0 and a day", found=getattr(self, name))
        if not 0 <= self.budget_per_hour <= 100_000:
            raise UsageError("budget_per_hour must lie between 0 and 100,000", found=self.budget_per_hour)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of an event.

    Attributes
    ----------
    passes : bool
    why : {"", "debounce", "cool-down", "budget"}
        What held it back.
    folded : int
        Events of its kind that were held back since the last one that passed.
    """

    passes: bool
    why: Literal["", "debounce", "cool-down", "budget"] = ""
    folded: int = 0


@dataclass(slots=True)
class _Kind:
    seen_ns: int
    passed_ns: int | None = None
    folded: int = 0


class Gate:
    """Decides on events in the order in which they come; not for several threads at once.

    Parameters
    ----------
    rules : GateRules
    """

    def __init__(self, rules: GateRules) -> None:
        self.rules = rules
        self.held_back: dict[str, int] = {"debounce": 0, "cool-down": 0, "budget": 0}
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()
        self._passed: deque[int] = deque()

    def decide(self, event: Event, now_ns: int) -> Verdict:
        """Return whether `event` is worth a capture.

        Parameters
        ----------
        now_ns : int
            A clock that never goes back (ns), not the event's own time, which may be anybody's.
        """
        known = self._kinds.pop(event.key, None)
        kind = known or _Kind(now_ns)
        self._kinds[event.key] = kind
        if len(self._kinds) > _MOST_KINDS:
            self._kinds.popitem(last=False)
        why = self._why_not(kind, known is None, now_ns)
        kind.seen_ns = now_ns
        if why:
            kind.folded += 1
            self.held_back[why] += 1
            return Verdict(False, why, kind.folded)
        folded, kind.folded, kind.passed_ns = kind.folded, 0, now_ns
        self._passed.append(now_ns)
        return Verdict(True, "", folded)

    def _why_not(self, kind: _Kind, is_new: bool, now_ns: int) -> Literal["", "debounce", "cool-down", "budget"]:
        while self._passed and self._passed[0] <= now_ns - _HOUR:
            self._passed.popleft()
        if not is_new and now_ns - kind.seen_ns < self.rules.debounce_s * 1e9:
            return "debounce"
        if kind.passed_ns is not None and now_ns - kind.passed_ns < self.rules.cool_down_s * 1e9:
            return "cool-down"
        return "budget" if len(self._passed) >= self.rules.budget_per_hour else ""
