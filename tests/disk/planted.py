"""Cases with one disk of known content, without a guest and without a file system: what `export` and `nbd` need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.model import CLUSTER, CaptureId, CaptureMode, GuestId, RegionKind, RegionSpec
from workbench.store import CaptureView, CaseStore, RegionView

GUEST = GuestId("6d0c1f5e-52d4-4a3b-9c0e-0123456789ab")
DISK = "disk:vda"
MEMORY = RegionSpec("pc.ram", RegionKind.MEMORY, 1 << 20, 4096)


@dataclass(frozen=True, slots=True)
class Planted:
    """A case with one capture, and what its disk holds: clusters by index, all others zeros."""

    path: Path
    capture: CaptureId
    length: int
    clusters: dict[int, bytes]

    def view(self) -> CaptureView:
        return CaseStore.open(self.path).view(self.capture)

    def disk(self) -> RegionView:
        return self.view().region(DISK)

    def read(self, offset: int, length: int) -> bytes:
        """The truth, cluster by cluster."""
        length = max(0, min(length, self.length - offset))
        first, last = offset // CLUSTER, -(-(offset + length) // CLUSTER)
        whole = b"".join(self.clusters.get(at, bytes(CLUSTER)) for at in range(first, last))
        return whole[offset % CLUSTER :][:length]

    def damage(self) -> None:
        """Flip a bit in the middle of every pack: some frame there is no longer what its digest says."""
        for pack in self.path.glob("packs/*/*.pack"):
            data = bytearray(pack.read_bytes())
            data[len(data) // 2] ^= 1
            pack.chmod(0o644)
            pack.write_bytes(data)


def plant(path: Path, length: int, indices: list[int], seed: int = 7) -> Planted:
    """Make a case whose disk has random content in these clusters; bytes past its length stay zero."""
    chance = np.random.default_rng(seed)
    blocks = chance.integers(0, 256, (len(indices), CLUSTER), np.uint8)
    for row, index in enumerate(indices):
        blocks[row, max(0, length - index * CLUSTER) :] = 0
    spec = RegionSpec(DISK, RegionKind.DISK, length, CLUSTER)
    store = CaseStore.create(path)
    store.add_guest(GUEST, "synthetic")
    with store.writer(GUEST) as writer, writer.begin([spec, MEMORY]) as transaction:
        if indices:
            transaction.put(DISK, np.array(indices, np.int64), blocks)
        record = transaction.commit(time_ns=10**9, mode=CaptureMode.MANUAL, reason="planted", facts={})
    return Planted(path, record.id, length, {at: row.tobytes() for at, row in zip(indices, blocks, strict=True)})
