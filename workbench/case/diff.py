"""What differs between two moments: regions, blocks, and by its rooms files, processes and pages.

Refuses to say more than both captures hold.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.case.moment import Moment
from workbench.disk.doors import DiskOfDiff
from workbench.errors import UsageError
from workbench.instant.doors import InstantOfDiff
from workbench.memory.doors import MemoryOfDiff
from workbench.model import CaptureRef, Mark

__all__ = ["Diff"]


class Diff(InstantOfDiff, MemoryOfDiff, DiskOfDiff):
    """What differs between two moments."""

    def __init__(self, a: Moment, b: Moment) -> None:
        self.a = a
        self.b = b
        self._changes = a.case.store.diff(a.id, b.id)

    def summary(self) -> pd.DataFrame:
        """Return one row per region of either moment: region, kind, blocks (changed, int64), bytes (int64)."""
        specs = {each.spec.name: each.spec for moment in (self.a, self.b) for each in moment.record.regions}
        rows = []
        for name, spec in specs.items():
            count = len(self._changes.get(name, ()))
            rows.append((name, str(spec.kind), count, count * spec.block_size))
        return pd.DataFrame(rows, columns=["region", "kind", "blocks", "bytes"])

    def blocks(self, region: str | None = None) -> pd.DataFrame:
        """Return the changed clusters of all disks with whose they are, or the changed blocks of one region.

        Returns
        -------
        DataFrame
            disk, offset, length (int64, bytes), kind ("written", "zeroed" ...), volume, path, path_before, area (str);
            of one region: block (int64), offset (int64, bytes), bytes (int64).
        """
        if region is None:
            return self.disk_blocks()
        specs = {each.spec.name: each.spec for moment in (self.a, self.b) for each in moment.record.regions}
        if region not in specs:
            raise UsageError(f"no region {region!r} in either capture", regions=sorted(specs))
        spec = specs[region]
        indices = self._changes.get(region, np.zeros(0, np.int64))
        offsets = indices * spec.block_size
        lengths = np.minimum(spec.length - offsets, spec.block_size)
        return pd.DataFrame({"block": indices, "offset": offsets, "bytes": lengths})

    def _captures(self) -> list[CaptureRef]:
        refs = self.a.case.store.captures(self.b.record.guest)
        return [ref for ref in refs if self.a.record.time_ns <= ref.time_ns <= self.b.record.time_ns]

    def _marks(self) -> list[Mark]:
        first, last = self.a.record.time_ns, self.b.record.time_ns
        return [each for each in self.a.case.store.marks(self.b.record.guest) if first <= each.time_ns <= last]

    def __repr__(self) -> str:
        return f"<Diff {self.a.id[:12]} -> {self.b.id[:12]}>"
