"""What a trigger says: something happened, when, and how it is called.

Refuses names and texts of any length: a guest may choose them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LONGEST_NAME", "LONGEST_REASON", "Event", "safe_name"]

LONGEST_NAME = 64
"""Characters of an event's name."""
LONGEST_REASON = 500
"""Characters of an event's reason."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def safe_name(text: str) -> str:
    """Return what may be the name of a mark: letters, digits, `.`, `_` and `-`, at most `LONGEST_NAME` of them."""
    return _NOT_IN_NAMES.sub("-", text[: 4 * LONGEST_NAME]).strip("-.")[:LONGEST_NAME] or "event"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that may be worth a capture.

    Attributes
    ----------
    source : str
        Who saw it: "guest", "qemu", "console", "threshold", "alert", "increment".
    name : str
        What it is called; events of one source and name share a gate. Made safe here.
    reason : str
        In words, for the capture; cut here.
    time_ns : int
        When it was seen, by the host's clock (UTC, ns since the epoch).
    facts : dict
        JSON values worth keeping.
    """

    source: str
    name: str
    reason: str
    time_ns: int
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", safe_name(self.name))
        object.__setattr__(self, "reason", self.reason[:LONGEST_REASON])

    @property
    def key(self) -> str:
        """Return what its gate is known by."""
        return f"{self.source}:{self.name}"
