"""What the tests of rewinds ask of a guest and a case; every answer comes from outside of the code under test."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from waiting import until

from workbench.case import Case, Clone
from workbench.demo import DemoGuest, Supervisor
from workbench.errors import GuestError
from workbench.guest.connection import Guest
from workbench.guest.leftovers import find_leftovers
from workbench.guest.memory import MemoryBlock, read_memory_map
from workbench.guest.reader import MemoryReader, open_reader
from workbench.model import PAGE, CaptureRecord, RegionKind
from workbench.store import RegionView


def content(record: CaptureRecord) -> dict[str, str]:
    """The digests of everything that a guest remembers: memory it can write, and disks."""
    return {each.spec.name: each.digest for each in record.regions if each.spec.kind is not RegionKind.STATE}


def differing_pages(case: Case, record: CaptureRecord, guest: Guest) -> dict[str, int]:
    """How many pages of each block of a paused guest are not what the capture holds, read past the workbench's maps."""
    memory = read_memory_map(guest)
    blocks = {block.name: block for block in memory.blocks}
    found = {}
    with contextlib.closing(open_reader(guest, memory)) as reader:
        for region in record.regions:
            name = region.spec.name
            if region.spec.kind is not RegionKind.MEMORY:
                continue
            if name not in blocks:
                found[name] = -1
                continue
            found[name] = _differing(case.store.view(record.id).region(name), reader, blocks[name])
    return found


def _differing(region: RegionView, reader: MemoryReader, block: MemoryBlock) -> int:
    count, step = 0, 16384 * PAGE
    for start in range(0, block.size, step):
        length = min(step, block.size - start)
        real = np.empty(length, np.uint8)
        reader.read_into(np.array([[block.hva + start, block.hva + start + length]]), real)
        wanted = region.read_blocks(np.arange(start // PAGE, -(-(start + length) // PAGE))).reshape(-1)[:length]
        wrong = np.flatnonzero(real.view(np.uint64) != wanted.view(np.uint64)) // (PAGE // 8)
        count += len(np.unique(wrong))
    return count


@contextlib.contextmanager
def held(guest: DemoGuest) -> Iterator[None]:
    """Have somebody else pause the guest."""
    guest.domain.suspend()
    try:
        yield
    finally:
        guest.domain.resume()


def ours_in(case: Case, guest: DemoGuest) -> list[str]:
    """What of ours is in the guest's QEMU, bitmaps of an open recording apart."""
    found = find_leftovers(case.hypervisor.guest(guest.name).monitor)
    return [each for each in found if not each.startswith("bitmap ")]


def assert_disk_sound(case: Case, record: CaptureRecord, region: str, place: Path) -> None:
    """A captured file system must be in order once its journal is replayed, as at any power cut."""
    image = place / f"{region.replace(':', '-')}-{record.id[:8]}.raw"
    case.store.view(record.id).region(region).write_sparse(image)
    try:
        subprocess.run(["e2fsck", "-p", "-E", "journal_only", image], capture_output=True, check=False)
        seen = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
        assert seen.returncode == 0, seen.stdout + seen.stderr
    finally:
        image.unlink()


def assert_healthy(guest: DemoGuest | Supervisor) -> None:
    """The guest answers, its disks take and give back data, its kernel complained of nothing."""
    if isinstance(guest, Supervisor):
        guest.wait_ready(60)
    else:
        guest.reconnect(60)
    health = guest.health()
    assert health.ok, health.problems
    assert not [each for each in health.warnings if "lockup" in each or "EXT4" in each], health.warnings


def supervisor_of(clone: Clone, guest: DemoGuest) -> Supervisor:
    """The supervisor in a clone, on the clone's own socket."""
    return Supervisor(clone.socket(Path(guest.supervisor.path).name))


def rebooted(inside: Supervisor) -> None:
    """Reboot a clone from inside, and wait until it is up again."""
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = inside.run(boot).stdout
    inside.run("sync; reboot")

    def again() -> bool:
        with contextlib.suppress(GuestError):
            inside.wait_ready(5)
            told = inside.run(boot, timeout=2)
            return told.rc == 0 and told.stdout not in ("", before)
        return False

    until(again, "the clone boots again")
