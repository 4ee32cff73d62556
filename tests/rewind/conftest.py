"""One guest for all tests of rewinds, cases to record it into, and `rewinding` beside it: what a test may ask."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec


@pytest.fixture
def workplace() -> Iterator[Path]:
    """A directory that QEMU's user can find its way through, unlike pytest's own."""
    place = Path(tempfile.mkdtemp(prefix="rew-test-"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def case(workplace: Path) -> Iterator[Case]:
    """An empty case."""
    with Case.create(workplace / "case") as made:
        yield made


@pytest.fixture(scope="session")
def rew_guest(demo_image: DemoImage) -> Iterator[DemoGuest]:
    """A guest with two disks, one of them raw, that every test leaves running and healthy."""
    spec = DemoSpec(f"rew-{os.getpid()}", memory_mib=256, extra_disks=1, extra_disk_format="raw", network=True)
    with DemoGuest.boot(spec, image=demo_image) as running:
        yield running


@pytest.fixture
def boot_rew(demo_image: DemoImage) -> Iterator[Callable[[DemoSpec], DemoGuest]]:
    """Give a function that boots a guest of its own; it ends with the test."""
    running: list[DemoGuest] = []

    def boot(spec: DemoSpec) -> DemoGuest:
        running.append(DemoGuest.boot(spec, image=demo_image))
        return running[-1]

    yield boot
    for each in running:
        each.close()
