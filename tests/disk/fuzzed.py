"""Read a disk's file systems as far as they go and print how it ended: run by `test_hostile`, with limits.

`python -m tests.disk.fuzzed CASE SEED COUNT`: flips bytes in memory over the structures of the disk, COUNT times.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import time
from pathlib import Path

from workbench.disk.image import Slice
from workbench.disk.opening import open_filesystem
from workbench.disk.volumes import find_volumes
from workbench.errors import DiskError, UnsupportedError
from workbench.store import CaseStore

from .images import GUEST, Raw

SECONDS = 10
"""Of processor time, for one disk."""


def main(case: Path, seed: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    store = CaseStore.open(case)
    region = store.view(store.captures(GUEST)[0].id).region("disk:vda")
    raw = region.read(0, region.spec.length)
    spots = [int(block) * region.spec.block_size for block in region.nonzero()]
    made = random.Random(seed)
    for number in range(count):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        begun = time.process_time()
        disk = bytearray(raw)
        for _ in range(made.choice([1, 8, 64])):
            at = made.choice(
                [
                    made.randrange(4096),
                    made.choice(spots) + made.randrange(65536),
                    made.choice(spots) + made.randrange(2048),
                ]
            )
            disk[min(at, len(disk) - 1)] = made.choice([0, 0xFF, 0x7F, 0x80, made.randrange(256)])
        sys.stdout.write(f"end {number} {look(bytes(disk))} {time.process_time() - begun:.2f}\n")
        sys.stdout.flush()
    signal.setitimer(signal.ITIMER_PROF, 0)


def look(disk: bytes) -> str:
    """Walk, read, look for what was deleted and what is free; say how it ended."""
    try:
        volumes = find_volumes(Raw(disk), "vda")
        for volume in volumes:
            if volume.kind in ("empty", "unknown", "lvm") or not volume.pieces:
                continue
            system = open_filesystem(Slice(Raw(disk), volume.pieces))
            for number, entry in enumerate(system.walk()):
                if number < 200 and entry.kind == "file":
                    _read(system, entry.inode)
            for question in (system.deleted, system.unallocated):
                try:
                    for _ in question():
                        pass
                except (DiskError, UnsupportedError):
                    continue
            return "partial" if system.damage() else "whole"
    except (DiskError, UnsupportedError):
        return "refused"
    return "nothing"


def _read(system, inode: int) -> None:
    try:
        with system.open(inode) as file:
            for _ in range(64):
                if not file.read(1 << 16):
                    break
    except (DiskError, UnsupportedError):
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
