"""Make `case-v1`, a small case of the first format, and the digests of what it holds.

Run from the repository with the version that first wrote format 1; later versions must open what it made, so the
fixture is not made anew:

    python tests/data/make_case_v1.py tests/data
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from blake3 import blake3

from workbench.model import CaptureMode, GuestId, Mark, RegionKind, RegionSpec
from workbench.store import CaseStore

GUEST = GuestId("3f2b8c1a-7d4e-4f60-9a51-c0ffee000001")
RAM = RegionSpec("pc.ram", RegionKind.MEMORY, 64 * 4096, 4096)
VRAM = RegionSpec("vga.vram", RegionKind.MEMORY, 3 * 4096, 4096)
DISK = RegionSpec("disk:vda", RegionKind.DISK, 4 * 65536 + 512, 65536)
STATE = RegionSpec("state:devices", RegionKind.STATE, 0, 4096)
TIME_NS = 1_750_000_000_000_000_000


def make(directory: Path) -> None:
    """Write the case and `case-v1.json`."""
    store = CaseStore.create(directory / "case-v1")
    store.add_guest(GUEST, "first")
    rng = np.random.default_rng(20240501)
    expected: dict[str, dict[str, str]] = {}
    with store.writer(GUEST) as writer:
        for number in range(12):
            if number == 9:  # a fork, as a rewind makes it
                writer.move_to(store.captures(GUEST)[4].id)
            regions = [RAM, DISK, STATE, *([VRAM] if number % 4 else [])]
            with writer.begin(regions, branch=int(number >= 9)) as transaction:
                pages = np.sort(rng.choice(RAM.blocks, 40 if number == 0 else 5, replace=False))
                content = writer.head(RAM.name)[pages].copy()
                content[:, :64] = rng.integers(0, 256, (len(pages), 64), dtype=np.uint8)
                transaction.put(RAM.name, pages, content)
                clusters = np.array([number % 4, 4])
                transaction.put(DISK.name, clusters, np.full((2, 65536), number, np.uint8))
                transaction.put_stream(STATE.name, b"devices of %d " % number * (number * 100))
                record = transaction.commit(
                    time_ns=TIME_NS + number * 2_000_000_000,
                    mode=CaptureMode.BASELINE if number == 0 else CaptureMode.CONTINUOUS,
                    reason=f"capture {number}: naïve",
                    facts={"pause_ns": number, "nested": {"list": [1, 2.5, None, True, "ü"]}},
                )
            view = store.view(record.id)
            expected[record.id] = {
                region.spec.name: blake3(region.read(0, region.spec.length)).hexdigest() for region in view.regions
            }
        store.add_mark(Mark("seen", GUEST, TIME_NS + 5, None, "note", "a note"))
        store.add_mark(Mark("alert", GUEST, TIME_NS + 7_000_000_000, record.id, "alert"))
    (directory / "case-v1.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
