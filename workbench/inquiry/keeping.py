"""Where what an analysis keeps goes: into the case, or beside the user's other caches where the case cannot be written.

Refuses to make anything: whoever keeps something makes the directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

from workbench.store.opening import user_cache

__all__ = ["NAMED", "cache_of", "user_cache"]

NAMED = "WORKBENCH_CACHE"


def cache_of(case: Path) -> Path:
    """Return the directory that a case's cache is in: `cache/` in the case where that can be written.

    `WORKBENCH_CACHE` names another: an empty place has everything asked anew.

    A case on a read-only medium, or of another user, is analysed all the same: its answers go under the user's own
    cache directory, by a digest of the case's path.
    """
    if named := os.environ.get(NAMED):
        return Path(named).absolute()
    place = case.absolute()
    own = place / "cache"
    if os.access(own if own.is_dir() else place, os.W_OK | os.X_OK):
        return own
    return user_cache() / "cases" / blake3(os.fsencode(place)).hexdigest(16)
