"""Which ancestors of a capture are kept, and which of them its delta stands on; no file is touched.

Captures are added ancestors first. Refuses to guess: an ancestor that is neither kept nor known to be gone ends the
line.
"""

from __future__ import annotations

from collections.abc import Mapping

from workbench.model import CaptureId, CaptureRecord
from workbench.store.maps import level

__all__ = ["Lineage"]


class Lineage:
    """The kept captures of a guest and how they descend.

    Parameters
    ----------
    gone : mapping of CaptureId to (CaptureId or None)
        The parents of captures that are not kept.

    Attributes
    ----------
    parent, base : dict
        Per kept capture its nearest kept ancestor, and the one that its delta is to stand on; None where there is none.
    """

    def __init__(self, gone: Mapping[CaptureId, CaptureId | None]) -> None:
        self._gone = gone
        self._above: dict[CaptureId, CaptureId | None] = {}
        self._depth: dict[CaptureId, int] = {}
        self.parent: dict[CaptureId, CaptureId | None] = {}
        self.base: dict[CaptureId, CaptureId | None] = {}

    def add(self, record: CaptureRecord, base: CaptureId | None) -> bool:
        """Add a kept capture whose delta stands on `base` now; return whether it has to be re-based."""
        self._depth[record.id] = record.depth
        self.parent[record.id] = None if record.parent is None else self._kept(record.parent)
        stands = base in self.parent or (base is None and self.parent[record.id] is None)
        self.base[record.id] = base if stands else self._base(record)
        return not stands

    def _kept(self, capture: CaptureId) -> CaptureId | None:
        """Return the nearest kept capture from `capture` upward, and remember it for all that lie between."""
        between: dict[CaptureId, None] = {}
        here: CaptureId | None = capture
        while here is not None and here not in self.parent:
            if here in self._above or here in between:  # a stranger's tombstones may lead round
                here = self._above.get(here)
                break
            between[here] = None
            here = self._gone.get(here)
        self._above.update(dict.fromkeys(between, here))
        return here

    def _base(self, record: CaptureRecord) -> CaptureId | None:
        here = self.parent[record.id]
        while here is not None and level(self._depth[here]) <= level(record.depth):
            above = self.base[here]
            if above is None:
                break  # the topmost of the line
            here = above
        return here
