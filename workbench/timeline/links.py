"""A lasting link to a moment: `wb://CASE/CAPTURE`, the case's UUID and the capture's whole id.

It names content (the id is a digest), not a place: it holds wherever the case is copied or moved to, and in whatever
guest of it. Refuses to find the case: whoever follows a link has it open.
"""

from __future__ import annotations

import re

from workbench.errors import UsageError
from workbench.model import CaptureId

__all__ = ["link_to", "linked"]

_LINK = re.compile(r"wb://([0-9a-f-]{36})/([0-9a-f]{64})")
_BEGINS = "wb://"


def link_to(case: str, capture: CaptureId) -> str:
    """Return the link to a capture of the case with this UUID."""
    return f"{_BEGINS}{case}/{capture}"


def linked(text: str, case: str) -> CaptureId | None:
    """Return the capture that a link names, or None where the text is no link.

    Raises
    ------
    UsageError
        If it is a broken link, or one into another case.
    """
    asked = text.strip()
    if not asked.startswith(_BEGINS):
        return None
    parts = _LINK.fullmatch(asked)
    if parts is None:
        raise UsageError(f"'{asked[:120]}' is no whole link", cure="Copy it again: wb://CASE/CAPTURE.")
    if parts[1] != case:
        raise UsageError("this link is of another case", link=parts[1], open=case, cure="Open that case.")
    return CaptureId(parts[2])
