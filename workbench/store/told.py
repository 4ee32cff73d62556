"""Errors that a service tells of, as ours again.

Refuses kinds that are none of ours, and to trust their length: the words are another machine's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from workbench import errors
from workbench.errors import DamagedError, MissingError, RewindError, StoreError, UsageError, WorkbenchError

__all__ = ["Words", "as_error"]

_GUEST_IS = re.compile(r" \(the guest is (as before|as asked|unknown)\)$")


class Words(str):
    """A fact that was put into words on the other side: shown as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def as_error(told: Mapping[str, Any], status: int = 500) -> WorkbenchError:
    """Return an error that a service tells of (kind, message, cure, facts) as one of ours, with its words."""
    message, cure = str(told.get("message", ""))[:2_000], str(told.get("cure", ""))[:2_000]
    facts = told.get("facts")
    named = {f"{name}": Words(str(value)[:300]) for name, value in facts.items()} if isinstance(facts, dict) else {}
    for taken in ("self", "message", "cure", "guest_is"):
        named.pop(taken, None)
    if not message:
        return StoreError("the service answers with an error", status=status, cure="See its log.")
    kind = _kind(str(told.get("kind", "")), status)
    if issubclass(kind, RewindError):
        guest_is: Any = found[1] if (found := _GUEST_IS.search(message)) else "unknown"
        return kind(_GUEST_IS.sub("", message), guest_is=guest_is, cure=cure, **named)
    return kind(message, cure=cure, **named)


def _kind(name: str, status: int) -> type[WorkbenchError]:
    found = getattr(errors, name, None) if name in errors.__all__ else None
    if isinstance(found, type) and issubclass(found, WorkbenchError):
        return found
    if status in (404, 416):
        return MissingError if status == 404 else DamagedError
    return UsageError if 400 <= status < 500 else StoreError
