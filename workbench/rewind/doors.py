"""What the one door gives its Case of this room: the private segments of its clones.

Refuses to start anything: a segment comes up with its first clone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workbench.rewind.network_segment import Segment, segments

__all__ = ["SegmentsOfCase"]


class SegmentsOfCase:
    """Segments of a case."""

    path: Path

    def segment(self, name: str = "shared") -> Segment:
        """Return a segment by its name; its packets are there also when its clones are gone.

        Raises
        ------
        UsageError
            If it cannot be a name.
        """
        return Segment(self.path, name)

    def segments(self) -> Sequence[Segment]:
        """Return the segments that clones were on, by name."""
        return segments(self.path)
