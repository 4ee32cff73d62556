"""One recorded guest that writes files without a sync, and says what they hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from workbench.case import Case, Moment
from workbench.demo import DemoGuest, DemoImage, DemoSpec
from workbench.memory.owning.filesystems import read_super_blocks
from workbench.memory.owning.structpages import read_struct_pages
from workbench.memory.owning.structures import Moment as Kernel
from workbench.memory.symbols.cache import SymbolCache
from workbench.memory.volatility.opening import Opener
from workbench.memory.volatility.ownership import moment_of
from workbench.model import PAGE, CaptureMode

BEFORE = """
mount -o remount,commit=600 / && mount -o remount,commit=600 /mnt/data1 || exit 1
echo 60000 > /proc/sys/vm/dirty_expire_centisecs; echo 60000 > /proc/sys/vm/dirty_writeback_centisecs
mkdir -p /srv
printf 'first line\\nsecond line\\n' > /srv/appended
yes 0123456789 | head -c 20000 > /srv/overwritten
echo gone > /srv/gone; echo moved > /srv/from; echo kept > /srv/kept
cp /srv/overwritten /mnt/data1/overwritten
sync; sleep 1; sync
"""
"""The guest's own writing back, after 5 and 30 seconds, is put off: a loaded host takes that long for a capture."""
WRITES = """
echo 'third line' >> /srv/appended
printf CHANGED | dd of=/srv/overwritten bs=1 seek=8190 conv=notrunc 2>/dev/null
echo 'only in memory' > /srv/new
mkdir /srv/folder; yes abc | head -c 9000 > /srv/folder/deep
rm /srv/gone; mv /srv/from /srv/to
printf CHANGED | dd of=/mnt/data1/overwritten bs=1 seek=8190 conv=notrunc 2>/dev/null
sha256sum /srv/appended /srv/overwritten /srv/new /srv/folder/deep /srv/to /mnt/data1/overwritten
"""


@dataclass(frozen=True, slots=True)
class Unsynced:
    """A case with the moments "synced", "written" (nothing of it on the disk yet) and "settled" (after a sync).

    Attributes
    ----------
    case : Case
    sha256 : dict of str to str
        What the guest says of its files, by path, at "written".
    """

    case: Case
    sha256: dict[str, str]


def record(image: DemoImage, place: Path) -> Unsynced:
    """Boot a guest with two disks, let it write, and capture before, at once after, and after a sync."""
    case = Case.create(place / "case")
    spec = DemoSpec(f"instant-{os.getpid()}", memory_mib=256, extra_disks=1)
    with DemoGuest.boot(spec, image=image) as guest, case.record(guest.name) as recording:
        assert guest.supervisor.run(BEFORE).rc == 0
        recording.capture("all is on the disks", mark="synced")
        told = guest.supervisor.run(WRITES).stdout
        recording.capture("nothing is on the disks", mark="written")
        guest.supervisor.run("sync; sleep 1; sync")
        recording.capture("all is on the disks again", mark="settled")
    pairs = [line.split() for line in told.splitlines()]
    return Unsynced(case, {path: digest for digest, path in pairs})


@pytest.fixture(scope="session")
def unsynced(demo_image: DemoImage) -> Iterator[Unsynced]:
    """The recorded case; read only: make a copy of what is to be changed."""
    place = Path(tempfile.mkdtemp(prefix="instant-test-"))
    place.chmod(0o711)
    made = record(demo_image, place)
    yield made
    made.case.close()
    shutil.rmtree(place, ignore_errors=True)


@dataclass
class Lying:
    """A copy of the case that takes captures like "written" with bytes of memory changed."""

    case: Case
    kernel: Kernel

    def word(self, address: int, value: int) -> dict[int, bytes]:
        """Return the change of a 64-bit word at a virtual address of the kernel."""
        place = int(self.kernel.virtual.locate(np.array([address % (1 << 64)], np.uint64))[0])
        assert place >= 0
        return {place: value.to_bytes(8, "little")}

    def inode(self, number: int) -> int:
        """Return the virtual address of an inode of the first disk that has pages in memory."""
        offset, words = self.kernel.structures.offset, self.kernel.virtual.words
        mapping = np.unique(read_struct_pages(self.kernel, self.kernel.frames.numbers).mapping)
        hosts = words(mapping + np.uint64(offset("address_space", "host")))
        numbers = words(hosts + np.uint64(offset("inode", "i_ino")))
        systems = {each.address for each in read_super_blocks(self.kernel)[0] if each.device == "vda"}
        blocks = words(hosts + np.uint64(offset("inode", "i_sb"))).tolist()
        return next(
            int(host)
            for host, found, block in zip(hosts.tolist(), numbers.tolist(), blocks, strict=True)
            if found == number and block in systems
        )

    def plant(self, changes: dict[int, bytes]) -> Moment:
        """Commit a capture with bytes at physical addresses changed."""
        base = self.case.moment("written")
        view = self.case.store.view(base.id)
        memory = self.kernel.frames.memory
        with self.case.store.writer(base.record.guest) as writer:
            writer.move_to(base.id)
            with writer.begin([region.spec for region in base.record.regions]) as transaction:
                for address, content in changes.items():
                    place = memory.place(address)
                    assert place is not None
                    page = view.region(place.region).read_blocks(np.array([place.page]))
                    page[0, address % PAGE : address % PAGE + len(content)] = np.frombuffer(content, np.uint8)
                    transaction.put(place.region, np.array([place.page]), page)
                made = transaction.commit(
                    time_ns=base.record.time_ns + 1, mode=CaptureMode(base.record.mode), reason="planted", facts={}
                )
        return self.case.moment(made.id)


@pytest.fixture(scope="session")
def lying(unsynced: Unsynced, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lying]:
    place = tmp_path_factory.mktemp("lying")
    shutil.copytree(unsynced.case.path, place / "case")
    opener = Opener(place / "kernels", SymbolCache(place / "symbols"))
    with Case(place / "case") as case:
        view = case.store.view(case.moment("written").id)
        yield Lying(case, moment_of(opener.open(view), view))
    opener.close()
