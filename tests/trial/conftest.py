"""One guest for all trials, and a case with its moments; `trying` beside it: what a test may ask of the guest."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workbench.case import Case
from workbench.demo import DemoGuest, DemoImage, DemoSpec


@pytest.fixture(scope="session")
def tried(demo_image: DemoImage) -> Iterator[DemoGuest]:
    """A guest with an agent, that every test leaves running and healthy."""
    spec = DemoSpec(f"trial-{os.getpid()}", memory_mib=128, agent=True)
    with DemoGuest.boot(spec, image=demo_image) as running:
        yield running


@pytest.fixture(scope="module")
def case_of_all(tried: DemoGuest) -> Iterator[Case]:
    """A case with the moment "then" of the guest, for all tests of a module."""
    with tempfile.TemporaryDirectory(prefix="rew-test-") as name:
        Path(name).chmod(0o711)
        with Case.create(Path(name) / "case") as made:
            tried.run("echo then >/root/when; rm -f /root/planted; sync")
            with made.record(tried.name) as recording:
                recording.capture("then", mark="then")
            yield made


@pytest.fixture
def case(case_of_all: Case, tried: DemoGuest) -> Case:
    """That case, whose guest has been told something else since, and has none of a trial before."""
    tried.reconnect()
    tried.run("echo now >/root/when; rm -f /root/planted /root/busy; sync")
    return case_of_all
