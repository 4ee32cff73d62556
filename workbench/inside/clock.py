"""A guest's own clock, as it says.

Refuses to wait long: a guest that does not answer at once has no clock for us.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from workbench.errors import WorkbenchError
from workbench.guest.connection import Guest
from workbench.inside.run import run_in

__all__ = ["clock"]

_LATEST = 253_402_300_799  # the end of the year 9999


def clock(guest: Guest) -> str | None:
    """Return the guest's clock in ISO format (UTC); None if it does not say, or says what is no time."""
    try:
        said = run_in(guest, "date +%s", timeout=5, max_output=64).stdout.strip()
    except WorkbenchError:
        return None
    if not re.fullmatch(rb"\d{1,12}", said) or int(said) > _LATEST:
        return None
    return datetime.fromtimestamp(int(said), UTC).isoformat()
